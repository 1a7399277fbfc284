package app

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// families are the loopback addresses that every test runs over.
var families = map[string]string{"IPv4": "127.0.0.1:0", "IPv6": "[::1]:0"}

// overLoopback runs test for each family with a served TCP listener and UDP socket.
func overLoopback(t *testing.T, test func(t *testing.T, s *Server, tcp, udp string)) {
	for family, address := range families {
		t.Run(family, func(t *testing.T) {
			s := &Server{Name: "s1", Timeout: 10 * time.Second}
			l, err := net.Listen("tcp", address)
			if errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT) {
				t.Skipf("this system has no loopback address of %s: %v", family, err)
			}
			if err != nil {
				t.Fatal(err)
			}
			p, err := net.ListenPacket("udp", address)
			if err != nil {
				t.Fatal(err)
			}
			run(t, func(ctx context.Context) error { return s.Serve(ctx, l) })
			run(t, func(ctx context.Context) error { return s.ServePacket(ctx, p) })
			test(t, s, l.Addr().String(), p.LocalAddr().String())
		})
	}
}

// run starts a task that must return nil soon after the test cancelled it.
func run(t *testing.T, task func(ctx context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- task(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("task: %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("task does not end")
		}
	})
}

func dial(t *testing.T, network, address string) net.Conn {
	t.Helper()
	c, err := net.DialTimeout(network, address, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestManyRequestsOnOneConnection(t *testing.T) {
	overLoopback(t, func(t *testing.T, s *Server, tcp, _ string) {
		conn := dial(t, "tcp", tcp)
		c := NewClient(conn, 10*time.Second)
		want := Answer{Server: "s1", Remote: netip.MustParseAddrPort(conn.LocalAddr().String())}
		requests := map[string]func() (Answer, error){
			"WHO":          c.Who,
			"SINK":         func() (Answer, error) { return c.Sink(1<<20+7, 1) },
			"SINK none":    func() (Answer, error) { return c.Sink(0, 1) },
			"SOURCE":       func() (Answer, error) { return c.Source(1<<20+9, 2) },
			"SOURCE none":  func() (Answer, error) { return c.Source(0, 2) },
			"SOURCE again": func() (Answer, error) { return c.Source(10, 3) },
		}
		for name, request := range requests {
			if got, err := request(); err != nil || got != want {
				t.Errorf("%s = %v, %v; want %v", name, got, err, want)
			}
		}
		tally := Tally{Conns: 1, Requests: 6, In: 1<<20 + 7, Out: 1<<20 + 9 + 10}
		waitTally(t, s, tally)
		if got := s.Remotes()[want.Remote]; got != tally {
			t.Errorf("tally of %v = %+v, want %+v", want.Remote, got, tally)
		}
	})
}

// waitTally waits for what the server counts after its answer is already under way.
func waitTally(t *testing.T, s *Server, want Tally) {
	t.Helper()
	end := time.Now().Add(5 * time.Second)
	for s.Total() != want {
		if time.Now().After(end) {
			t.Fatalf("tally = %+v, want %+v", s.Total(), want)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestGet(t *testing.T) {
	overLoopback(t, func(t *testing.T, s *Server, tcp, _ string) {
		c := dial(t, "tcp", tcp)
		body, err := Get(c, 5*time.Second)
		want := fmt.Sprintf("hello from server s1, you are %s\n", c.LocalAddr())
		if err != nil || body != want {
			t.Errorf("Get = %q, %v; want %q", body, err, want)
		}
	})
}

func TestAsk(t *testing.T) {
	overLoopback(t, func(t *testing.T, s *Server, _, udp string) {
		c := dial(t, "udp", udp)
		sizes := []struct{ payload, want int }{{0, 0}, {1, 0}, {0, 1}, {1400, 1400}, {20000, 30000}}
		for i, size := range sizes {
			a, err := Ask(c, uint64(i), make([]byte, size.payload), size.want, 5*time.Second)
			if err != nil || a.Server != "s1" || a.Remote.String() != c.LocalAddr().String() {
				t.Errorf("Ask %+v = %v, %v", size, a, err)
			}
		}
		waitTally(t, s, Tally{Datagrams: uint64(len(sizes)), In: 21401, Out: 31401})
	})
}

// TestWrongRequests: each gets ERR or silence, then the end of the connection; the server lives on.
func TestWrongRequests(t *testing.T) {
	overLoopback(t, func(t *testing.T, s *Server, tcp, _ string) {
		for _, request := range []string{
			"HELLO\n", "\n", "SINK\n", "SINK x\n", "SINK -1\n", "SINK 99999999999999\n", "SOURCE 1\n", "SOURCE 1 x\n", "SOURCE x 1\n",
			strings.Repeat("x", 10000), "GET / HTTP/1.1\nHost: x\n" + strings.Repeat("y", 1000),
		} {
			c := dial(t, "tcp", tcp)
			c.SetDeadline(time.Now().Add(5 * time.Second))
			io.WriteString(c, request)
			b, err := io.ReadAll(c)
			if errors.Is(err, os.ErrDeadlineExceeded) || len(b) > 0 && !strings.HasPrefix(string(b), "ERR ") {
				t.Errorf("%.20q: %q, %v", request, b, err)
			}
		}
		if _, err := NewClient(dial(t, "tcp", tcp), 0).Who(); err != nil {
			t.Error(err)
		}
	})
}

func TestWrongDatagrams(t *testing.T) {
	s := &Server{Name: "s1"}
	from := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9}
	for _, request := range []string{"", "\n", "REQ", "REQ 1 1", "REQ 1\n", "REQ x 1\n", "REQ 1 x\n", "REQ 1 -1\n", "REQ 1 65507\n", "ANS 1 1\n"} {
		if b, _ := s.datagram([]byte(request), from); b != nil {
			t.Errorf("%q is answered: %q", request, b)
		}
	}
}

// TestClientNoticesWrongContent has a server that lies in each way that matters.
func TestClientNoticesWrongContent(t *testing.T) {
	for name, test := range map[string]struct {
		answer string
		ask    func(c *Client) error
	}{
		"no answer word": {"ERR no\n", func(c *Client) error { _, err := c.Who(); return err }},
		"no address":     {"WHO s1 nobody\n", func(c *Client) error { _, err := c.Who(); return err }},
		"end":            {"", func(c *Client) error { _, err := c.Who(); return err }},
		"wrong hash":     {"SINK s1 10.0.0.1:1 00\n", func(c *Client) error { _, err := c.Sink(3, 1); return err }},
		"no hash":        {"SINK s1 10.0.0.1:1\n", func(c *Client) error { _, err := c.Sink(3, 1); return err }},
		"wrong bytes":    {"SOURCE s1 10.0.0.1:1\nabc", func(c *Client) error { _, err := c.Source(3, 1); return err }},
		"few bytes":      {"SOURCE s1 10.0.0.1:1\na", func(c *Client) error { _, err := c.Source(3, 1); return err }},
	} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := net.Pipe()
			go func() {
				r := bufio.NewReader(theirs)
				r.ReadString('\n')
				go io.Copy(io.Discard, r)
				io.WriteString(theirs, test.answer)
				theirs.Close()
			}()
			c := NewClient(ours, 5*time.Second)
			defer c.Close()
			if err := test.ask(c); err == nil {
				t.Error("no error")
			}
		})
	}
}

func TestCheckDatagram(t *testing.T) {
	s := &Server{Name: "s1"}
	from := &net.UDPAddr{IP: net.ParseIP("2001:db8::2"), Port: 9}
	good, _ := s.datagram([]byte("REQ 7 100\npayload"), from)
	if a, err := checkDatagram(good, 7, sha("payload"), 100); err != nil || a.Remote.String() != "[2001:db8::2]:9" {
		t.Errorf("good answer: %v, %v", a, err)
	}
	bad := append([]byte(nil), good...)
	bad[len(bad)-1] ^= 1
	for name, err := range map[string]error{
		"other payload": second(checkDatagram(good, 7, sha("payloaf"), 100)),
		"cut":           second(checkDatagram(good[:len(good)-1], 7, sha("payload"), 100)),
		"one bit":       second(checkDatagram(bad, 7, sha("payload"), 100)),
		"garbage":       second(checkDatagram([]byte("ANS 7 s1"), 7, sha("payload"), 100)),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func sha(s string) []byte { h := sha256.Sum256([]byte(s)); return h[:] }

func second(_ Answer, err error) error { return err }

// TestDeadlines: neither side waits for ever for a silent other one.
func TestDeadlines(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	go io.Copy(io.Discard, theirs)
	if _, err := NewClient(ours, 50*time.Millisecond).Who(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("client of a silent server: %v", err)
	}

	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if _, err := Ask(dial(t, "udp", silent.LocalAddr().String()), 1, nil, 0, 50*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Ask of a silent server: %v", err)
	}

	s := &Server{Name: "s1", Timeout: 50 * time.Millisecond}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	run(t, func(ctx context.Context) error { return s.Serve(ctx, l) })
	c := dial(t, "tcp", l.Addr().String())
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("server of a silent client: %v, want the end of the connection", err)
	}
}

// TestRemotesAreBounded: addresses beyond the bound share one tally, and none is lost.
func TestRemotesAreBounded(t *testing.T) {
	s := &Server{Name: "s1"}
	for i := range maxRemotes + 100 {
		s.count(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1), Tally{Conns: 1})
	}
	if n := len(s.Remotes()); n > maxRemotes+1 {
		t.Errorf("%d remotes, want at most %d", n, maxRemotes+1)
	}
	if got := s.Remotes()[netip.AddrPort{}].Conns; got != 100 {
		t.Errorf("%d connections under the zero address, want 100", got)
	}
}

func TestPatternDependsOnSeedOnly(t *testing.T) {
	read := func(seed uint64, step int) string {
		var b strings.Builder
		p := Pattern(seed)
		for b.Len() < 1000 {
			io.CopyN(&b, p, int64(step))
		}
		return b.String()[:1000]
	}
	if read(1, 1) != read(1, 999) {
		t.Error("the pattern depends on how it is read")
	}
	if read(1, 1) == read(2, 1) {
		t.Error("two seeds, one pattern")
	}
}

// A connection that the client resets is counted; one that it closes is not. What failed otherwise is neither a reset nor refused.
func TestResets(t *testing.T) {
	overLoopback(t, func(t *testing.T, s *Server, tcp, _ string) {
		closed := dial(t, "tcp", tcp)
		if _, err := NewClient(closed, 0).Who(); err != nil {
			t.Fatal(err)
		}
		closed.Close()
		reset := dial(t, "tcp", tcp)
		if _, err := NewClient(reset, 0).Who(); err != nil {
			t.Fatal(err)
		}
		reset.(*net.TCPConn).SetLinger(0)
		reset.Close()
		waitTally(t, s, Tally{Conns: 2, Requests: 2, Resets: 1})
	})
	for _, err := range []error{nil, io.EOF, os.ErrDeadlineExceeded} {
		if IsReset(err) || IsRefused(err) {
			t.Errorf("%v is a reset or a refusal", err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if _, err := net.Dial("tcp", l.Addr().String()); !IsRefused(err) || IsReset(err) {
		t.Errorf("%v is not a refusal", err)
	}
}
