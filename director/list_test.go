package director

import (
	"testing"
	"time"

	"tapdirector/director/flow"
	"tapdirector/stack"
)

func TestConnectionsAreListed(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		w := newWorld(t, worldSpec{family: family})
		w.step(ext, w.toVIP(stack.SYN))
		n := 0
		w.Connections(func(c *flow.Conn, left time.Duration) bool {
			n++
			if c.Client.Netip() != w.spec.client().Addr() || c.State != flow.SynRecv || left <= 50*time.Second || left > 61*time.Second {
				t.Errorf("%v in %v for %v", c.Client, c.State, left)
			}
			return true
		})
		if n != 1 {
			t.Errorf("%d connections, want 1", n)
		}
	})
}

// A server of weight 0 keeps its connections and gets no new ones.
func TestSetWeight(t *testing.T) {
	w := newWorld(t, worldSpec{servers: 1})
	w.step(ext, w.toVIP(stack.SYN))
	if err := w.SetWeight("web", w.spec.server(0), 0); err != nil {
		t.Fatal(err)
	}
	v, left := w.step(ext, w.toVIP(stack.ACK))
	w.one(v, left, ForwardedNAT, in)
	other := w.toVIPSpec(stack.SYN)
	other.Src = w.spec.server(7)
	v, left = w.step(ext, other.Frame())
	w.one(v, left, SentReset, ext)
	if err := w.SetWeight("web", w.spec.server(0), 1); err != nil {
		t.Fatal(err)
	}
	v, left = w.step(ext, other.Frame())
	w.one(v, left, ForwardedNAT, in)
	for _, wrong := range []error{
		w.SetWeight("web", w.spec.server(0), -1), w.SetWeight("web", w.spec.server(0), 65536),
		w.SetWeight("web", w.spec.server(5), 1), w.SetWeight("none", w.spec.server(0), 1),
	} {
		if wrong == nil {
			t.Error("a wrong weight, server or service is no error")
		}
	}
}

// A template is listed with its network of clients, and as assured once a connection is established.
func TestTemplatesAreListed(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		w := newWorld(t, worldSpec{family: family, service: sixMinutes + "persistence_prefix4 = 24\npersistence_prefix6 = 64\n"})
		w.step(ext, w.toVIP(stack.SYN))
		for _, assured := range []bool{false, true} {
			n := 0
			w.Templates(func(c Template) bool {
				n++
				bits := map[int]int{4: 24, 6: 64}[family]
				if c.Service != "web" || c.Clients.Bits() != bits || !c.Clients.Contains(w.spec.client().Addr()) || c.Clients != c.Clients.Masked() ||
					c.Assured != assured || c.Connections != 1 || c.Expires <= 5*time.Minute || c.Expires > 6*time.Minute {
					t.Errorf("%+v", c)
				}
				return true
			})
			if n != 1 {
				t.Errorf("%d templates, want 1", n)
			}
			w.step(in, w.fromServer(0, stack.SYN|stack.ACK))
			w.step(ext, w.toVIP(stack.ACK))
		}
	})
}
