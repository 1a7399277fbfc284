package conf

import _ "embed"

// Reference is an annotated lb.toml with every key: the manual, and valid.
//
//go:embed reference.toml
var Reference string
