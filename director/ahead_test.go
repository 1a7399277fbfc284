package director

import (
	"testing"

	"tapdirector/director/flow"
	"tapdirector/stack"
	"tapdirector/tap"
)

// A batch is carried in the same way with a table that is large, where it is looked ahead, as with an empty one: whatever the frames are.
func TestLookAheadChangesNothing(t *testing.T) {
	counted := func(others int) (map[string]uint64, int) {
		w := newWorld(t, worldSpec{})
		for i := range others {
			c := flow.Conn{
				Client: stack.AddrFrom4([]byte{11, byte(i >> 16), byte(i >> 8), byte(i)}), Virtual: stack.AddrFrom4([]byte{10, 77, 1, 100}),
				ClientPort: 1, VirtualPort: 80, ServerPort: 80, Proto: stack.ProtoTCP, Method: flow.DR,
			}
			w.table.Insert(&c, stack.SYN, 0, &c)
		}
		if w.table.Pays() != (others > 0) {
			t.Fatalf("with %d connections", others)
		}
		short, martian := w.toVIP(stack.ACK), w.toVIPSpec(stack.SYN)
		short.Trim(20)
		martian.Src = martian.Dst
		_, left := w.step(ext, w.toVIP(stack.SYN))
		answer := w.answerTo(&left[0].frame, stack.SYN|stack.ACK)
		w.workers[ext].batch([]tap.Frame{
			w.toVIP(stack.ACK), short, martian.Frame(), w.fromPort(9, stack.SYN).Frame(), w.fromPort(10, stack.ACK).Frame(), w.toVIP(stack.FIN),
		})
		w.workers[in].batch([]tap.Frame{answer.Frame(), w.fromServer(1, stack.ACK), answer.Frame(), answer.Frame()})
		return w.Verdicts(), w.table.Len() - others
	}
	want, conns := counted(0)
	got, more := counted(40_000)
	for name, n := range want {
		if got[name] != n {
			t.Errorf("%s: %d, want %d", name, got[name], n)
		}
	}
	if more != conns {
		t.Errorf("%d connections, want %d", more, conns)
	}
}
