package memlan_test

import (
	"sync"
	"testing"

	"tapdirector/integration"
	"tapdirector/integration/memlan"
	"tapdirector/stack"
	"tapdirector/tap"
)

// TestHairpin: a server that is a client of the service is answered, by itself too, on the one wire that all are on.
func TestHairpin(t *testing.T) {
	for _, servers := range []int{1, 3} {
		for _, family := range []int{4, 6} {
			for _, offload := range []bool{false, true} {
				spec := integration.Spec{Method: "fullnat", Family: family, Arms: 1, Servers: servers, Offload: offload, WebKeys: "toa = true"}
				t.Run(spec.String(), func(t *testing.T) {
					w := newWorld(t, spec)
					answered := map[string]int{}
					for i := range 2 * servers {
						for _, network := range []string{"tcp", "udp"} {
							a, err := talk(t, w.Host(i%servers), network, w.VIP())
							if err != nil || a.Remote.Addr() != w.Plan.Peer(w.Plan.Client.Addr()) {
								t.Fatalf("server %d by %s: seen as %v, %v", i%servers, network, a.Remote, err)
							}
							answered[a.Server]++
						}
					}
					if len(answered) != servers {
						t.Errorf("answers came from %v", answered)
					}
				})
			}
		}
	}
}

// TestTOAOnTheWire: a server gets the client's address with the packet that makes its socket, and not with all others.
func TestTOAOnTheWire(t *testing.T) {
	families(t, integration.Spec{Method: "fullnat", Offload: true, WebKeys: "toa = true"}, func(t *testing.T, w *memlan.World, p *probe) {
		var mu sync.Mutex
		with, without, mss := 0, 0, 0
		w.ObserveFrames(func(point, dir string, f *tap.Frame) {
			g, q := f.Clone(), stack.Packet{}
			if dir != "in" || stack.Parse(&g, &q) != stack.ReasonNone || q.Proto != stack.ProtoTCP {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			options := g.Bytes()[q.L4+20 : q.L4+q.L4Len]
			switch {
			case point == "client/ext" && q.TCPFlags&stack.SYN != 0 && len(options) >= 4 && options[0] == 2:
				mss = int(options[2])<<8 | int(options[3])
			case point[0] != 's':
			case len(options) > 0 && options[0] == 254:
				with++
			default:
				without++
			}
		})
		if _, err := talk(t, w.Client(), "tcp", w.VIP()); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		defer mu.Unlock()
		want := 1460 - 8
		if w.Plan.Spec.Family == 6 {
			want = 1440 - 20
		}
		if with == 0 || without < with || mss != want {
			t.Errorf("%d packets with the client's address, %d without; the client is offered segments of %d bytes, want %d", with, without, mss, want)
		}
	})
}

// TestFullNATNeedsNoRouter: a server's packets to others than the director go nowhere, and the client cannot reach servers past the VIP.
func TestFullNATNeedsNoRouter(t *testing.T) {
	families(t, integration.Spec{Method: "fullnat"}, func(t *testing.T, w *memlan.World, p *probe) {
		s := p.tcp(stack.SYN)
		s.Dst = w.Plan.Servers[0].Listen
		p.send(s)
		waitVerdict(t, w, "drop-not-ours", 1)
	})
}
