// Package conf turns an lb.toml into a Config: complete, checked and with defaults filled in, or into the list of everything that is
// wrong with it.
//
// A file goes through four stages, one file of this package each:
//
//	1  TOML              a generic tree of tables           parse.go
//	2  raw to typed      section by section, key by key     read.go, with section.go and value.go
//	3  resolve           interfaces, next hops, defaults    resolve.go
//	   that depend on other parts of the file
//	4  cross checks      what two parts say of each other   check.go, checkservice.go
//
// No stage stops at its first mistake. A mistake leaves the zero value behind, and later stages keep silent about zero values, so that one
// slip is one line; when an address of an interface or a route could not be read, nothing is called unreachable. Only a file that is no
// TOML at all ends early, because after a syntax error nothing can be told for sure.
//
// Strict means that what is not understood is refused: an unknown key, a number in quotes, an IPv4 address in IPv6 clothes. What the file
// leaves out has a default, and reference.toml, which is part of the program, names every one.
//
// conf knows nothing of devices: whether a TAP exists, its MTU and the kernel's MAC are found out when it is opened.
package conf

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/BurntSushi/toml"
)

// maxFile bounds what is read, for the one who passes a device by mistake: some 200 000 servers.
const maxFile = 16 << 20 // bytes

// Parse reads a configuration; name is how its messages call it ("lb.toml"). What is wrong with the file comes back as Errors, a failure
// to read as the reader's error.
func Parse(r io.Reader, name string) (*Config, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		if file := (*fs.PathError)(nil); errors.As(err, &file) {
			err = file.Err // else the name is said twice
		}
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	d := draft{mistakes: &mistakes{file: name}, c: &Config{}}
	if tree, ok := d.decode(text); ok {
		d.read(tree)
		d.resolve()
		d.check()
	}
	if err := d.err(); err != nil {
		return nil, err
	}
	return d.c, nil
}

// Load parses the file at path. What is wrong in the file comes back as Errors, a failure to open or read it as the system's error.
func Load(path string) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return Parse(f, path)
}

// draft is a Config in the making, with what the file said and a Config does not keep.
type draft struct {
	*mistakes
	c *Config

	owners  []string // for each service its interface = as written; empty: by prefix
	forward []*bool  // for each interface its forward = as written; nil: by services
	vague   bool     // an address of an interface or a route was unreadable: reachability is not judged
}

// oneLine is for messages of the TOML parser, which quote what they found, line ends included.
var oneLine = strings.NewReplacer("\n", `\n`, "\r", `\r`)

// decode is stage 1.
func (m *mistakes) decode(text []byte) (map[string]any, bool) {
	if len(text) > maxFile {
		m.add(place{}, "more than %d MiB: not a configuration", maxFile>>20)
		return nil, false
	}
	tree := map[string]any{}
	_, err := toml.Decode(string(text), &tree)
	var syntax toml.ParseError
	switch {
	case errors.As(err, &syntax):
		m.add(place{text: fmt.Sprintf("line %d", syntax.Position.Line)}, "%s", oneLine.Replace(syntax.Message))
	case err != nil:
		m.add(place{}, "%v", err)
	}
	return tree, err == nil
}
