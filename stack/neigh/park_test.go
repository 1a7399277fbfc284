package neigh

import (
	"testing"
	"time"

	"tapdirector/stack"
	"tapdirector/tap"
)

func TestPark(t *testing.T) {
	for _, tt := range families {
		t.Run(tt.name, func(t *testing.T) {
			l := newLAN(t, nil)
			s, _ := l.Dynamic(0, stack.AddrFrom(tt.target))
			f := packet(tt.dip, tt.target)
			f.Header = tap.Header{Flags: tap.FlagDataValid}
			want := f.Clone()
			if first, second := l.Park(s, &f), l.Park(s, &f); !first || !second {
				t.Fatal("a frame found no room")
			}
			clear(f.Bytes()) // the caller's memory is the caller's again
			wantQuestion(t, l.take(), tt.target, tt.group)

			l.answer(0, tt.target, server1)
			out := l.take()
			if len(out) != 2 {
				t.Fatalf("%d frames left, want 2", len(out))
			}
			copy(want.Bytes(), server1[:])
			for _, o := range out {
				if string(o.frame.Bytes()) != string(want.Bytes()) || o.frame.Header != want.Header || o.iface != 0 {
					t.Error("a parked frame left changed")
				}
			}
			if st := l.Stats(); st.Parked != 2 || st.ParkedSent != 2 || st.ParkDropped != 0 || st.Waiting != 0 || l.bytes != 0 {
				t.Errorf("counted %+v, %d bytes left", st, l.bytes)
			}
		})
	}
}

// What comes while frames that waited leave waits too, and leaves behind them; then the MAC is there.
func TestParkKeepsOrder(t *testing.T) {
	for _, tt := range families {
		t.Run(tt.name, func(t *testing.T) {
			var l *lan
			var s Slot
			frames := make([]tap.Frame, 5)
			for i := range frames {
				frames[i] = packet(tt.dip, tt.target)
				frames[i].Bytes()[12] = byte(i)
			}
			next := 2
			l = newLAN(t, func(o *Options) {
				send := o.Links[0].Send
				o.Links[0].Send = func(f *tap.Frame) {
					if send(f); stack.DstMAC(f.Bytes()) != server1 {
						return // a question
					}
					if _, ok := l.MAC(s); ok {
						t.Error("the MAC is there before all that waited have left")
					}
					if next < len(frames) {
						l.answer(0, tt.target, server2) // another proof meanwhile
						if !l.Park(s, &frames[next]) {
							t.Error("no room")
						}
						next++
					}
				}
			})
			s = l.Pin(0, tt.target, stack.MAC{})
			l.Park(s, &frames[0])
			l.Park(s, &frames[1])
			l.take()
			l.answer(0, tt.target, server1)
			out := l.take()
			for i, o := range out {
				if got := o.frame.Bytes()[12]; int(got) != i || stack.DstMAC(o.frame.Bytes()) != server1 {
					t.Errorf("frame %d is number %d, to %v", i, got, stack.DstMAC(o.frame.Bytes()))
				}
			}
			if mac, ok := l.MAC(s); len(out) != len(frames) || !ok || mac.MAC() != server1 {
				t.Errorf("%d frames left, MAC %v %v", len(out), mac, ok)
			}
		})
	}
}

// A slot that is taken away, or becomes static, while its frames leave, does not get their MAC.
func TestParkInterrupted(t *testing.T) {
	for _, tt := range families {
		for _, static := range []bool{false, true} {
			var l *lan
			var s Slot
			l = newLAN(t, func(o *Options) {
				send := o.Links[0].Send
				o.Links[0].Send = func(f *tap.Frame) {
					send(f)
					switch {
					case stack.DstMAC(f.Bytes()) != server1:
					case static:
						l.Pin(0, tt.target, server2)
					default:
						l.Retain(func(Slot) bool { return false })
					}
				}
			})
			s = l.Pin(0, tt.target, stack.MAC{})
			f := packet(tt.dip, tt.target)
			l.Park(s, &f)
			l.answer(0, tt.target, server1)
			if mac, ok := l.MAC(s); ok != static || static && mac.MAC() != server2 {
				t.Errorf("%s, static %v: MAC %v %v", tt.name, static, mac, ok)
			}
		}
	}
}

func TestParkAfterAnswer(t *testing.T) {
	for _, tt := range families {
		l := newLAN(t, nil)
		s := l.Pin(1, tt.link2Other, stack.MAC{})
		l.answer(1, tt.link2Other, server1)
		f := packet(tt.dip, tt.link2Other)
		if !l.Park(s, &f) {
			t.Fatal(tt.name, "refused")
		}
		out := l.take()
		if len(out) != 1 || out[0].iface != 1 || stack.DstMAC(out[0].frame.Bytes()) != server1 {
			t.Error(tt.name, "a frame for a slot that has its MAC by now does not leave at once")
		}
	}
}

func TestParkLimits(t *testing.T) {
	f := packet(families[0].dip, families[0].target)
	tests := []struct {
		name   string
		change func(*Options)
		want   int
	}{
		{"for a slot", func(o *Options) { o.Park = 5 }, 2 * 5},
		{"in all", func(o *Options) { o.ParkTotal = 7 }, 7},
		{"in bytes", func(o *Options) { o.ParkBytes = 6*f.Len() + 1 }, 6},
		{"by default", nil, 2 * 64},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLAN(t, tt.change)
			a, b := l.Pin(0, families[0].target, stack.MAC{}), l.Pin(0, families[1].target, stack.MAC{})
			got := 0
			for range 100 {
				for _, s := range []Slot{a, b} {
					if l.Park(s, &f) {
						got++
					}
				}
			}
			if st := l.Stats(); got != tt.want || st.Waiting != tt.want || st.ParkDropped != uint64(200-tt.want) {
				t.Errorf("%d frames parked, want %d: %+v", got, tt.want, st)
			}
			if st := l.Stats(); st.Asked != 2 {
				t.Errorf("%d questions, want one for each slot", st.Asked)
			}
			l.pass(10 * time.Second)
			if st := l.Stats(); st.Waiting != 0 || st.ParkDropped != 200 || l.bytes != 0 {
				t.Errorf("nobody answered, and yet %+v", st)
			}
		})
	}
}
