package neigh

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"tapdirector/stack"
)

// wantQuestion checks that out is one question about target, to that MAC.
func wantQuestion(t *testing.T, out []sent, target netip.Addr, to stack.MAC) {
	t.Helper()
	if len(out) != 1 {
		t.Fatalf("%d frames left, want one question", len(out))
	}
	b := out[0].frame.Bytes()
	if stack.DstMAC(b) != to {
		t.Fatalf("the question goes to %x, want %x", stack.DstMAC(b), to)
	}
	at := 14 + 24
	if !target.Is4() {
		at = 14 + 40 + 8
	}
	if got, _ := netip.AddrFromSlice(b[at:][:len(target.AsSlice())]); got != target {
		t.Fatalf("the question is about %v, want %v", got, target)
	}
}

// TestLife walks a pinned slot through every state, in both families.
func TestLife(t *testing.T) {
	for _, tt := range families {
		t.Run(tt.name, func(t *testing.T) {
			l := newLAN(t, nil)
			s := l.Pin(0, tt.target, stack.MAC{})
			l.wantState(s, "idle")

			l.tick()
			wantQuestion(t, l.take(), tt.target, tt.group)
			l.wantState(s, "asking")
			wantQuestion(t, l.pass(time.Second), tt.target, tt.group)
			l.answer(0, tt.target, server1)
			l.wantState(s, "reachable")
			l.wantMAC(s, server1)

			// Used: after 30 s it is asked, alone at first, then everybody.
			if out := l.pass(30*time.Second - period); len(out) != 0 {
				t.Fatal("asked too early")
			}
			wantQuestion(t, l.pass(period), tt.target, server1)
			l.wantState(s, "probing")
			for _, to := range []stack.MAC{server1, server1, tt.group, tt.group, tt.group} {
				l.wantMAC(s, server1)
				wantQuestion(t, l.pass(time.Second), tt.target, to)
			}
			l.pass(time.Second)
			l.wantState(s, "failed")
			l.wantMAC(s, stack.MAC{})

			l.answer(0, tt.target, server2)
			l.wantState(s, "reachable")
			l.wantMAC(s, server2)
			if st := l.Stats(); st.Learned != 2 || st.Failed != 1 || st.Asked != 8 || st.Changed != 0 {
				t.Errorf("counted %+v", st)
			}
		})
	}
}

func TestProbeAnswered(t *testing.T) {
	for _, tt := range families {
		t.Run(tt.name, func(t *testing.T) {
			l := newLAN(t, nil)
			s := l.Pin(0, tt.target, stack.MAC{})
			for range 5 {
				l.answer(0, tt.target, server1)
				l.wantMAC(s, server1)
				wantQuestion(t, l.pass(30*time.Second), tt.target, server1)
			}
			l.answer(0, tt.target, server1)
			if out := l.pass(10 * time.Minute); len(out) != 0 {
				t.Errorf("%d questions for a slot that nobody used since", len(out))
			}
			l.wantMAC(s, server1) // the first use after a long time gets the old MAC
			wantQuestion(t, l.pass(period), tt.target, server1)
		})
	}
}

func TestBackoff(t *testing.T) {
	for _, tt := range families {
		t.Run(tt.name, func(t *testing.T) {
			l := newLAN(t, nil)
			l.Pin(0, tt.target, stack.MAC{})
			var starts []int // periods at which a round of questions starts
			asked := 0
			for n := range 240 * int(time.Second/period) {
				for range len(l.pass(period)) {
					if asked%3 == 0 {
						starts = append(starts, n)
					}
					asked++
				}
			}
			var gaps []int
			for i := 1; i < len(starts); i++ {
				gaps = append(gaps, (starts[i]-starts[i-1]-9)/4) // a round takes 0.25 + 1 + 1 s
			}
			if want := []int{1, 2, 4, 8, 16, 30, 30, 30, 30}; !slices.Equal(gaps[:len(want)], want) {
				t.Errorf("pauses of %v seconds, want %v", gaps, want)
			}
		})
	}
}

func TestDynamicIsNotAskedForever(t *testing.T) {
	for _, tt := range families {
		t.Run(tt.name, func(t *testing.T) {
			l := newLAN(t, nil)
			s, _ := l.Dynamic(0, stack.AddrFrom(tt.target))
			f := packet(tt.dip, tt.target)
			for range 3 {
				l.Park(s, &f)
				if out := l.pass(time.Hour); len(out) != 3 {
					t.Fatalf("%d questions for one frame, want 3", len(out))
				}
				l.wantState(s, "failed")
			}
		})
	}
}

// TestManyQuestions checks that a tick's questions are bounded and that every slot gets its turn.
func TestManyQuestions(t *testing.T) {
	l := newLAN(t, nil)
	const n = 2*questionsPerTick + 10
	for i := range n {
		l.Pin(0, nth(families[1].target, i+1), stack.MAC{})
	}
	var got []int
	for range 3 {
		l.tick()
		got = append(got, len(l.take()))
	}
	if want := []int{questionsPerTick, questionsPerTick, 10}; !slices.Equal(got, want) {
		t.Errorf("questions by tick %v, want %v", got, want)
	}
}
