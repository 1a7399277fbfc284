package director

import (
	"net/netip"
	"testing"

	"tapdirector/director/sched"
	"tapdirector/stack"
)

// TestEverySchedulerForwards: what lb.toml says reaches the scheduler, and its pick the frame.
func TestEverySchedulerForwards(t *testing.T) {
	for _, name := range sched.Names() {
		bothFamilies(t, func(t *testing.T, family int) {
			w := newWorld(t, worldSpec{family: family, sched: name, proto: "udp"})
			v, left := w.step(ext, w.toVIP(0))
			p, _ := w.one(v, left, ForwardedNAT, in)
			picked := 0
			for i := range 3 {
				n := w.view.Load().servers[i].conns.Load()
				if picked += int(n); n == 1 && endpoint(p.Dst, p.DstPort) != w.spec.server(i) {
					t.Errorf("%s: server %d picked, but the packet went to %v", name, i, endpoint(p.Dst, p.DstPort))
				}
			}
			if picked != 1 {
				t.Errorf("%s: %d connections", name, picked)
			}
		})
	}
}

// TestHashKeys: hash_port makes a difference, and the table's size.
func TestHashKeys(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		for keys, want := range map[string]int{"": 1, "hash_port = true": 3, "hash_port = true\nmh_table_size = 251": 3} {
			w := newWorld(t, worldSpec{family: family, sched: "mh", service: keys})
			seen := map[stack.Addr]bool{}
			for port := uint16(1000); port < 1050; port++ {
				s := w.toVIPSpec(stack.SYN)
				s.Src = netip.AddrPortFrom(s.Src.Addr(), port)
				v, left := w.step(ext, s.Frame())
				p, _ := w.one(v, left, ForwardedNAT, in)
				seen[p.Dst] = true
			}
			if len(seen) != want {
				t.Errorf("%q: a client's connections went to %d servers, want %d", keys, len(seen), want)
			}
		}
	})
}

// TestQUICClientMoves: a client with another address reaches its server by the id that the server wrote, by default its address.
func TestQUICClientMoves(t *testing.T) {
	for _, method := range []string{"nat", "dr"} {
		bothFamilies(t, func(t *testing.T, family int) {
			w := newWorld(t, worldSpec{family: family, method: method, sched: "quic", proto: "udp"})
			want := map[string]Verdict{"nat": ForwardedNAT, "dr": ForwardedDR}[method]
			for i := range 3 {
				ip := w.spec.server(i).Addr().AsSlice()
				for port := uint16(5000); port < 5020; port++ {
					s := w.toVIPSpec(0)
					s.Src = netip.AddrPortFrom(w.spec.addr(1, 50+i), port)
					s.Payload = append(append([]byte{0x40, 0x99}, ip[len(ip)-4:]...), "nonce and the rest"...)
					v, left := w.step(ext, s.Frame())
					if _, f := w.one(v, left, want, in); stack.DstMAC(f.Bytes()) != serverMAC(i) {
						t.Fatalf("an id of server %d went to %x", i, stack.DstMAC(f.Bytes()))
					}
				}
			}
		})
	}
}

// TestQUICDrains: at weight 0 an established connection still arrives when its client moves, a new one goes elsewhere.
func TestQUICDrains(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		w := newWorld(t, worldSpec{family: family, sched: "quic", proto: "udp"})
		w.view.Load().servers[1].Weight.Store(0)
		w.view.Load().ordered[0].scheduler.Update()
		ip := w.spec.server(1).Addr().AsSlice()
		cid := append(append([]byte{0x99}, ip[len(ip)-4:]...), 1, 2, 3, 4)
		for n, payload := range [][]byte{append([]byte{0x40}, cid...), append([]byte{0xc0, 0, 0, 0, 1, byte(len(cid))}, cid...)} {
			s := w.toVIPSpec(0)
			s.Src, s.Payload = netip.AddrPortFrom(s.Src.Addr(), uint16(6000+n)), payload
			v, left := w.step(ext, s.Frame())
			p, _ := w.one(v, left, ForwardedNAT, in)
			if drained := endpoint(p.Dst, p.DstPort) == w.spec.server(1); drained != (n == 0) {
				t.Errorf("first octet %x: to %v", payload[0], endpoint(p.Dst, p.DstPort))
			}
		}
	})
}

// TestRequestAllocatesNothing: what is told to a scheduler lies in the worker and the frame.
func TestRequestAllocatesNothing(t *testing.T) {
	for _, name := range sched.Names() {
		for _, proto := range []string{"tcp", "udp"} {
			if name == "quic" && proto == "tcp" {
				continue
			}
			w := newWorld(t, worldSpec{family: 6, sched: name, proto: proto})
			f := w.toVIP(stack.SYN)
			k := w.worker(ext)
			if r := stack.Parse(&f, k.p); r != stack.ReasonNone {
				t.Fatal(r)
			}
			s := k.view.service(k.p).scheduler
			if n := testing.AllocsPerRun(100, func() { s.Pick(k.request(&f)) }); n != 0 {
				t.Errorf("%s %s: %v allocations", name, proto, n)
			}
			if r := k.request(&f); string(r.Payload) != map[string]string{"tcp": "", "udp": "hello"}[proto] {
				t.Errorf("%s: payload %q", proto, r.Payload)
			}
		}
	}
}
