package cli

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"tapdirector/integration"
	"tapdirector/stack"
	"tapdirector/stack/packettest"
)

// scene is a stage and what was seen on it, made by hand.
type scene struct {
	*stage
	client, server netip.AddrPort
	seen           []sighting
}

func newScene(t *testing.T, method string, family int) *scene {
	s, _ := fakeStage(t, integration.Spec{Method: method, Family: family, Servers: 2})
	return &scene{
		stage:  s,
		client: netip.AddrPortFrom(s.plan.Client.Addr(), 40000),
		server: netip.AddrPortFrom(s.plan.Servers[0].Addr(), s.plan.Servers[0].Listen.Port()),
	}
}

// macAt is the hardware address of a host on a LAN.
func (s *scene) macAt(host, lan string) stack.MAC {
	for _, i := range s.plan.Interfaces {
		if host == "director" && i.Name == lan {
			return i.MAC
		}
	}
	m, _ := net.ParseMAC(fakeMAC(host, lan))
	return stack.MAC(m)
}

// hop adds the two sightings of a frame that goes from one host to another.
func (s *scene) hop(lan, from, to string, p packettest.Spec) {
	p.SrcMAC, p.DstMAC = s.macAt(from, lan), s.macAt(to, lan)
	s.at(from, lan, true, p.Bytes())
	s.at(to, lan, false, p.Bytes())
}

// at adds a sighting, a millisecond after the last.
func (s *scene) at(host, lan string, out bool, frame []byte) {
	when := time.Unix(1000, 0).Add(time.Duration(len(s.seen)) * time.Millisecond)
	s.seen = append(s.seen, sighting{host: host, lan: lan, out: out, when: when, frame: frame})
}

func (s *scene) trace() []passage {
	return trace(s.seen, net.TCPAddrFromAddrPort(s.client), macNames(s.stage, s.seen))
}

// nat adds a handshake's first two packets, translated.
func (s *scene) nat() {
	syn := packettest.Spec{Src: s.client, Dst: s.VIP(), Flags: stack.SYN, Seq: 100}
	s.hop("ext", "client", "director", syn)
	syn.Dst, syn.TTL = s.server, 63
	s.hop("int", "director", "s1", syn)
	answer := packettest.Spec{Src: s.server, Dst: s.client, Flags: stack.SYN | stack.ACK, Seq: 500, Ack: 101}
	s.hop("int", "s1", "director", answer)
	answer.Src, answer.TTL = s.VIP(), 63
	s.hop("ext", "director", "client", answer)
}

// dr adds a datagram and its answer, past the director.
func (s *scene) dr() {
	question := packettest.Spec{Proto: packettest.UDP, Src: s.client, Dst: s.VIP(), Payload: []byte("who?")}
	s.hop("ext", "client", "director", question)
	question.TTL = 63
	s.hop("int", "director", "s1", question)
	s.hop("ext", "s1", "client", packettest.Spec{Proto: packettest.UDP, Src: s.VIP(), Dst: s.client, Payload: []byte("me")})
}

// way is where a packet was seen.
func way(p passage) string {
	var places []string
	for _, s := range p.steps {
		places = append(places, s.host+"/"+s.lan)
	}
	return strings.Join(places, " ")
}

func TestTraceFollowsPackets(t *testing.T) {
	for _, family := range []int{4, 6} {
		s := newScene(t, "nat", family)
		s.nat()
		got := s.trace()
		if len(got) != 2 {
			t.Fatalf("IPv%d: %d packets, want 2: %+v", family, len(got), got)
		}
		for i, want := range []struct {
			label, way string
			forward    bool
		}{
			{"SYN", "client/ext director/ext director/int s1/int", true},
			{"SYN ACK", "s1/int director/int director/ext client/ext", false},
		} {
			if got[i].label != want.label || way(got[i]) != want.way || got[i].forward != want.forward {
				t.Errorf("IPv%d packet %d: %s by %s, want %+v", family, i, got[i].label, way(got[i]), want)
			}
		}
		d := newScene(t, "dr", family)
		d.dr()
		got = d.trace()
		if len(got) != 2 || got[1].passes("director") || got[0].label != "datagram, 4 bytes" || way(got[1]) != "s1/ext client/ext" {
			t.Errorf("IPv%d: dr: %+v", family, got)
		}
	}
}

// A repetition is a packet of its own; what was flooded, what belongs to others and what is no IP is left out.
func TestTraceLeavesOut(t *testing.T) {
	s := newScene(t, "nat", 4)
	s.nat()
	s.nat()
	if got := s.trace(); len(got) != 4 {
		t.Errorf("a repeated handshake has %d packets, want 4", len(got))
	}
	s = newScene(t, "nat", 4)
	s.nat()
	flood := slices.Clone(s.seen[2].frame)
	s.at("s2", "int", false, flood)
	other := packettest.Spec{Src: netip.AddrPortFrom(s.client.Addr(), 40001), Dst: s.VIP()}
	s.hop("ext", "client", "director", other)
	s.at("client", "ext", true, []byte{1, 2, 3})
	arp := packettest.ARP(1, s.macAt("client", "ext"), stack.MAC{}, s.client.Addr(), s.VIP().Addr())
	s.at("client", "ext", true, arp.Bytes())
	if got := s.trace(); len(got) != 2 || len(got[0].steps) != 4 {
		t.Errorf("%+v: want the two packets, seen four times each", got)
	}
	if got := trace(s.seen, nil, nil); got != nil {
		t.Errorf("without a client: %v", got)
	}
}

// A lab in memory knows no hardware addresses: hosts show them by what they send, and by what they alone receive.
func TestNamesAreLearned(t *testing.T) {
	s := newScene(t, "dr", 4)
	s.mac = func(string, string) string { return "" }
	s.dr()
	names := macNames(s.stage, s.seen)
	for _, c := range []struct{ host, lan string }{{"client", "ext"}, {"director", "ext"}, {"director", "int"}, {"s1", "int"}, {"s1", "ext"}} {
		if got := names[s.macAt(c.host, c.lan)]; got != c.host {
			t.Errorf("%s on %s is called %q", c.host, c.lan, got)
		}
	}
}

func TestPacketLabel(t *testing.T) {
	for _, c := range []struct {
		flags   uint8
		payload int
		want    string
	}{
		{stack.SYN, 0, "SYN"},
		{stack.SYN | stack.ACK, 0, "SYN ACK"},
		{stack.ACK | stack.PSH, 12, "ACK 12 bytes"},
		{stack.FIN | stack.ACK, 0, "FIN ACK"},
		{stack.RST, 0, "RST"},
	} {
		p := &stack.Packet{Own: stack.Own{TCPFlags: c.flags}}
		p.Proto = stack.ProtoTCP
		if got := packetLabel(p, c.payload); got != c.want {
			t.Errorf("flags %#x: %q, want %q", c.flags, got, c.want)
		}
	}
}

const natPicture = `
The first request's packets as they passed (* = changed since the point before)
-------------------------------------------------------------------------------

  SYN, client to server

    client nic-ext out      client 02:65:00:00:00:74    >  director 02:00:00:00:aa:01
                            10.77.1.2:40000             >  10.77.1.100:80               ttl 64
      |
    director tap-ext in       the same
      |
    director tap-int out   *director 02:00:00:00:aa:02  > *s1 02:69:00:00:00:31
                            10.77.1.2:40000             > *10.77.2.11:8000             *ttl 63
      |
    s1 nic-int in             the same

  SYN ACK, server to client

    s1 nic-int out          s1 02:69:00:00:00:31        >  director 02:00:00:00:aa:02
                            10.77.2.11:8000             >  10.77.1.2:40000              ttl 64
      |
    director tap-int in       the same
      |
    director tap-ext out   *director 02:00:00:00:aa:01  > *client 02:65:00:00:00:74
                           *10.77.1.100:80              >  10.77.1.2:40000             *ttl 63
      |
    client nic-ext in         the same

    The answer came back through the director.

All 2 packets of that connection; times in ms
---------------------------------------------

  SYN, client to server
     0.000  client nic-ext out   client > director   10.77.1.2:40000 >  10.77.1.100:80
     1.000  director tap-ext in  client > director   10.77.1.2:40000 >  10.77.1.100:80
     2.000  director tap-int out *director > s1       10.77.1.2:40000 > *10.77.2.11:8000
     3.000  s1 nic-int in        director > s1       10.77.1.2:40000 >  10.77.2.11:8000

  SYN ACK, server to client
     4.000  s1 nic-int out       s1 > director       10.77.2.11:8000 >  10.77.1.2:40000
     5.000  director tap-int in  s1 > director       10.77.2.11:8000 >  10.77.1.2:40000
     6.000  director tap-ext out *director > client  *10.77.1.100:80  >  10.77.1.2:40000
     7.000  client nic-ext in    director > client   10.77.1.100:80  >  10.77.1.2:40000
`

const drPicture6 = `
The first request's packets as they passed (* = changed since the point before)
-------------------------------------------------------------------------------

  datagram, 4 bytes, client to server

    client nic-ext out      client 02:65:00:00:00:74    >  director 02:00:00:00:aa:01
                            [2001:db8:77:1::2]:40000    >  [2001:db8:77:1::100]:80      ttl 64
      |
    director tap-ext in       the same
      |
    director tap-int out   *director 02:00:00:00:aa:02  > *s1 02:69:00:00:00:31
                            [2001:db8:77:1::2]:40000    >  [2001:db8:77:1::100]:80     *ttl 63
      |
    s1 nic-int in             the same

  datagram, 2 bytes, server to client

    s1 nic-ext out          s1 02:65:00:00:00:31        >  client 02:65:00:00:00:74
                            [2001:db8:77:1::100]:80     >  [2001:db8:77:1::2]:40000     ttl 64
      |
    client nic-ext in         the same

    The answer did not pass the director.
`

func TestTracePictures(t *testing.T) {
	for _, c := range []struct {
		method string
		family int
		want   string
	}{{"nat", 4, natPicture}, {"dr", 6, drPicture6}} {
		s := newScene(t, c.method, c.family)
		if c.method == "nat" {
			s.nat()
		} else {
			s.dr()
		}
		var b bytes.Buffer
		drawTrace(&page{w: &b}, s.stage, s.seen, net.TCPAddrFromAddrPort(s.client))
		if got := b.String(); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s over IPv%d:\n%s\nwant:\n%s", c.method, c.family, got, c.want)
		}
	}
}

// On a terminal a change is bold too, and columns stay where they are.
func TestTraceCellOnATerminal(t *testing.T) {
	d := &traceDrawing{bold: true}
	if got := d.cell("x", true, 4); got != "\x1b[1;33m*x  \x1b[0m" {
		t.Errorf("%q", got)
	}
	if got := d.cell("x", false, 4); got != " x  " {
		t.Errorf("%q", got)
	}
}

func TestRecorder(t *testing.T) {
	r := &recorder{}
	r.see("client/ext", "out", []byte{1})
	stop, err := r.start()
	if err != nil {
		t.Fatal(err)
	}
	frame := []byte{2}
	r.see("director/int", "in", frame)
	frame[0] = 3 // the recorder must not keep what is borrowed
	got := stop()
	r.see("client/ext", "out", []byte{4})
	if len(got) != 1 || got[0].host != "director" || got[0].lan != "int" || got[0].out || got[0].frame[0] != 2 {
		t.Errorf("%+v", got)
	}
}

// What a tunnel carries is the packet; anything else is left as it is.
func TestUnwrapped(t *testing.T) {
	for _, c := range []struct {
		src, dst, from, to string
		proto              uint8
	}{
		{"10.77.1.2:1", "10.77.1.100:80", "10.77.2.1:0", "10.77.2.11:0", 4},
		{"[fd77:1::2]:1", "[fd77:1::100]:80", "10.77.2.1:0", "10.77.2.11:0", 41},
		{"10.77.1.2:1", "10.77.1.100:80", "[fd77:2::1]:0", "[fd77:2::11]:0", 4},
		{"[fd77:1::2]:1", "[fd77:1::100]:80", "[fd77:2::1]:0", "[fd77:2::11]:0", 41},
	} {
		inner := packettest.Spec{Src: netip.MustParseAddrPort(c.src), Dst: netip.MustParseAddrPort(c.dst), Payload: []byte("x")}
		from, to := netip.MustParseAddrPort(c.from), netip.MustParseAddrPort(c.to)
		outer := packettest.Spec{Src: from, Dst: to, Proto: c.proto, Payload: inner.Bytes()[14:]}
		got, tunnel := unwrapped(outer.Bytes())
		if want := fmt.Sprintf("in ipip, %v > %v", from.Addr(), to.Addr()); !bytes.Equal(got, inner.Bytes()) || tunnel != want {
			t.Errorf("%s in %s: %q, want %q; %x", c.src, c.from, tunnel, want, got)
		}
		for _, b := range [][]byte{nil, inner.Bytes(), inner.Bytes()[:20], outer.Bytes()[:40]} {
			if got, tunnel := unwrapped(b); tunnel != "" || !bytes.Equal(got, b) {
				t.Errorf("%x is taken out of a tunnel", b)
			}
		}
	}
}
