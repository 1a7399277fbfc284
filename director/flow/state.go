package flow

// State is a connection's state.
type State uint8
