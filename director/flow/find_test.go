package flow

import (
	"testing"
	"time"

	"tapdirector/stack"
)

// Find sees what Touch sees and moves neither state nor timer.
func TestFindChangesNothing(t *testing.T) {
	for _, src := range []stack.Addr{stack.AddrFrom4([]byte{10, 0, 0, 1}), stack.AddrFrom16([]byte("sixteen bytes v6"))} {
		table := New(Options{Max: 10})
		c := Conn{Client: src, Virtual: src, Local: src, Server: src, ClientPort: 1, VirtualPort: 2, LocalPort: 1, ServerPort: 3, Proto: stack.ProtoTCP}
		var got Conn
		table.Insert(&c, stack.SYN, 0, &got)
		for d := Forward; d <= Reply; d++ {
			k := c.Tuple(d)
			if !table.Find(&k, d, &got) || got.State != SynRecv || got.ServerPort != 3 {
				t.Errorf("direction %d: found %+v", d, got)
			}
			if k = k.Reverse(); table.Find(&k, d, &got) {
				t.Errorf("direction %d: the reversed tuple was found", d)
			}
		}
		table.Expire(DefaultTimeouts()[SynRecv] + time.Second)
		if table.Len() != 0 {
			t.Error("Find kept the connection alive")
		}
	}
}
