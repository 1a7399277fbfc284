package director

import (
	"fmt"
	"net/netip"
	"time"

	"tapdirector/director/flow"
	"tapdirector/director/persist"
)

// Connections calls fn for every connection with the time until it ends, until fn returns false. fn gets copies and may take its
// time; connections that come or go meanwhile may be passed or not.
func (d *Director) Connections(fn func(c *flow.Conn, expires time.Duration) bool) {
	d.table.Each(d.clock(), fn)
}

// Template is a persistence template: connections of these clients to the service go to the server.
type Template struct {
	Service     string
	Clients     netip.Prefix
	Server      netip.AddrPort // port 0: the one that the client asks for
	Assured     bool
	Connections int           // that hold it
	Expires     time.Duration // until it ends, or, held, gets a minute more
}

// Templates calls fn for every persistence template until fn returns false.
func (d *Director) Templates(fn func(Template) bool) {
	d.templates.Each(d.clock(), func(t persist.Template) bool {
		servers := d.view.Load().servers
		if int(t.Server) >= len(servers) || servers[t.Server] == nil {
			return true // It ended, and its server is forgotten.
		}
		srv := servers[t.Server]
		s := srv.service
		bits := s.persistence.bits[1]
		if t.Key.Client.Is4() {
			bits = s.persistence.bits[0]
		}
		return fn(Template{
			Service: s.name, Clients: netip.PrefixFrom(t.Key.Client.Netip(), bits), Server: srv.name,
			Assured: t.Assured, Connections: t.Holds, Expires: t.Expires,
		})
	})
}

// SetWeight changes a server's weight from now on, 0 to 65535; 0 drains it. It holds until the next reload, which takes the
// file's. The service is named as in the config. What is not known, or a
// weight out of range, is an error and changes nothing.
func (d *Director) SetWeight(service string, server netip.AddrPort, weight int) error {
	if weight < 0 || weight > 65535 {
		return fmt.Errorf("weight %d: not 0 to 65535", weight)
	}
	d.reloading.mu.Lock()
	defer d.reloading.mu.Unlock()
	for _, s := range d.view.Load().ordered {
		if s.name != service {
			continue
		}
		for _, srv := range s.servers {
			if srv.name == server {
				srv.Weight.Store(int32(weight))
				s.scheduler.Update()
				d.judgeHopsLocked(d.clock())
				return nil
			}
		}
		return fmt.Errorf("service %q has no server %v", service, server)
	}
	return fmt.Errorf("no service %q", service)
}
