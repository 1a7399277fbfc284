package conf

import (
	"net/netip"
	"slices"
	"time"
)

// The keys that say how long, and for whom, a server that was picked stays picked. Each is refused where it would mean nothing.

// picksUp are the schedulers that give a client the same server without remembering it.
var picksUp = []string{"sh", "dh", "mh"}

// readState reads the service's keys.
func readState(s *section, v *Service) {
	v.PersistenceTimeout = s.optional("persistence_timeout")
	v.PersistencePrefix4 = s.whole("persistence_prefix4", span{32, 1, 32})
	v.PersistencePrefix6 = s.whole("persistence_prefix6", span{128, 1, 128})
	v.ExpireQuiescentTemplate = s.on("expire_quiescent_template")
	v.OnePacket = s.on("one_packet")
	v.Pickup = s.on("pickup")
	v.Idle = s.word("idle", idles)
	v.OnServerRemoved = s.word("on_server_removed", removals)
	if v.PersistenceTimeout == 0 && !s.has("persistence_timeout") {
		for _, o := range []struct {
			key string
			set bool
		}{{"persistence_prefix4", v.PersistencePrefix4 != 32}, {"persistence_prefix6", v.PersistencePrefix6 != 128},
			{"expire_quiescent_template", v.ExpireQuiescentTemplate}} {
			if o.set {
				s.add("%s: only with persistence_timeout", o.key)
			}
		}
	}
	if !understood(s, "protocol", v.Protocol) {
		return
	}
	switch {
	case v.OnePacket && v.Method == "fullnat":
		s.add("one_packet: not with fullnat: only a connection has a port of ours for the answer")
	case v.Pickup && v.Method == "fullnat":
		s.add("pickup: not with fullnat: the server knows the connection by a port of ours that is forgotten")
	case v.OnePacket && v.Protocol != "udp":
		s.add("one_packet: only for udp: %s needs a connection", v.Protocol)
	case v.Pickup && v.Protocol == "udp":
		s.add("pickup: only for tcp and sctp: every packet of %s that belongs to no connection begins one", v.Protocol)
	case v.Pickup && understood(s, "scheduler", v.Scheduler) && !slices.Contains(picksUp, v.Scheduler):
		s.add("pickup: scheduler %q does not give a client the same server again: only sh, dh, mh", v.Scheduler)
	}
	if v.Idle == "reset" && v.Protocol != "tcp" {
		s.add("idle %q: only for tcp, not for %s", v.Idle, v.Protocol)
	}
	switch {
	case v.OnServerRemoved == "reset" && v.Protocol != "tcp":
		s.add("on_server_removed %q: only for tcp: %s has no reset", v.OnServerRemoved, v.Protocol)
	case v.OnServerRemoved == "keep" && v.Protocol == "udp":
		s.add("on_server_removed %q: not for udp: its flows go on to another server", v.OnServerRemoved)
	}
}

// on returns a boolean that is false by default.
func (s *section) on(key string) bool {
	b := s.yes(key)
	return b != nil && *b
}

// optional returns a duration, 0 when the file says nothing.
func (s *section) optional(key string) time.Duration {
	if !s.has(key) {
		s.take(key)
		return 0
	}
	return s.duration(key, 0)
}

// readThresholds reads a server's.
func readThresholds(s *section, v *Server) {
	v.UThreshold = s.whole("u_threshold", span{0, 0, maxThreshold})
	v.LThreshold = s.whole("l_threshold", span{0, 0, maxThreshold})
	if v.LThreshold > v.UThreshold {
		s.add("l_threshold %d: above u_threshold, which is %d", v.LThreshold, v.UThreshold)
	}
}

// checkOnePacket: the answers of one-packet nat servers belong to no connection, so server, port and protocol alone must tell the VIP that they come
// from.
func (d *draft) checkOnePacket() {
	users := map[netip.Addr][]uint16{} // the ports of each server
	for i := range d.c.Services {
		v := &d.c.Services[i]
		if !v.OnePacket || v.Method != "nat" || len(v.Listen) == 0 {
			continue
		}
		for j := range v.Servers {
			s, at := &v.Servers[j], d.serviceAt(i).part("server", j)
			if !s.Address.IsValid() {
				continue
			}
			a := s.Address.Addr()
			if s.Address.Port() != 0 && v.port() == 0 {
				d.add(at, "address %q: one_packet with nat must see the client's port in the answer: leave the port out", s.Address)
			}
			same := func(port uint16) bool { return port == s.Address.Port() || port == 0 || s.Address.Port() == 0 }
			if slices.ContainsFunc(users[a], same) {
				d.add(at, "address %q: also of another service with one_packet and nat: its answers could come from either", s.Address)
			}
			users[a] = append(users[a], s.Address.Port())
		}
		if slices.ContainsFunc(v.Listen, func(l Listen) bool { return l.Addr != v.Listen[0].Addr }) {
			d.add(d.serviceAt(i), "listen: one_packet with nat takes one VIP: the answers could come from either")
		}
	}
}
