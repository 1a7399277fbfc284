package conf

import (
	"cmp"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"
)

// What is different between two configurations: of a file that is read again, in words.

// Difference is what Diff found. Each line names a key by where it is in the file.
type Difference struct {
	Changes []string // what may change at run time: `service "web": server 10.77.2.13:8000 added`
	Restart []string // what may not: `interface "ext": mtu`
}

// fixedLimits are those of [limits] that are sizes of tables.
var fixedLimits = []string{"Connections", "Fragments", "Templates"}

// loose are the fields of an interface that may change at run time.
var loose = []string{"Forward", "Masquerade", "Reply"}

// Diff compares a configuration in force with the one to come.
func Diff(old, new *Config) Difference {
	var d Difference
	d.interfaces(old, new)
	d.routes(old, new)
	d.services(old, new)
	for _, f := range fields(reflect.ValueOf(old.Limits), reflect.ValueOf(new.Limits)) {
		if slices.Contains(fixedLimits, f.name) {
			d.restart("[limits] %s", f.key())
			continue
		}
		d.change("[limits] %s", f)
	}
	for _, f := range fields(reflect.ValueOf(old.Timeouts), reflect.ValueOf(new.Timeouts)) {
		d.change("[timeouts] %s", f)
	}
	return d
}

func (d *Difference) change(format string, args ...any) {
	d.Changes = append(d.Changes, fmt.Sprintf(format, args...))
}

func (d *Difference) restart(format string, args ...any) {
	d.Restart = append(d.Restart, fmt.Sprintf(format, args...))
}

// maxSummary bounds what is said of changes in one line.
const maxSummary = 12

// Summary is the changes in one line, cut off when there are many.
func (d *Difference) Summary() string {
	if len(d.Changes) == 0 {
		return "nothing"
	}
	text := strings.Join(d.Changes[:min(len(d.Changes), maxSummary)], "; ")
	if more := len(d.Changes) - maxSummary; more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return text
}

// interfaces compares them by name; their order counts as well, because it decides on the owner of a VIP.
func (d *Difference) interfaces(old, new *Config) {
	names := func(c *Config) (names []string) {
		for i := range c.Interfaces {
			names = append(names, c.Interfaces[i].Name)
		}
		return names
	}
	was, is := names(old), names(new)
	added, removed := without(is, was), without(was, is)
	for _, name := range added {
		d.restart("interface %q: added", name)
	}
	for _, name := range removed {
		d.restart("interface %q: removed", name)
	}
	if len(added)+len(removed) == 0 && !slices.Equal(was, is) {
		d.restart("the order of interfaces")
	}
	for i := range new.Interfaces {
		at := slices.Index(was, is[i])
		if at < 0 {
			continue
		}
		for _, f := range fields(reflect.ValueOf(old.Interfaces[at]), reflect.ValueOf(new.Interfaces[i])) {
			if slices.Contains(loose, f.name) {
				d.change("interface %q: %s", is[i], f)
				continue
			}
			d.restart("interface %q: %s", is[i], f.key())
		}
	}
}

// without returns what is in a and not in b, in a's order.
func without[T comparable](a, b []T) (rest []T) {
	set := make(map[T]bool, len(b))
	for _, x := range b {
		set[x] = true
	}
	for _, x := range a {
		if !set[x] {
			rest = append(rest, x)
		}
	}
	return rest
}

// routes compares them by where they lead.
func (d *Difference) routes(old, new *Config) {
	vias := func(c *Config) map[netip.Prefix]netip.Addr {
		m := map[netip.Prefix]netip.Addr{}
		for _, r := range c.Routes {
			m[r.To] = r.Via
		}
		return m
	}
	was, is := vias(old), vias(new)
	for _, r := range new.Routes {
		via, there := was[r.To]
		switch {
		case !there:
			d.change("route to %v added", r.To)
		case via != r.Via:
			d.change("route to %v: via %v -> %v", r.To, via, r.Via)
		}
	}
	for _, r := range old.Routes {
		if _, there := is[r.To]; !there {
			d.change("route to %v removed", r.To)
		}
	}
}

// services compares them as Match matches them.
func (d *Difference) services(old, new *Config) {
	match := Match(old.Services, new.Services)
	stays := make([]bool, len(old.Services))
	for i, at := range match {
		v := &new.Services[i]
		if at < 0 {
			d.change("service %q added, %s", v.Name, counted(len(v.Servers), "server"))
			continue
		}
		stays[at] = true
		d.service(&old.Services[at], v)
	}
	for i := range old.Services {
		if !stays[i] {
			d.change("service %q removed", old.Services[i].Name)
		}
	}
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// service compares one with what it was.
func (d *Difference) service(was, is *Service) {
	if reflect.DeepEqual(was, is) {
		return
	}
	at := fmt.Sprintf("service %q", was.Name)
	for _, f := range fields(reflect.ValueOf(*was), reflect.ValueOf(*is)) {
		if f.name != "Servers" && f.name != "QUICIDLength" { // of quic_id the servers tell
			d.change("%s: %s", at, f)
		}
	}
	servers := make(map[netip.AddrPort]*Server, len(was.Servers))
	for i := range was.Servers {
		servers[was.Servers[i].Address] = &was.Servers[i]
	}
	for i := range is.Servers {
		s := &is.Servers[i]
		old := servers[s.Address]
		delete(servers, s.Address)
		if old == nil {
			d.change("%s: server %v added", at, s.Address)
			continue
		}
		for _, f := range fields(reflect.ValueOf(*old), reflect.ValueOf(*s)) {
			d.change("%s: server %v: %s", at, s.Address, f)
		}
	}
	for i := range was.Servers {
		if a := was.Servers[i].Address; servers[a] != nil {
			d.change("%s: server %v removed", at, a)
		}
	}
}

// field is one that two values of a struct differ in.
type field struct {
	name     string // in Go
	was, now reflect.Value
}

// fields returns the fields in which two structs differ. What follows from other keys (Iface) is left out.
func fields(was, now reflect.Value) (differ []field) {
	for i := range was.NumField() {
		f := field{was.Type().Field(i).Name, was.Field(i), now.Field(i)}
		if was.Type().Field(i).Anonymous {
			differ = append(differ, fields(f.was, f.now)...)
			continue
		}
		if f.name == "Iface" || same(f.was, f.now) {
			continue
		}
		differ = append(differ, f)
	}
	return differ
}

// same reports whether two values mean the same.
func same(a, b reflect.Value) bool {
	if a.Kind() == reflect.Slice && a.Len() == 0 && b.Len() == 0 {
		return true
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}

// odd are the keys that are not spelled as the field is.
var odd = map[string]string{"TCPFin": "tcpfin", "TCPSynAck": "tcp_synack", "PMTUDisc": "pmtu_disc", "MSSClamp": "mss_clamp", "MHTableSize": "mh_table_size",
	"UThreshold": "u_threshold", "LThreshold": "l_threshold", "QUICID": "quic_id", "Via": "next hop"}

// key is the field as the file names it.
func (f field) key() string {
	if k, ok := odd[f.name]; ok {
		return k
	}
	var b strings.Builder
	runes := []rune(f.name)
	for i, r := range runes {
		if begins := i > 0 && unicode.IsUpper(r) && (!unicode.IsUpper(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])); begins {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// String is "key old -> new", or the key alone where values are lists or long.
func (f field) String() string {
	was, now := plain(f.was), plain(f.now)
	if was == "" || now == "" {
		return f.key() + " changed"
	}
	return fmt.Sprintf("%s %s -> %s", f.key(), was, now)
}

// plain writes a value as the file would, empty where that is not one word.
func plain(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case time.Duration:
		return x.String()
	case [6]byte:
		return orNone(x)
	case netip.Addr:
		return x.String()
	case string:
		return cmp.Or(x, "none")
	case int, bool:
		return fmt.Sprint(x)
	}
	return ""
}
