package director

import (
	"time"

	"tapdirector/director/flow"
	"tapdirector/stack"
)

// Dead servers
//
// A server whose next hop, itself or its gateway, was asked for in vain by ARP or ND cannot be reached, whatever else may be known of it: what is sent to it waits and is
// dropped. While another server of the service can take them, a dead one gets no new connections, persistence to it does not hold, and UDP flows
// leave it: their next datagram is scheduled anew. TCP connections stay, for they would not survive on another server and may where they are. When the next hop answers again all is
// as before. Where no server of the service lives it is as if all did: packets wait for the next hop, and ask for it.
//
// The resolver asks on and on (stack/neigh). Its word is copied to the servers' flags by the janitor, when something has turned: the path pays for it where it
// schedules, by a flag beside those that the scheduler reads anyway, and nowhere else.

// mortality is the janitor's knowledge of it, guarded by reloading.mu.
type mortality struct {
	turns   uint64        // of the resolver, that the flags know
	waiting bool          // flows stay with dead servers for want of others
	again   time.Duration // when to look again because of that

	moved *counter // UDP flows that left dead servers
}

// judgeHops brings the flags up to date if something has turned.
func (d *Director) judgeHops(now time.Duration) {
	m := &d.mortality
	if !d.reloading.mu.TryLock() {
		return
	}
	defer d.reloading.mu.Unlock()
	if d.neigh.Turns() != m.turns || m.waiting && now >= m.again {
		d.judgeHopsLocked(now)
	}
}

// judgeHopsLocked brings the flags up to date and moves UDP flows.
func (d *Director) judgeHopsLocked(now time.Duration) {
	m, v := &d.mortality, d.view.Load()
	m.turns, m.waiting, m.again = d.neigh.Turns(), false, now+time.Second
	var leave []bool // by number: dead, and another can take its flows
	for _, s := range v.ordered {
		dead := false
		for _, srv := range s.servers {
			is := d.neigh.Failed(srv.slot)
			srv.Dead.Store(is)
			dead = dead || is
		}
		switch {
		case !dead:
		case !s.lives():
			m.waiting = true
		default:
			leave = s.leaving(leave, len(v.servers))
		}
	}
	if leave == nil {
		return
	}
	if d.unused(time.Now().Add(settleTime)) != nil { // a worker may still make a flow of what it picked before: later
		m.waiting = true
		return
	}
	moved, _ := d.table.Sweep(flow.Sweep{Of: func(server uint32, proto uint8) bool {
		return proto == stack.ProtoUDP && server < uint32(len(leave)) && leave[server]
	}})
	m.moved.Add(uint64(moved))
}

// leaving marks the dead servers of s among n numbers.
func (s *service) leaving(leave []bool, n int) []bool {
	if leave == nil {
		leave = make([]bool, n)
	}
	for _, srv := range s.servers {
		leave[srv.id] = srv.Dead.Load()
	}
	return leave
}

// lives reports whether a server of s that is not dead can take connections.
func (s *service) lives() bool {
	for _, srv := range s.servers {
		if !srv.Dead.Load() && srv.Weight.Load() > 0 && !srv.Overload.Load() {
			return true
		}
	}
	return false
}

// deadFlag is the flag as a counter shows it.
func (s *server) deadFlag() uint64 {
	if s.Dead.Load() {
		return 1
	}
	return 0
}
