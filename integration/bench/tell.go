//go:build linux

package main

import (
	"errors"
	"io"
	"os"
)

// tell prints the tables and writes the files that were asked for.
func (o *options) tell(r *report, out io.Writer) error {
	if len(r.Rows) == 0 {
		return nil
	}
	write := r.writeText
	if o.markdown {
		write = r.writeMarkdown
	}
	return errors.Join(write(out), r.writeVersus(out), toFile(o.json, r.writeJSON), toFile(o.svg, r.writeChart))
}

// retell tells a report that was kept.
func (o *options) retell(out io.Writer) error {
	f, err := os.Open(o.from)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := readReport(f)
	if err != nil {
		return err
	}
	return o.tell(r, out)
}

// toFile makes a file of what write writes; without a name, none.
func toFile(name string, write func(io.Writer) error) error {
	if name == "" {
		return nil
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}
