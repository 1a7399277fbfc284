package memlan_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"tapdirector/integration"
	"tapdirector/integration/memlan"
	"tapdirector/integration/worldtest"
	"tapdirector/stack"
	"tapdirector/tap"
)

// A toy FTP: enough of both ends to move files by every command, with lines that come in pieces.

// ftpAddress is an address as PORT and 227 have it.
func ftpAddress(a netip.AddrPort) string {
	return fmt.Sprintf("%s,%d,%d", strings.ReplaceAll(a.Addr().String(), ".", ","), a.Port()>>8, a.Port()&255)
}

func parseFTPAddress(text string) (netip.AddrPort, error) {
	var n [6]byte
	if _, err := fmt.Sscanf(text, "%d,%d,%d,%d,%d,%d", &n[0], &n[1], &n[2], &n[3], &n[4], &n[5]); err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q: %w", text, err)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(n[:4])), uint16(n[4])<<8|uint16(n[5])), nil
}

// toyEnd is one end of a control connection.
type toyEnd struct {
	host   *memlan.Host
	conn   net.Conn
	r      *bufio.Reader
	pieces int // bytes of a write; 0: whole lines
}

func newToyEnd(h *memlan.Host, c net.Conn, pieces int) *toyEnd {
	return &toyEnd{h, c, bufio.NewReader(c), pieces}
}

// say writes a line, in pieces.
func (e *toyEnd) say(format string, args ...any) error {
	line := []byte(fmt.Sprintf(format, args...) + "\r\n")
	for len(line) > 0 {
		n := len(line)
		if e.pieces > 0 {
			n = min(n, e.pieces)
		}
		if _, err := e.conn.Write(line[:n]); err != nil {
			return err
		}
		line = line[n:]
	}
	return nil
}

// hear reads a line.
func (e *toyEnd) hear() (string, error) {
	line, err := e.r.ReadString('\n')
	return strings.TrimRight(line, "\r\n"), err
}

// toyServer serves FTP on a host until the test ends.
func toyServer(t *testing.T, h *memlan.Host, at netip.AddrPort, pieces int, content []byte) {
	l, err := h.Listen(at)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		all.Wait()
	})
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				stop := context.AfterFunc(t.Context(), func() { c.Close() })
				defer stop()
				if err := serveToy(t.Context(), newToyEnd(h, c, pieces), at.Addr(), content); err != io.EOF && t.Context().Err() == nil {
					t.Errorf("server: %v", err)
				}
			})
		}
	})
}

// serveToy answers commands until the client leaves.
func serveToy(ctx context.Context, e *toyEnd, own netip.Addr, content []byte) error {
	if err := e.say("220 toy"); err != nil {
		return err
	}
	var l net.Listener
	var to netip.AddrPort
	for {
		line, err := e.hear()
		if err != nil {
			return err
		}
		verb, argument, _ := strings.Cut(line, " ")
		switch strings.ToUpper(verb) {
		case "PASV", "EPSV":
			if l, err = e.host.Listen(netip.AddrPortFrom(own, 0)); err != nil {
				return err
			}
			at := netip.AddrPortFrom(own, netip.MustParseAddrPort(l.Addr().String()).Port())
			if verb == "EPSV" {
				err = e.say("229 Entering Extended Passive Mode (|||%d|)", at.Port())
			} else {
				err = e.say("227 Entering Passive Mode (%s).", ftpAddress(at))
			}
		case "PORT":
			if to, err = parseFTPAddress(argument); err == nil {
				err = e.say("200 ok")
			}
		case "EPRT":
			f := strings.Split(argument, "|")
			if to, err = netip.ParseAddrPort(net.JoinHostPort(f[2], f[3])); err == nil {
				err = e.say("200 ok")
			}
		case "RETR":
			err = sendToy(ctx, e, l, to, content)
			l = nil
		default:
			err = e.say("200 %s", verb)
		}
		if err != nil {
			return err
		}
	}
}

// sendToy sends the content on a data connection, which l accepts or which goes to an address.
func sendToy(ctx context.Context, e *toyEnd, l net.Listener, to netip.AddrPort, content []byte) (err error) {
	if err := e.say("150 here it comes"); err != nil {
		return err
	}
	var c net.Conn
	if l != nil {
		defer l.Close()
		stop := context.AfterFunc(ctx, func() { l.Close() })
		defer stop()
		c, err = l.Accept()
	} else {
		c, err = e.host.Dial(ctx, "tcp", to)
	}
	if err != nil {
		return err
	}
	if _, err := c.Write(content); err != nil {
		return err
	}
	c.Close()
	return e.say("226 done")
}

// expectLine reads a line that begins with a code.
func (e *toyEnd) expectLine(code string) (string, error) {
	line, err := e.hear()
	if err == nil && !strings.HasPrefix(line, code) {
		err = fmt.Errorf("%q, want %s", line, code)
	}
	return line, err
}

// fetchToy asks for the content by a command and returns it.
func fetchToy(ctx context.Context, e *toyEnd, verb string, vip, own netip.Addr) ([]byte, error) {
	var l net.Listener
	at := netip.AddrPortFrom(vip, 0)
	active := verb == "PORT" || verb == "EPRT"
	argument, code := "", "227"
	if active {
		var err error
		if l, err = e.host.Listen(netip.AddrPortFrom(own, 0)); err != nil {
			return nil, err
		}
		defer l.Close()
		stop := context.AfterFunc(ctx, func() { l.Close() })
		defer stop()
		at = netip.AddrPortFrom(own, netip.MustParseAddrPort(l.Addr().String()).Port())
		argument, code = " "+ftpAddress(at), "200"
	}
	switch {
	case verb == "EPRT" && own.Is4():
		argument = fmt.Sprintf(" |1|%v|%d|", own, at.Port())
	case verb == "EPRT":
		argument = fmt.Sprintf(" |2|%v|%d|", own, at.Port())
	case verb == "EPSV":
		code = "229"
	}
	if err := e.say("%s%s", verb, argument); err != nil {
		return nil, err
	}
	line, err := e.expectLine(code)
	if err != nil {
		return nil, err
	}
	if !active {
		var port uint16
		if inside := line[strings.IndexByte(line, '(')+1:]; code == "227" {
			if at, err = parseFTPAddress(inside); err == nil && at.Addr() != vip {
				err = fmt.Errorf("told %v, want the VIP", at)
			}
		} else if _, err = fmt.Sscanf(inside, "|||%d|", &port); err == nil {
			at = netip.AddrPortFrom(vip, port)
		}
		if err != nil {
			return nil, err
		}
	}
	return receiveToy(ctx, e, l, at)
}

// receiveToy takes what comes on the data connection.
func receiveToy(ctx context.Context, e *toyEnd, l net.Listener, at netip.AddrPort) ([]byte, error) {
	if err := e.say("RETR x"); err != nil {
		return nil, err
	}
	var c net.Conn
	var err error
	if l == nil {
		c, err = e.host.Dial(ctx, "tcp", at)
	} else {
		c, err = l.Accept()
	}
	if err != nil {
		return nil, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	b, err := io.ReadAll(c)
	if err != nil {
		return nil, err
	}
	for _, code := range []string{"150", "226"} {
		if _, err := e.expectLine(code); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// TestFTP moves files by every command on one control connection after the other, whole lines and lines in pieces, on a wire that loses and doubles.
func TestFTP(t *testing.T) {
	for _, method := range []string{"nat", "fullnat"} {
		for _, family := range []int{4, 6} {
			for _, offload := range []bool{false, true} {
				for _, pieces := range []int{0, 7} {
					for _, lossy := range []bool{false, true} {
						if lossy && (offload || method != "nat") {
							continue
						}
						s := integration.Spec{Method: method, Family: family, Servers: 2, Offload: offload}
						t.Run(fmt.Sprintf("%v/pieces=%d/lossy=%v", s, pieces, lossy), func(t *testing.T) {
							t.Parallel()
							tryToyFTP(t, s, pieces, lossy)
						})
					}
				}
			}
		}
	}
}

func tryToyFTP(t *testing.T, s integration.Spec, pieces int, lossy bool) {
	plan, err := integration.NewPlan(s)
	if err != nil {
		t.Fatal(err)
	}
	vip := netip.AddrPortFrom(plan.VIP.Addr(), 21)
	s.Extra = fmt.Sprintf("[[service]]\nname = \"ftp\"\nlisten = %q\nmethod = %q\nscheduler = \"rr\"\nftp = true\n", vip, s.Method)
	for _, h := range plan.Servers {
		s.Extra += fmt.Sprintf("[[service.server]]\naddress = %q\n", netip.AddrPortFrom(h.Listen.Addr(), 21))
	}
	w := newWorld(t, s)
	lines := 1000
	if worldtest.RaceEnabled || lossy { // What is lost waits for longer and longer timers.
		lines = 200
	}
	content := bytes.Repeat([]byte("0123456789abcdef\n"), lines)
	for i, h := range plan.Servers {
		toyServer(t, w.Host(i), netip.AddrPortFrom(h.Listen.Addr(), 21), pieces, content)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 16*timeout)
	defer cancel()
	ends := []*toyEnd{dialToy(ctx, t, w, vip, pieces), dialToy(ctx, t, w, vip, pieces)}
	if lossy {
		w.Disturb(disturb())
	}
	var all sync.WaitGroup
	for _, e := range ends {
		all.Go(func() {
			if err := sessionToy(ctx, w, e, vip.Addr(), content); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if counterOf(w, "ftp_connections") == 0 || counterOf(w, "ftp_malformed")+counterOf(w, "ftp_foreign")+counterOf(w, "ftp_unasked") > 0 {
		t.Errorf("counters: %v", w.Counters())
	}
}

// dialToy opens a control connection, up to its greeting; it is closed when ctx ends.
func dialToy(ctx context.Context, t *testing.T, w *memlan.World, vip netip.AddrPort, pieces int) *toyEnd {
	c, err := w.Client().Dial(ctx, "tcp", vip)
	if err != nil {
		t.Fatal(err)
	}
	context.AfterFunc(ctx, func() { c.Close() })
	e := newToyEnd(w.Client(), c, pieces)
	if _, err := e.expectLine("220"); err != nil {
		t.Fatal(err)
	}
	return e
}

// sessionToy fetches the content by every command that works, twice, and closes the control connection.
func sessionToy(ctx context.Context, w *memlan.World, e *toyEnd, vip netip.Addr, content []byte) error {
	defer e.conn.Close()
	for range 2 {
		for _, verb := range []string{"PASV", "EPSV", "PORT", "EPRT"} {
			only4, active := verb == "PASV" || verb == "PORT", verb == "PORT" || verb == "EPRT"
			if only4 && !vip.Is4() || active && w.Plan.Spec.Method == "fullnat" {
				continue
			}
			got, err := fetchToy(ctx, e, verb, vip, w.Plan.Client.Addr())
			if err != nil {
				return fmt.Errorf("%s: %w", verb, err)
			}
			if !bytes.Equal(got, content) {
				return fmt.Errorf("%s: %d bytes, not those that were sent", verb, len(got))
			}
		}
	}
	return nil
}

// disturb loses one of 24 segments of control connections on each wire, and doubles one of 6. It is for connections that are open: where SYN, its answer or the answer
// to that are lost, a netstack measures round trips of seconds, and waits three times as long for what is lost later, with a director or without.
func disturb() func(*tap.Frame) int {
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(1, 2))
	return func(f *tap.Frame) int {
		g, p := f.Clone(), stack.Packet{}
		if stack.Parse(&g, &p) != stack.ReasonNone || p.Proto != stack.ProtoTCP || p.SrcPort != 21 && p.DstPort != 21 {
			return 1
		}
		mu.Lock()
		defer mu.Unlock()
		switch n := r.IntN(24); {
		case n == 0:
			return 0
		case n < 5:
			return 2
		}
		return 1
	}
}
