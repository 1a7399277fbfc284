package cli

import (
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"tapdirector/conf"
	"tapdirector/tap"
)

// addLogFlags gives root, and all commands below it, the flags of the log.
func addLogFlags(root *cobra.Command) {
	flags := root.PersistentFlags()
	addChoice(root, flags, "log-format", "how log lines look", "text", "json")
	addChoice(root, flags, "log-level", "the least important lines to log", "info", "debug", "warn", "error")
}

// logger returns the log that the flags ask for. It goes to stderr.
func logger(cmd *cobra.Command) *slog.Logger {
	return newLogger(cmd.ErrOrStderr(), choiceOf(cmd, "log-format"), choiceOf(cmd, "log-level"))
}

// newLogger returns a log to w; format is "text" or "json", level one of slog's names, info if it is none.
func newLogger(w io.Writer, format, level string) *slog.Logger {
	var least slog.Level
	if least.UnmarshalText([]byte(level)) != nil {
		least = slog.LevelInfo
	}
	o := &slog.HandlerOptions{Level: least}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// logStart logs one line for every interface and every service: what was made of the configuration.
func logStart(log *slog.Logger, c *conf.Config, devices []*tap.Device) {
	for i := range c.Interfaces {
		logInterface(log, &c.Interfaces[i], devices[i])
	}
	for i := range c.Services {
		s := &c.Services[i]
		log.Info("service", "service", s.Name, "listen", joinAll(s.Listen), "protocol", s.Protocol, "method", s.Method,
			"scheduler", s.Scheduler, "servers", len(s.Servers), "interface", joinAll(c.Owners(s)))
	}
}

// logInterface logs what an interface came to be: much of it is the kernel's choice and not in the configuration.
func logInterface(log *slog.Logger, i *conf.Interface, d *tap.Device) {
	attrs := []any{"interface", i.Name, "tap", d.Name, "driver", d.Driver, "queues", len(d.Queues), "mtu", d.MTU,
		"mac", macString(i.MAC), "addresses", joinAll(i.Addresses), "offload", offloads(d),
		"created", d.Created}
	if i.VLAN != 0 {
		attrs = append(attrs, "vlan", i.VLAN)
	}
	if d.Bridge != "" {
		attrs = append(attrs, "bridge", d.Bridge)
	}
	log.Info("interface", attrs...)
}

// offloads lists which unfinished frames the device carries; "none" also where it has no virtio header.
func offloads(d *tap.Device) string {
	var names []string
	for _, o := range []struct {
		name string
		on   bool
	}{{"csum", d.Offload.Csum}, {"tso4", d.Offload.TSO4}, {"tso6", d.Offload.TSO6}, {"uso", d.Offload.USO}} {
		if o.on {
			names = append(names, o.name)
		}
	}
	if len(names) == 0 || !d.VnetHdr {
		return "none"
	}
	return strings.Join(names, ",")
}

// joinAll writes things with commas.
func joinAll[T any](all []T) string {
	words := make([]string, len(all))
	for i, p := range all {
		words[i] = fmt.Sprint(p)
	}
	return strings.Join(words, ",")
}
