package conf

import (
	"errors"
	"io"
)

// Parse reads a configuration; name is how its messages call it ("lb.toml"). The error is Errors.
func Parse(r io.Reader, name string) (*Config, error) { return nil, errors.ErrUnsupported }

// Load parses the file at path. The error is Errors for what is wrong in the file, else that of opening it.
func Load(path string) (*Config, error) { return nil, errors.ErrUnsupported }
