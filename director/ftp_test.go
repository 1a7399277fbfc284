package director

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"tapdirector/director/flow"
	"tapdirector/stack"
	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// The tests of FTP play both ends of a control connection by hand: each end numbers its bytes itself, and is told what the other sent, which must be
// numbered without a gap.

// dialogue is a control connection.
type dialogue struct {
	*world
	source netip.AddrPort    // the client's
	seq    [2]uint32         // by flow.Direction of the sender: its next byte, as it counts
	next   [2]uint32         // what the receiver of that direction expects
	seen   [2]netip.AddrPort // what the server sees of the client, and the client of the server
	peer   [2]netip.AddrPort // whom each end sends to
	mac    stack.MAC         // the server's
}

// ftpWorld is a world with a service for FTP on port 21.
func ftpWorld(t testing.TB, s worldSpec) *world {
	s.setDefaults()
	if s.listen == "" {
		s.listen = fmt.Sprintf("%q", netip.AddrPortFrom(s.addr(1, 100), 21))
	}
	s.service += "\nftp = true\n"
	return newWorld(t, s)
}

func (w *world) ftpVIP() netip.AddrPort { return netip.AddrPortFrom(w.spec.addr(1, 100), 21) }

// dial opens a control connection from a port of the client.
func (w *world) dial(port uint16) *dialogue {
	w.tb.Helper()
	d := &dialogue{world: w, source: netip.AddrPortFrom(w.spec.client().Addr(), port), seq: [2]uint32{1000, 0xffffff00}}
	d.peer[flow.Forward] = w.ftpVIP()
	_, f := d.must(flow.Forward, stack.SYN, "", nil)
	d.seq[flow.Forward]++
	p := parsed(w.tb, f)
	d.source, d.mac = endpoint(p.Src, p.SrcPort), stack.DstMAC(f.Bytes())
	d.peer[flow.Reply], d.seen[flow.Forward] = d.source, endpoint(p.Dst, p.DstPort)
	d.next[flow.Forward] = d.seq[flow.Forward]
	d.must(flow.Reply, stack.SYN|stack.ACK, "", nil)
	d.seq[flow.Reply]++
	d.next[flow.Reply] = d.seq[flow.Reply]
	d.must(flow.Forward, stack.ACK, "", nil)
	d.say(flow.Reply, "220 ready\r\n")
	return d
}

func parsed(tb testing.TB, f *tap.Frame) stack.Packet {
	tb.Helper()
	g, p := f.Clone(), stack.Packet{}
	if r := stack.Parse(&g, &p); r != stack.ReasonNone {
		tb.Fatal(r)
	}
	return p
}

// segment is what an end sends: text at its next byte.
func (d *dialogue) segment(dir flow.Direction, flags uint8, text string) packettest.Spec {
	s := d.base(ext, netip.AddrPortFrom(d.spec.client().Addr(), d.source.Port()), d.peer[dir])
	if dir == flow.Reply {
		s = d.base(in, d.seen[flow.Forward], d.peer[dir])
		s.SrcMAC = d.mac
	} else if d.spec.method == "fullnat" && d.mac != (stack.MAC{}) {
		s.Src = d.spec.client()
	}
	s.Flags, s.Seq, s.Ack, s.Payload = flags, d.seq[dir], d.next[1-dir], []byte(text)
	return s
}

// must sends a segment, which must come out.
func (d *dialogue) must(dir flow.Direction, flags uint8, text string, change func(*packettest.Spec)) (stack.Packet, *tap.Frame) {
	d.tb.Helper()
	s := d.segment(dir, flags, text)
	if change != nil {
		change(&s)
	}
	v, left := d.step(int(dir), s.Frame())
	if len(left) != 1 {
		d.tb.Fatalf("%q: verdict %v, %d frames", text, v, len(left))
	}
	return parsed(d.tb, &left[0].frame), &left[0].frame
}

// say sends text and returns what comes out, which must follow on what the receiver has and acknowledge what it sent.
func (d *dialogue) say(dir flow.Direction, text string) string {
	d.tb.Helper()
	p, f := d.must(dir, stack.ACK|stack.PSH, text, nil)
	seq, ack := p.Numbers(f.Bytes())
	got := string(p.Payload(f.Bytes()))
	if seq != d.next[dir] || ack != d.seq[1-dir] {
		d.tb.Fatalf("%q: number %d, want %d; acknowledges %d, want %d", text, seq, d.next[dir], ack, d.seq[1-dir])
	}
	d.seq[dir] += uint32(len(text))
	d.next[dir] += uint32(len(got))
	return got
}

// six is an address and port as PORT and 227 have them.
func six(a netip.AddrPort) string {
	return fmt.Sprintf("%s,%d,%d", strings.ReplaceAll(a.Addr().String(), ".", ","), a.Port()>>8, a.Port()&255)
}

func eprt(a netip.AddrPort) string {
	family := 1
	if a.Addr().Is6() {
		family = 2
	}
	return fmt.Sprintf("EPRT |%d|%v|%d|\r\n", family, a.Addr(), a.Port())
}

// server returns the number of the server that d is connected to.
func (d *dialogue) server() netip.Addr { return d.seen[flow.Forward].Addr() }

// passive has the server announce a port, and returns the one that the client is told.
func (d *dialogue) passive(port uint16) uint16 {
	d.tb.Helper()
	d.say(flow.Forward, "EPSV\r\n")
	var told uint16
	got := d.say(flow.Reply, fmt.Sprintf("229 Entering Extended Passive Mode (|||%d|)\r\n", port))
	if _, err := fmt.Sscanf(got, "229 Entering Extended Passive Mode (|||%d|)\r\n", &told); err != nil {
		d.tb.Fatalf("the client is told %q", got)
	}
	return told
}

// connect is a client's SYN from a port to a port of the VIP.
func (d *dialogue) connect(from, to uint16) (Verdict, []sent) {
	s := d.base(ext, netip.AddrPortFrom(d.spec.client().Addr(), from), netip.AddrPortFrom(d.spec.addr(1, 100), to))
	s.Flags = stack.SYN
	return d.step(ext, s.Frame())
}

// The answer to PASV names the VIP, and the connection to it reaches the server's port; later answers are numbered on.
func TestFTPPassive(t *testing.T) {
	w := ftpWorld(t, worldSpec{})
	d := w.dial(40000)
	for i, port := range []uint16{50000, 1025, 65535} {
		d.say(flow.Forward, "pasv\r\n")
		told := netip.AddrPortFrom(w.spec.addr(1, 100), port)
		want := "227 Entering Passive Mode (" + six(told) + ").\r\n"
		if got := d.say(flow.Reply, "227 Entering Passive Mode ("+six(netip.AddrPortFrom(d.server(), port))+").\r\n"); got != want {
			t.Fatalf("the client is told %q, want %q", got, want)
		}
		v, left := d.connect(uint16(41000+i), port)
		p, f := w.one(v, left, ForwardedNAT, in)
		if endpoint(p.Dst, p.DstPort) != netip.AddrPortFrom(d.server(), port) {
			t.Errorf("the data connection goes to %s", stack.Describe(f.Bytes()))
		}
		d.say(flow.Reply, "150 here it comes\r\n")
		d.say(flow.Forward, "NOOP\r\n")
	}
	if s := w.ftp.Stats(); s.Connections != 3 || s.Edited != 3 || s.Expectations != 0 || s.Sessions != 1 {
		t.Errorf("%+v", s)
	}
	if srv := w.view.Load().servers[0]; srv.Active.Load() != 4 {
		t.Errorf("%d active connections of the server, want 4", srv.Active.Load())
	}
}

// EPSV: nothing is edited, in either family.
func TestFTPExtendedPassive(t *testing.T) {
	for _, method := range []string{"nat", "fullnat"} {
		bothFamilies(t, func(t *testing.T, family int) {
			w := ftpWorld(t, worldSpec{family: family, method: method})
			d := w.dial(40000)
			if told := d.passive(50001); told != 50001 {
				t.Fatalf("told port %d", told)
			}
			v, left := d.connect(41000, 50001)
			if len(left) != 1 {
				t.Fatalf("verdict %v", v)
			}
			if p := parsed(t, &left[0].frame); endpoint(p.Dst, p.DstPort) != netip.AddrPortFrom(d.server(), 50001) {
				t.Errorf("the data connection goes to %s", stack.Describe(left[0].frame.Bytes()))
			}
			v, left = d.connect(41001, 50001)
			w.none(v, left[:0], SentReset) // once only
		})
	}
}

// The server connects to the port that the client named, from 20 or elsewhere, and is the VIP for the client.
func TestFTPActive(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		w := ftpWorld(t, worldSpec{family: family})
		d := w.dial(40000)
		for i, tc := range []struct{ from, as uint16 }{{7999, 20}, {5000, 5000}} {
			to := netip.AddrPortFrom(w.spec.client().Addr(), uint16(41000+i))
			line := eprt(to)
			if family == 4 && i == 0 {
				line = "PORT " + six(to) + "\r\n"
			}
			if got := d.say(flow.Forward, line); got != line {
				t.Fatalf("the server is told %q", got)
			}
			d.say(flow.Reply, "200 EPRT command successful\r\n")
			s := w.base(in, netip.AddrPortFrom(d.server(), tc.from), to)
			s.SrcMAC, s.Flags = d.mac, stack.SYN
			v, left := w.step(in, s.Frame())
			p, f := w.one(v, left, RepliedNAT, ext)
			if endpoint(p.Src, p.SrcPort) != netip.AddrPortFrom(w.ftpVIP().Addr(), tc.as) || stack.DstMAC(f.Bytes()) != clientMAC {
				t.Errorf("the client gets %s", stack.Describe(f.Bytes()))
			}
			answer := w.base(ext, to, endpoint(p.Src, p.SrcPort))
			answer.Flags = stack.SYN | stack.ACK
			v, left = w.step(ext, answer.Frame())
			if q, _ := w.one(v, left, ForwardedNAT, in); endpoint(q.Dst, q.DstPort) != s.Src {
				t.Errorf("the client's answer goes to %v", endpoint(q.Dst, q.DstPort))
			}
		}
	})
}
