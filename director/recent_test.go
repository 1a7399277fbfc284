package director

import (
	"math/rand/v2"
	"strings"
	"testing"

	"tapdirector/stack"
	"tapdirector/tap"
)

// A connection that a worker remembers goes where the table, the next hops and the view say now.
func TestRecentIsUpToDate(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		w := newWorld(t, worldSpec{family: family, unknown: true, servers: 1})
		k := w.workers[ext]
		w.step(in, w.neighbourAnswer(w.spec.server(0).Addr(), serverMAC(0)))
		w.step(ext, w.toVIP(stack.SYN))
		to := func(want stack.MAC, remembered bool) {
			t.Helper()
			v, left := w.step(ext, w.toVIP(stack.ACK))
			if v != ForwardedNAT || len(left) != 1 || stack.DstMAC(left[0].frame.Bytes()) != want {
				t.Fatalf("%v, %d frames left", v, len(left))
			}
			if got := k.recents.used == 1; got != remembered {
				t.Fatalf("remembered: %v", got)
			}
		}
		to(serverMAC(0), false)
		to(serverMAC(0), true)
		to(serverMAC(0), true)
		w.step(in, w.neighbourAnswer(w.spec.server(0).Addr(), serverMAC(7)))
		to(serverMAC(7), true)
		to(serverMAC(7), true)

		c := w.toVIPSpec(stack.ACK)
		f := c.Frame()
		var p stack.Packet
		stack.Parse(&f, &p)
		w.table.Remove(&p.Tuple, 0)
		if v, _ := w.step(ext, w.toVIP(stack.ACK)); v != SentReset {
			t.Errorf("the connection has ended: %v", v)
		}
		if v, _ := w.step(ext, w.toVIP(stack.SYN)); v != ForwardedNAT || w.table.Len() != 1 {
			t.Errorf("a new one: %v", v)
		}
		k.open(&view{ifaces: k.view.ifaces}, 0)
		if k.recents.used != 0 {
			t.Error("another view, and still remembered")
		}
	})
}

// Packets of some connections in turn, which one worker remembers and its twin does not, while next hops move, connections end, others take their places, and the
// configuration changes.
func TestRecentAgainstTwin(t *testing.T) {
	for _, tc := range []struct {
		name  string
		spec  worldSpec
		trunk bool
	}{
		{"nat", worldSpec{unknown: true}, false}, {"dr", worldSpec{method: "dr", unknown: true}, false}, {"udp", worldSpec{proto: "udp", unknown: true}, false}, {"no offload", worldSpec{unknown: true, plain: true}, false},
		{"tun", worldSpec{method: "tun", unknown: true}, false}, {"trunk", worldSpec{unknown: true}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bothFamilies(t, func(t *testing.T, family int) {
				tc.spec.family = family
				rng := rand.New(rand.NewPCG(uint64(family), 11))
				tw := newTwins(t, tc.spec)
				if tc.trunk {
					tw.rows, tw.alone = trunkWorld(t, tc.spec, "100", func(*tap.Frame) {}), trunkWorld(t, tc.spec, "100", func(*tap.Frame) {})
				}
				for range 1000 {
					if tw.happens(rng, tc.trunk); rng.IntN(2) == 0 && !tc.trunk {
						tw.compare(t, in, tw.rows.turns(rng, in))
						continue
					}
					batch := tw.rows.turns(rng, ext)
					if tc.trunk {
						batch = append(batch, tw.rows.turns(rng, in)...)
						rng.Shuffle(len(batch), func(i, j int) { batch[i], batch[j] = batch[j], batch[i] })
						for i := range batch {
							vlan := uint16(100)
							if stack.DstMAC(batch[i].Bytes()) == inMAC {
								vlan = 200
							}
							batch[i] = onVLAN(t, vlan, batch[i])
						}
					}
					tw.compare(t, ext, batch)
				}
				if tw.remembered < 200 && tc.spec.method != "tun" {
					t.Errorf("%d packets of remembered connections", tw.remembered)
				}
			})
		})
	}
}

// turns returns packets of some connections in turn.
func (w *world) turns(rng *rand.Rand, iface int) (batch []tap.Frame) {
	flags := []uint8{stack.ACK, stack.ACK, stack.ACK, stack.ACK, stack.ACK, stack.ACK, stack.ACK | stack.PSH, stack.SYN, stack.SYN, stack.ACK | stack.FIN, stack.RST, 0}
	for range 16 {
		s := w.fromPort(uint16(40000+rng.IntN(4)), flags[rng.IntN(len(flags))])
		if iface == in {
			client := s.Src
			s = w.fromServerSpec(rng.IntN(2), s.Flags)
			s.Dst = client
		}
		s.TTL = 64
		switch rng.IntN(20) {
		case 0:
			s.SrcMAC[5]++
		case 1:
			s.TTL = uint8(rng.IntN(3))
		case 2:
			s.MF = s.Dst.Addr().Is4() && s.Proto == stack.ProtoTCP
		}
		s.Payload = make([]byte, 8*rng.IntN(190))
		batch = append(batch, marked(rng, s).Frame())
	}
	return batch
}

// happens changes something besides packets, in both worlds alike, or nothing.
func (tw *twins) happens(rng *rand.Rand, trunk bool) {
	what, i, n := rng.IntN(12), rng.IntN(2), rng.IntN(20)
	for _, w := range []*world{tw.rows, tw.alone} {
		switch what {
		case 0, 1:
			answer := w.neighbourAnswer(w.spec.server(i).Addr(), serverMAC(i+n))
			if trunk {
				w.step(ext, onVLAN(w.tb, 200, answer))
			} else {
				w.step(in, answer)
			}
		case 2:
			f := w.fromPort(uint16(40000+n%4), 0).Frame()
			var p stack.Packet
			stack.Parse(&f, &p)
			w.table.Remove(&p.Tuple, 0)
		case 3:
			if !trunk { // one server has weight 0
				server := w.spec.server(i).String()
				w.must(w.reloadText(strings.Replace(w.spec.toml(), `"`+server+`"`, `"`+server+"\"\nweight = 0", 1)))
			}
		}
	}
}
