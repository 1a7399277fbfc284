package conf

import "io"

// Table writes what the director would do with c, for people.
func Table(w io.Writer, c *Config) error { return nil }
