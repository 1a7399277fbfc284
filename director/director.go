// Package director is the path of a frame.
package director

import (
	"context"
	"log/slog"

	"tapdirector/conf"
	"tapdirector/tap"
)

// Options are what a director is made of.
type Options struct {
	Config  *conf.Config
	Devices []*tap.Device // one for each Config.Interfaces, in that order; the director does not close them
	Log     *slog.Logger
}

// Director is a load balancer on a set of devices.
type Director struct{}

// New builds a director; nothing runs yet.
func New(o Options) (*Director, error) { return &Director{}, nil }

// Run forwards until ctx is cancelled (then nil) or something breaks that no retry mends.
func (d *Director) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// Counter is one named number; Labels as "key=value" pairs say whose it is.
type Counter struct {
	Name   string
	Labels []string
	Value  uint64
}

// Counters returns every counter in a stable order.
func (d *Director) Counters() []Counter { return nil }
