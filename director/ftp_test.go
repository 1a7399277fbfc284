package director

import (
	"encoding/binary"
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

// entering is the answer to PASV that announces port 50000 of a.
func entering(a netip.Addr) string { return "227 (" + six(netip.AddrPortFrom(a, 50000)) + ")\r\n" }

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

// A line that comes in pieces is edited as a whole one: nothing of it goes on before its end, the server learns that it was received as soon as the client has all
// in front of it, and what is sent again is the same again.
func TestFTPSplitAnswer(t *testing.T) {
	for _, step := range []int{1, 5, 20} {
		w := ftpWorld(t, worldSpec{})
		d := w.dial(40000)
		d.say(flow.Forward, "PASV\r\n")
		line := "227 Entering Passive Mode (" + six(netip.AddrPortFrom(d.server(), 50000)) + ")\r\n"
		want := "227 Entering Passive Mode (" + six(netip.AddrPortFrom(w.spec.addr(1, 100), 50000)) + ")\r\n"
		first := d.seq[flow.Reply]
		for from := 0; from < len(line); from += step {
			piece := line[from:min(from+step, len(line))]
			for again := range 2 { // twice: a retransmission
				v, left := d.step(in, d.segment(flow.Reply, stack.ACK|stack.PSH, piece).Frame())
				if v != RepliedNAT || from+step < len(line) && len(left) == 1 {
					t.Fatalf("%q: %v, %d frames", piece, v, len(left))
				}
				whole := from+step >= len(line)
				if !whole {
					q, g := parsed(t, &left[1].frame), left[1].frame.Bytes()
					seq, ack := q.Numbers(g)
					if left[1].iface != in || seq != d.next[flow.Forward] || ack != d.seq[flow.Reply]+uint32(len(piece)) || q.Window(g) != 65000 {
						t.Fatalf("the server learns of %d bytes by %s, want %d", ack-first, stack.Describe(g), d.seq[flow.Reply]+uint32(len(piece))-first)
					}
				}
				p, f := parsed(t, &left[0].frame), &left[0].frame
				seq, _ := p.Numbers(f.Bytes())
				got := string(p.Payload(f.Bytes()))
				if !whole {
					if got != "" || seq != d.next[flow.Reply] {
						t.Fatalf("of %q %q goes on, numbered %d, want nothing, numbered %d", piece, got, seq, d.next[flow.Reply])
					}
					// So does a client that says again what it expects.
					q, g := d.must(flow.Forward, stack.ACK, "", nil)
					if _, ack := q.Numbers(g.Bytes()); ack != d.seq[flow.Reply]+uint32(len(piece)) {
						t.Fatalf("the server learns of %d bytes, want %d", ack-first, d.seq[flow.Reply]+uint32(len(piece))-first)
					}
				} else if got != want || seq != d.next[flow.Reply] {
					t.Fatalf("time %d: %q goes on, numbered %d, want %q, numbered %d", again, got, seq, want, d.next[flow.Reply])
				}
			}
			d.seq[flow.Reply] += uint32(len(piece))
		}
		d.next[flow.Reply] += uint32(len(want))
		d.say(flow.Reply, "150 next\r\n")
		before := w.ftp.Stats().Acknowledged
		d.say(flow.Forward, "PASV\r\n")
		d.say(flow.Reply, "220 not acknowledged\r\n")
		if _, left := d.step(in, d.segment(flow.Reply, stack.ACK, "22").Frame()); len(left) != 1 || w.ftp.Stats().Acknowledged != before {
			t.Errorf("a piece is acknowledged before what is in front of it: %d frames", len(left))
		}
		d.seq[flow.Reply] += 2
		d.next[flow.Reply] += uint32(len("227 not followed\r\n"))
		d.must(flow.Reply, stack.ACK, "7 not followed\r\n", nil)
		d.seq[flow.Reply] += uint32(len("7 not followed\r\n"))
		d.say(flow.Forward, "NOOP\r\n")
		if v, left := d.connect(41000, 50000); len(left) != 1 || v != ForwardedNAT {
			t.Errorf("the data connection: %v", v)
		}
	}
}

// What was acknowledged of a line and will not be sent again goes on with what follows: the rest of a line that does not matter, or FIN.
func TestFTPHeldGoesOn(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		w := ftpWorld(t, worldSpec{family: family})
		d := w.dial(40000)
		d.say(flow.Forward, "EPSV\r\n")
		hold := func(piece string) {
			t.Helper()
			if v, left := d.step(in, d.segment(flow.Reply, stack.ACK, piece).Frame()); v != RepliedNAT || len(left) != 2 {
				t.Fatalf("%q: %v, %d frames, want one and an acknowledgement", piece, v, len(left))
			}
			d.seq[flow.Reply] += uint32(len(piece))
		}
		follow := func(flags uint8, text, want string) {
			t.Helper()
			p, f := d.must(flow.Reply, flags, text, nil)
			seq, _ := p.Numbers(f.Bytes())
			if got := string(p.Payload(f.Bytes())); got != want || seq != d.next[flow.Reply] || p.TCPFlags != flags {
				t.Fatalf("%q becomes %q, number %d, flags %#x; want %q, number %d, flags %#x", text, got, seq, p.TCPFlags, want, d.next[flow.Reply], flags)
			}
		}
		hold("22")
		follow(stack.ACK, "0 wait\r\n", "220 wait\r\n")
		follow(stack.ACK, "0 wait\r\n", "220 wait\r\n") // the first was lost
		d.seq[flow.Reply] += uint32(len("0 wait\r\n"))
		d.next[flow.Reply] += uint32(len("220 wait\r\n"))
		d.say(flow.Forward, "NOOP\r\n")
		hold("229 (|||")
		for range 2 {
			follow(stack.ACK|stack.FIN, "", "229 (|||")
		}
		d.seq[flow.Reply]++
		d.next[flow.Reply] += uint32(len("229 (|||") + 1)
		d.say(flow.Forward, "QUIT\r\n")
	})
}

// FIN that is ahead of what is missing waits for it: that may become longer.
func TestFTPEndAhead(t *testing.T) {
	w := ftpWorld(t, worldSpec{})
	d := w.dial(40000)
	d.say(flow.Forward, "PASV\r\n")
	line := entering(d.server())
	s := d.segment(flow.Reply, stack.ACK|stack.FIN, "")
	s.Seq += uint32(len(line))
	v, left := d.step(in, s.Frame())
	w.none(v, left, DropFTP)
	d.say(flow.Reply, line)
	p, f := d.must(flow.Reply, stack.ACK|stack.FIN, "", nil)
	if seq, _ := p.Numbers(f.Bytes()); seq != d.next[flow.Reply] {
		t.Errorf("FIN is numbered %d, want %d", seq, d.next[flow.Reply])
	}
}

// When a line that came in pieces was lost on its way to the client, the piece that the server sends again first brings it, whichever that is.
func TestFTPSplitAnswerLost(t *testing.T) {
	w := ftpWorld(t, worldSpec{})
	d := w.dial(40000)
	d.say(flow.Forward, "PASV\r\n")
	line := entering(d.server())
	want := entering(w.spec.addr(1, 100))
	first := d.seq[flow.Reply]
	for i, cut := range [][2]int{{0, 5}, {5, 9}, {9, len(line)}, {5, 9}, {0, 5}, {5, len(line)}} {
		d.seq[flow.Reply] = first + uint32(cut[0])
		_, left := d.step(in, d.segment(flow.Reply, stack.ACK, line[cut[0]:cut[1]]).Frame())
		p, f := parsed(t, &left[0].frame), &left[0].frame
		seq, _ := p.Numbers(f.Bytes())
		text, frames := want, 1
		if i < 2 {
			text, frames = "", 2
		}
		if got := string(p.Payload(f.Bytes())); seq != d.next[flow.Reply] || got != text || len(left) != frames {
			t.Errorf("%q becomes %q, number %d, %d frames", line[cut[0]:cut[1]], got, seq, len(left))
		}
	}
	d.seq[flow.Reply] = first + uint32(len(line))
	d.next[flow.Reply] += uint32(len(want))
	d.say(flow.Forward, "NOOP\r\n")
}

// A server that asks whether the client is still there, by the number of a byte that is held, is answered: the client is asked by one that it has.
func TestFTPProbeOfHeld(t *testing.T) {
	w := ftpWorld(t, worldSpec{})
	d := w.dial(40000)
	d.say(flow.Forward, "PASV\r\n")
	d.step(in, d.segment(flow.Reply, stack.ACK, "227").Frame())
	for back := range uint32(5) {
		p, f := d.must(flow.Reply, stack.ACK, "", func(s *packettest.Spec) { s.Seq += 3 - back })
		want := d.next[flow.Reply] - min(back, 1)
		if seq, _ := p.Numbers(f.Bytes()); seq != want {
			t.Errorf("the client is asked %d in front of what it expects, want %d", d.next[flow.Reply]-seq, d.next[flow.Reply]-want)
		}
	}
}

// A command that comes in pieces, or with others, is understood, and passes as it is.
func TestFTPSplitCommand(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		w := ftpWorld(t, worldSpec{family: family})
		d := w.dial(40000)
		to := netip.AddrPortFrom(w.spec.client().Addr(), 41000)
		for _, piece := range []string{"NOOP\r\nEP", eprt(to)[2:9], eprt(to)[9:] + "STOR x\r\n"} {
			if got := d.say(flow.Forward, piece); got != piece {
				t.Fatalf("%q became %q", piece, got)
			}
		}
		s := w.base(in, netip.AddrPortFrom(d.server(), 4000), to)
		s.SrcMAC, s.Flags = d.mac, stack.SYN
		v, left := w.step(in, s.Frame())
		w.one(v, left, RepliedNAT, ext)
	})
}

// A segment that is ahead of one that is missing has to be sent again: it might hold the end of a line.
func TestFTPAhead(t *testing.T) {
	w := ftpWorld(t, worldSpec{})
	d := w.dial(40000)
	s := d.segment(flow.Reply, stack.ACK, "ahead\r\n")
	s.Seq += 10
	v, left := w.step(in, s.Frame())
	w.none(v, left, DropFTP)
	d.say(flow.Reply, "0123456789")
	if v, left = w.step(in, s.Frame()); v != RepliedNAT || len(left) != 1 {
		t.Errorf("then: %v", v)
	}
}

// A segment with a wrong checksum passes, wrong as it is, and nothing in it is believed.
func TestFTPDamaged(t *testing.T) {
	w := ftpWorld(t, worldSpec{})
	d := w.dial(40000)
	f := d.segment(flow.Forward, stack.ACK, "PORT "+six(netip.AddrPortFrom(w.spec.client().Addr(), 41000))+"\r\n").Frame()
	f.Bytes()[f.Len()-4] ^= 1
	k := w.worker(ext)
	if v := k.one(&f); v != ForwardedNAT {
		t.Fatal(v)
	}
	p := parsed(t, &f)
	if k.flush(); stack.ChecksumOK(&f, &p) {
		t.Error("the checksum was mended")
	}
	if s := w.ftp.Stats(); s.ActiveExpected != 0 || s.Malformed != 0 {
		t.Errorf("%+v", s)
	}
	d.say(flow.Forward, "NOOP, in its place\r\n")
	d.say(flow.Forward, "PASV\r\n")
	for i, s := range []packettest.Spec{d.segment(flow.Forward, stack.ACK, ""), d.segment(flow.Reply, stack.ACK|stack.FIN, "")} {
		s.Ack += 1000
		f := s.Frame()
		f.Bytes()[f.Len()-5] ^= 1 // of the window
		k = w.worker(i)
		k.one(&f)
		k.flush()
	}
	if _, left := d.step(in, d.segment(flow.Reply, stack.ACK, "227").Frame()); len(left) != 2 {
		t.Errorf("a held piece is not acknowledged: %d frames", len(left))
	}
}

// Addresses that are not their sender's, answers that nobody asked for and what is no address are not followed, and pass as they are.
func TestFTPIsNotFollowed(t *testing.T) {
	w := ftpWorld(t, worldSpec{})
	d := w.dial(40000)
	other, own := netip.AddrPortFrom(w.spec.addr(1, 9), 22), netip.AddrPortFrom(w.spec.client().Addr(), 41000)
	for _, line := range []string{"PORT " + six(other) + "\r\n", eprt(other), "PORT 1,2,3\r\n", "EPRT |3|x|1|\r\n"} {
		if got := d.say(flow.Forward, line); got != line {
			t.Errorf("%q became %q", line, got)
		}
	}
	answers := []string{entering(d.server()), "229 (|||50000|)\r\n"}
	for _, line := range answers {
		if got := d.say(flow.Reply, line); got != line {
			t.Errorf("%q became %q", line, got)
		}
	}
	d.say(flow.Forward, "PASV\r\nPASV\r\n")
	for _, line := range []string{"227 (" + six(other) + ")\r\n", "227 none\r\n", answers[1]} {
		d.say(flow.Reply, line)
	}
	if s := w.ftp.Stats(); s.Foreign != 3 || s.Malformed != 3 || s.Unasked != 3 || s.Expectations != 0 || w.ftp.Waiting() {
		t.Errorf("%+v", s)
	}
	// A server that says the VIP, as administrators have told it, is right.
	d.say(flow.Forward, "PASV\r\n")
	line := entering(w.spec.addr(1, 100))
	if got := d.say(flow.Reply, line); got != line || w.ftp.Stats().Expectations != 1 {
		t.Errorf("%q became %q", line, got)
	}
	d.say(flow.Forward, eprt(own))
	if s := w.ftp.Stats(); s.Expectations != 1 || s.Expired != 1 {
		t.Errorf("the second announcement did not take the place of the first: %+v", s)
	}
	s := w.base(in, netip.AddrPortFrom(d.server(), 7999), other)
	s.SrcMAC, s.Flags = d.mac, stack.SYN
	if v, _ := w.step(in, s.Frame()); v == RepliedNAT {
		t.Error("the server reached somebody else as the VIP")
	}
}

// A port of the VIP that a service listens on, or that another server told the same client, is not announced again: another is, and leads to the right server.
func TestFTPPortsClash(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		spec := worldSpec{family: family, servers: 2}
		spec.setDefaults()
		spec.tail = fmt.Sprintf("[[service]]\nname = \"busy\"\nlisten = [%q, \"%v-50009\"]\n[[service.server]]\naddress = %q\nmac = %q\n",
			netip.AddrPortFrom(spec.addr(1, 100), 50000), netip.AddrPortFrom(spec.addr(1, 100), 50002), netip.AddrPortFrom(spec.addr(2, 31), 80), mac(serverMAC(20)))
		w := ftpWorld(t, spec)
		a, b := w.dial(40000), w.dial(40001)
		if a.server() == b.server() {
			t.Fatal("one server")
		}
		if told := a.passive(50000); told != 50001 {
			t.Errorf("a is told %d", told)
		}
		if told := b.passive(50000); told != 50010 {
			t.Errorf("b is told %d", told)
		}
		for _, tc := range []struct {
			d    *dialogue
			from uint16
			to   uint16
		}{{b, 42000, 50010}, {a, 42001, 50001}} {
			_, left := tc.d.connect(tc.from, tc.to)
			if len(left) != 1 {
				t.Fatal("no data connection")
			}
			if p := parsed(t, &left[0].frame); endpoint(p.Dst, p.DstPort) != netip.AddrPortFrom(tc.d.server(), 50000) {
				t.Errorf("to %v, want %v", endpoint(p.Dst, p.DstPort), tc.d.server())
			}
		}
		if s := w.ftp.Stats(); s.PortsChanged != 2 || s.NoPort != 0 {
			t.Errorf("%+v", s)
		}
		a.say(flow.Reply, "150 the numbers go on\r\n")
		a.say(flow.Forward, "NOOP\r\n")
	})
}

// The data connection is expected only from the client, only for a while, and also at a server that gets no new clients.
func TestFTPExpectation(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		w := ftpWorld(t, worldSpec{family: family, servers: 1})
		d := w.dial(40000)
		w.view.Load().servers[0].Weight.Store(0)
		d.passive(50000)
		s := w.base(ext, netip.AddrPortFrom(w.spec.addr(1, 9), 1000), netip.AddrPortFrom(w.spec.addr(1, 100), 50000))
		s.Flags = stack.SYN
		if v, _ := w.step(ext, s.Frame()); v != SentReset {
			t.Errorf("somebody else: %v", v)
		}
		if v, _ := d.connect(41000, 50000); v != ForwardedNAT {
			t.Errorf("the client: %v", v)
		}
		d.passive(50001)
		w.pass(121e9)
		if v, _ := d.connect(41001, 50001); v != SentReset || w.ftp.Stats().Expired != 1 || w.ftp.Waiting() {
			t.Errorf("too late: %v, %+v", v, w.ftp.Stats())
		}
	})
}

// A control connection is kept while its data connection lives, though nobody says a word on it; then it ends, and nothing is left.
func TestFTPControlIsKept(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		w := ftpWorld(t, worldSpec{family: family, servers: 1})
		d := w.dial(40000)
		d.passive(50000)
		d.connect(41000, 50000)
		data := w.base(ext, netip.AddrPortFrom(d.spec.client().Addr(), 41000), netip.AddrPortFrom(d.spec.addr(1, 100), 50000))
		data.Flags = stack.ACK
		for range 5 {
			w.step(ext, data.Frame())
			w.pass(800e9)
		}
		if w.table.Len() != 2 {
			t.Fatalf("%d connections, want both", w.table.Len())
		}
		d.say(flow.Reply, "226 done\r\n")
		w.pass(2000e9)
		if s := w.ftp.Stats(); w.table.Len() != 0 || s.Sessions != 0 || s.Expectations != 0 {
			t.Errorf("%d connections are left, %+v", w.table.Len(), s)
		}
	})
}

// After AUTH TLS, and the server's consent, nothing is read nor changed, whatever it looks like.
func TestFTPWithTLS(t *testing.T) {
	w := ftpWorld(t, worldSpec{})
	d := w.dial(40000)
	d.say(flow.Forward, "PASV\r\nAUTH TLS\r\n")
	d.say(flow.Reply, "234 go ahead\r\n")
	for _, text := range []string{"\x16\x03\x01binary\n227 (" + six(netip.AddrPortFrom(d.server(), 50000)) + ")\r\n", "229 (|||50000|)\r\n"} {
		if got := d.say(flow.Reply, text); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
	d.say(flow.Forward, eprt(netip.AddrPortFrom(w.spec.client().Addr(), 41000)))
	if s := w.ftp.Stats(); s.Expectations != 0 || s.Encrypted != 1 || s.PassiveExpected != 0 {
		t.Errorf("%+v", s)
	}
	d.must(flow.Reply, stack.ACK, "what is missing in front of it cannot change", func(s *packettest.Spec) { s.Seq += 10 })
}

// The consent is read in pieces too, when no answer is held that an address is in.
func TestFTPWithTLSSplit(t *testing.T) {
	w := ftpWorld(t, worldSpec{})
	d := w.dial(40000)
	d.say(flow.Forward, "AUTH TLS\r\n")
	for _, piece := range []string{"2", "34 go", " ahead\r\n"} {
		if got := d.say(flow.Reply, piece); got != piece {
			t.Errorf("%q became %q", piece, got)
		}
	}
	if s := w.ftp.Stats(); s.Encrypted != 1 {
		t.Errorf("%+v", s)
	}
}

// What grows beyond the way out is answered, with the size that would fit.
func TestFTPTooBig(t *testing.T) {
	w := ftpWorld(t, worldSpec{})
	d := w.dial(40000)
	d.say(flow.Forward, "PASV\r\n")
	answer := entering(d.server())
	long := strings.Repeat("220-x\r\n", 300)[:1460-len(answer)-2] + "\r\n" + answer
	s := d.segment(flow.Reply, stack.ACK, long)
	v, left := w.step(in, s.Frame())
	if v != SentTooBig || len(left) != 1 || left[0].iface != in {
		t.Fatalf("%v", v)
	}
	d.say(flow.Reply, long[:700])
	if got := d.say(flow.Reply, long[700:]); !strings.Contains(got, six(netip.AddrPortFrom(w.spec.addr(1, 100), 50000))) {
		t.Errorf("in pieces: %q", got)
	}
}

// SACK blocks, and the packets that ICMP errors quote, are numbered as the server knows them.
func TestFTPNumbersElsewhere(t *testing.T) {
	w := ftpWorld(t, worldSpec{})
	d := w.dial(40000)
	d.say(flow.Forward, "PASV\r\n")
	d.say(flow.Reply, entering(d.server()))
	if d.next[flow.Reply] == d.seq[flow.Reply] {
		t.Fatal("the length is the same: the test says nothing")
	}
	sack := []byte{1, 1, 5, 10, 0, 0, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint32(sack[4:], d.next[flow.Reply]+10)
	binary.BigEndian.PutUint32(sack[8:], d.next[flow.Reply]+20)
	p, f := d.must(flow.Forward, stack.ACK, "", func(s *packettest.Spec) { s.TCPOptions = sack })
	var edges [stack.MaxSACKs]uint32
	if n, _ := p.SACKs(f.Bytes(), &edges); n != 2 || edges[0] != d.seq[flow.Reply]+10 || edges[1] != d.seq[flow.Reply]+20 {
		t.Errorf("%d edges, %d to %d behind the server's next byte, want 10 to 20", n, edges[0]-d.seq[flow.Reply], edges[1]-d.seq[flow.Reply])
	}
	_, f = d.must(flow.Reply, stack.ACK, "150 on its way\r\n", nil)
	e := w.base(ext, netip.AddrPortFrom(w.spec.addr(1, 254), 0), netip.AddrPortFrom(w.spec.addr(1, 100), 0))
	e.Proto, e.ICMPType, e.ICMPCode, e.Payload = stack.ProtoICMP, 3, 4, f.Bytes()[14:42]
	v, left := w.step(ext, e.Frame())
	q, g := w.one(v, left, RelayedICMP, in)
	var inner stack.Packet
	if !q.Inner(g.Bytes(), &inner) {
		t.Fatal("no quote")
	}
	if seq := binary.BigEndian.Uint32(g.Bytes()[inner.L4+4:]); seq != d.seq[flow.Reply] {
		t.Errorf("the error quotes %d, the server sent %d", seq, d.seq[flow.Reply])
	}
}

// Superpackets and unfinished checksums are edited as they are, and a superpacket of which one segment is left is none.
func TestFTPSuperpackets(t *testing.T) {
	for _, size := range []int{40, 200} {
		w := ftpWorld(t, worldSpec{})
		d := w.dial(40000)
		d.say(flow.Forward, "PASV\r\n")
		text := "211-" + strings.Repeat("status ", 20) + "\r\n227 (" + six(netip.AddrPortFrom(d.server(), 50000)) + ")\r\n"
		p, f := d.must(flow.Reply, stack.ACK, text, func(s *packettest.Spec) {
			if s.Partial = true; size < len(text) {
				s.GSOSize = size
			}
		})
		if got := string(p.Payload(f.Bytes())); !strings.HasSuffix(got, "("+six(netip.AddrPortFrom(w.spec.addr(1, 100), 50000))+")\r\n") || f.Header.Super() != (size == 40) || !f.Header.Partial() {
			t.Errorf("%q, %+v", got, f.Header)
		}
	}
}

// Segments of a control connection allocate nothing, read or not.
func TestFTPAllocatesNothing(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		w := ftpWorld(t, worldSpec{family: family})
		d := w.dial(40000)
		d.passive(50000)
		template := [2]tap.Frame{d.segment(flow.Forward, stack.ACK, "").Frame(), d.segment(flow.Reply, stack.ACK, "").Frame()}
		frames := [2]tap.Frame{template[0].Clone(), template[1].Clone()}
		for i := range frames {
			k := w.worker(i)
			if n := testing.AllocsPerRun(100, func() {
				copy(frames[i].Bytes(), template[i].Bytes())
				k.one(&frames[i])
				k.flush()
			}); n != 0 {
				t.Errorf("direction %d: %v allocations", i, n)
			}
		}
		line := strings.Repeat("NOOP\r\n", 10)
		read := func() {
			f := d.segment(flow.Forward, stack.ACK, line).Frame()
			d.seq[flow.Forward] += uint32(len(line))
			k := w.worker(ext)
			k.one(&f)
			k.flush()
		}
		var kept *tap.Frame
		build := func() {
			f := d.segment(flow.Forward, stack.ACK, line).Frame()
			kept = &f
		}
		if a, b := testing.AllocsPerRun(100, build), testing.AllocsPerRun(100, read); b > a {
			t.Errorf("%v allocations, of which %v make the segment", b, a)
		}
		_ = kept
	})
}
