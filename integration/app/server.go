package app

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
)

// maxRemotes bounds the tallies by address; what more addresses do is counted under the zero AddrPort.
const maxRemotes = 1 << 16

// Tally is what a server did, for one remote address or for all.
type Tally struct {
	Conns     uint64 // TCP connections accepted
	Requests  uint64 // TCP requests answered
	Datagrams uint64 // UDP requests answered
	Resets    uint64 // TCP connections that the other end reset
	In, Out   uint64 // bytes of content received and sent (SINK, SOURCE, UDP payloads)
}

func (t *Tally) add(u Tally) {
	t.Conns += u.Conns
	t.Requests += u.Requests
	t.Datagrams += u.Datagrams
	t.Resets += u.Resets
	t.In += u.In
	t.Out += u.Out
}

// Server answers requests under a name. Name and Timeout are set before the first Serve; any number of Serve and
// ServePacket may run at once.
type Server struct {
	Name    string        // one word
	Timeout time.Duration // of every wait; 0: DefaultTimeout

	mu      sync.Mutex
	total   Tally
	remotes map[netip.AddrPort]Tally
}

// Total returns what the server did since it was made.
func (s *Server) Total() Tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total
}

// Remotes returns what it did for each address that it saw: a copy.
func (s *Server) Remotes() map[netip.AddrPort]Tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.remotes)
}

// Serve accepts connections from l until ctx ends, then closes l and every connection, waits for their goroutines and returns nil.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var conns sync.WaitGroup
	defer conns.Wait()
	defer cancel()
	defer closeAtEnd(ctx, l)()
	for {
		c, err := l.Accept()
		if ctx.Err() != nil {
			closeIf(c)
			return nil
		}
		if err != nil {
			return fmt.Errorf("server %s: accept: %w", s.Name, err)
		}
		conns.Go(func() { s.conn(ctx, c) })
	}
}

// conn serves one connection until the client ends it, errs, or is silent for too long.
func (s *Server) conn(ctx context.Context, c net.Conn) {
	defer closeAtEnd(ctx, c)()
	p := &peer{Server: s, c: c, r: bufio.NewReaderSize(c, 64<<10), remote: addrPort(c.RemoteAddr())}
	s.count(p.remote, Tally{Conns: 1})
	for p.request() {
		// Nothing to do.
	}
}

// peer is one connection of a server.
type peer struct {
	*Server
	c      net.Conn
	r      *bufio.Reader
	remote netip.AddrPort
}

// request answers one request and reports whether another may follow.
func (p *peer) request() bool {
	p.extend()
	line, err := readLine(p.r)
	if IsReset(err) {
		p.count(p.remote, Tally{Resets: 1})
	}
	if err != nil {
		return false
	}
	word, args, _ := strings.Cut(line, " ")
	handle, ok := handlers[word]
	if !ok {
		return p.fail("unknown request")
	}
	more := handle(p, strings.Fields(args))
	p.count(p.remote, Tally{Requests: 1})
	return more
}

// handlers are the requests by their first word.
var handlers = map[string]func(p *peer, args []string) bool{
	"WHO":    (*peer).who,
	"SINK":   (*peer).sink,
	"SOURCE": (*peer).source,
	"GET":    (*peer).get,
}

func (p *peer) who([]string) bool { return p.printf("WHO %s %s\n", p.Name, p.remote) }

func (p *peer) sink(args []string) bool {
	n, _, ok := transferArgs(args, 1)
	if !ok {
		return p.fail("SINK n")
	}
	h := sha256.New()
	if err := p.copy(h, p.r, n); err != nil {
		return false
	}
	p.count(p.remote, Tally{In: uint64(n)})
	return p.printf("SINK %s %s %s\n", p.Name, p.remote, hex.EncodeToString(h.Sum(nil)))
}

func (p *peer) source(args []string) bool {
	n, seed, ok := transferArgs(args, 2)
	if !ok {
		return p.fail("SOURCE n seed")
	}
	if !p.printf("SOURCE %s %s\n", p.Name, p.remote) || p.copy(p.c, Pattern(seed), n) != nil {
		return false
	}
	p.count(p.remote, Tally{Out: uint64(n)})
	return true
}

// get reads the rest of an HTTP request's head and answers it.
func (p *peer) get([]string) bool {
	for {
		line, err := readLine(p.r)
		if err != nil {
			return false
		}
		if line == "" {
			break
		}
	}
	body := fmt.Sprintf("hello from server %s, you are %s\n", p.Name, p.remote)
	p.printf("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nX-Server: %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s",
		p.Name, len(body), body)
	return false
}

// copy moves n bytes and allows Timeout for each chunk: a transfer may take long, but not stand still.
func (p *peer) copy(w io.Writer, r io.Reader, n int64) error {
	return copyChunks(w, r, n, p.extend)
}

func (p *peer) extend() { p.c.SetDeadline(time.Now().Add(p.timeout())) }

func (p *peer) printf(format string, args ...any) bool {
	p.extend()
	_, err := fmt.Fprintf(p.c, format, args...)
	return err == nil
}

func (p *peer) fail(reason string) bool {
	p.printf("ERR %s\n", reason)
	return false
}

func (s *Server) timeout() time.Duration {
	if s.Timeout > 0 {
		return s.Timeout
	}
	return DefaultTimeout
}

func (s *Server) count(remote netip.AddrPort, t Tally) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total.add(t)
	if s.remotes == nil {
		s.remotes = map[netip.AddrPort]Tally{}
	}
	old, known := s.remotes[remote]
	if !known && len(s.remotes) >= maxRemotes {
		remote = netip.AddrPort{}
		old = s.remotes[remote]
	}
	old.add(t)
	s.remotes[remote] = old
}

// transferArgs reads "n" or "n seed".
func transferArgs(args []string, want int) (n int64, seed uint64, ok bool) {
	if len(args) != want {
		return 0, 0, false
	}
	n, err := strconv.ParseInt(args[0], 10, 64)
	if err != nil || n < 0 || n > maxTransfer {
		return 0, 0, false
	}
	if want == 2 {
		seed, err = strconv.ParseUint(args[1], 10, 64)
	}
	return n, seed, err == nil
}

// readLine returns the next line without its end; a line longer than maxLine is an error.
func readLine(r *bufio.Reader) (string, error) {
	var line []byte
	for len(line) <= maxLine {
		b, err := r.ReadByte()
		if err != nil {
			return "", err
		}
		if b == '\n' {
			return strings.TrimSuffix(string(line), "\r"), nil
		}
		line = append(line, b)
	}
	return "", fmt.Errorf("line longer than %d bytes", maxLine)
}

// copyChunks moves n bytes and calls extend before each chunk.
func copyChunks(w io.Writer, r io.Reader, n int64, extend func()) error {
	buf := make([]byte, min(n, chunk))
	for n > 0 {
		extend()
		b := buf[:min(n, chunk)]
		if _, err := io.ReadFull(r, b); err != nil {
			return err
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
		n -= int64(len(b))
	}
	return nil
}

// closeAtEnd closes c when ctx ends. The function it returns undoes that, and closes c.
func closeAtEnd(ctx context.Context, c io.Closer) func() {
	stop := context.AfterFunc(ctx, func() { c.Close() })
	return func() {
		stop()
		c.Close()
	}
}

func closeIf(c net.Conn) {
	if c != nil {
		c.Close()
	}
}
