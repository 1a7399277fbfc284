package cli

import (
	"errors"
	"log/slog"

	"tapdirector/conf"
	"tapdirector/director"
)

// A reload: the file is read again, as at the start, and what it says becomes what the director does (director/reload.go). A file with mistakes changes
// nothing, and neither does one that asks for what only a restart can do.

// reloader reads the file again and applies it.
type reloader struct {
	log   *slog.Logger
	path  string
	first *conf.Config // as the file was at the start
	used  *conf.Config // the same with the MACs that it runs with
	apply func(*conf.Config) error
}

// maxMistakes bounds what is logged of one file.
const maxMistakes = 100

// run is one reload.
func (r *reloader) run() {
	err := r.try()
	var mistakes conf.Errors
	var restart *director.RestartError
	switch {
	case err == nil: // The director says what has changed.
	case errors.As(err, &mistakes):
		for _, m := range mistakes[:min(len(mistakes), maxMistakes)] {
			r.log.Error("mistake in the configuration", "mistake", m.Error())
		}
		r.log.Error("reload refused, nothing was changed", "conf", r.path, "mistakes", len(mistakes))
	case errors.As(err, &restart):
		r.log.Error("reload refused, nothing was changed", "conf", r.path, "error", restart.Error())
	default:
		r.log.Error("reload failed, nothing was changed", "conf", r.path, "error", err.Error())
	}
}

func (r *reloader) try() error {
	c, err := conf.Load(r.path)
	if err != nil {
		return err
	}
	for i := range c.Interfaces {
		r.keepMAC(&c.Interfaces[i])
	}
	return r.apply(c)
}

// keepMAC gives an interface the MAC that it runs with, unless the file says another than it did: then the director says that this needs a restart.
func (r *reloader) keepMAC(i *conf.Interface) {
	for n := range r.first.Interfaces {
		if was := &r.first.Interfaces[n]; was.Name == i.Name && was.MAC == i.MAC {
			i.MAC = r.used.Interfaces[n].MAC
		}
	}
}
