package neigh

import (
	"net/netip"
	"testing"
	"time"

	"tapdirector/stack"
)

// Failed says that a pinned next hop was asked in vain, through all further questions, until it answers. Turns counts the changes.
func TestFailed(t *testing.T) {
	for _, tt := range families {
		t.Run(tt.name, func(t *testing.T) {
			l := newLAN(t, nil)
			s := l.Pin(0, tt.target, stack.MAC{})
			if l.Failed(s) || l.Failed(0) || l.Failed(1<<30) {
				t.Error("failed before it was asked")
			}
			l.pass(10 * time.Second)
			turns := l.Turns()
			for range 20 { // asked again and again
				l.pass(7 * time.Second)
				if !l.Failed(s) || l.Turns() != turns {
					t.Fatalf("failed %v, %d turns, want true, %d", l.Failed(s), l.Turns(), turns)
				}
			}
			l.wantMAC(s, stack.MAC{})
			l.answer(0, tt.target, server1)
			if l.Failed(s) || l.Turns() == turns {
				t.Error("failed though it answers, or no turn counted")
			}
			l.wantMAC(s, server1)
			d, _ := l.Dynamic(0, stack.AddrFrom(tt.other))
			f := packet(tt.dip, tt.other)
			l.Park(d, &f)
			l.pass(10 * time.Second)
			if l.Failed(d) {
				t.Error("a dynamic next hop counts as failed")
			}
		})
	}
}

// What Retain frees is not asked for any more, keeps no frames, and its number is used again; what is kept stays as it is. There is no end to it.
func TestRetain(t *testing.T) {
	for _, tt := range families {
		t.Run(tt.name, func(t *testing.T) {
			l := newLAN(t, func(o *Options) { o.Pinned = 100 })
			kept := l.Pin(0, tt.target, stack.MAC{})
			l.answer(0, tt.target, server1)
			static := l.Pin(0, tt.other, server2)
			for n := range 5000 {
				b := tt.target.As16()
				b[14], b[15] = byte(100+n>>8), byte(n)
				a := netip.AddrFrom16(b)
				if tt.target.Is4() {
					a = a.Unmap()
				}
				s := l.Pin(0, a, stack.MAC{})
				if s == 0 || s == kept || s == static {
					t.Fatalf("next hop %d has slot %d", n, s)
				}
				f := packet(tt.dip, a)
				if !l.Park(s, &f) {
					t.Fatalf("next hop %d takes no frame", n)
				}
				l.Retain(func(s Slot) bool { return s == kept || s == static })
				l.wantMAC(s, stack.MAC{})
			}
			l.take()
			if out := l.pass(20 * time.Second); len(out) != 0 {
				t.Errorf("%d questions for next hops that are not wanted", len(out))
			}
			if st := l.Stats(); st.Slots != 2 || st.Waiting != 0 || st.Refused != 0 {
				t.Errorf("%+v, want 2 slots and nothing that waits", st)
			}
			if n := len(l.entries); n > freedRest+110 {
				t.Errorf("%d entries", n)
			}
			l.wantMAC(kept, server1)
			l.wantMAC(static, server2)
		})
	}
}

// A next hop whose MAC is not configured any more is asked for.
func TestStaticNoMore(t *testing.T) {
	for _, tt := range families {
		t.Run(tt.name, func(t *testing.T) {
			l := newLAN(t, nil)
			s := l.Pin(0, tt.target, server1)
			if l.Pin(0, tt.target, stack.MAC{}) != s {
				t.Fatal("another slot")
			}
			l.wantMAC(s, stack.MAC{})
			if out := l.pass(time.Second); len(out) == 0 {
				t.Error("it is not asked for")
			}
			l.answer(0, tt.target, server2)
			l.wantMAC(s, server2)
		})
	}
}
