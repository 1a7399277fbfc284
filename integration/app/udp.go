package app

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// answerRoom is what the line of a UDP answer takes at most: the answer's bytes and it must fit in a datagram.
const answerRoom = 256

// ServePacket answers datagrams on c until ctx ends, then closes c and returns nil. Datagrams that are no request are ignored.
func (s *Server) ServePacket(ctx context.Context, c net.PacketConn) error {
	defer closeAtEnd(ctx, c)()
	buf := make([]byte, 1<<16)
	for {
		n, from, err := c.ReadFrom(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("server %s: read datagram: %w", s.Name, err)
		}
		answer, t := s.datagram(buf[:n], from)
		if answer == nil {
			continue
		}
		c.SetWriteDeadline(time.Now().Add(s.timeout()))
		// A datagram that cannot be sent is a lost datagram; the client asks again.
		if _, err := c.WriteTo(answer, from); err == nil {
			s.count(addrPort(from), t)
		}
	}
}

// datagram returns the answer to one request, nil when it is none.
func (s *Server) datagram(b []byte, from net.Addr) ([]byte, Tally) {
	id, want, payload, ok := parseRequest(b)
	if !ok {
		return nil, Tally{}
	}
	sum := sha256.Sum256(payload)
	var out bytes.Buffer
	fmt.Fprintf(&out, "ANS %d %s %s %s\n", id, s.Name, addrPort(from), hex.EncodeToString(sum[:]))
	io.CopyN(&out, Pattern(id), int64(want))
	return out.Bytes(), Tally{Datagrams: 1, In: uint64(len(payload)), Out: uint64(want)}
}

// parseRequest reads "REQ id want\n payload".
func parseRequest(b []byte) (id uint64, want int, payload []byte, ok bool) {
	line, payload, ok := bytes.Cut(b, []byte{'\n'})
	f := strings.Fields(string(line))
	if !ok || len(f) != 3 || f[0] != "REQ" {
		return 0, 0, nil, false
	}
	id, err := strconv.ParseUint(f[1], 10, 64)
	if err != nil {
		return 0, 0, nil, false
	}
	want, err = strconv.Atoi(f[2])
	return id, want, payload, err == nil && want >= 0 && want <= maxDatagram-answerRoom
}

// Ask sends one datagram with payload over c, asks for want bytes in return, and waits for the answer, again and again until
// timeout has passed (0: DefaultTimeout): UDP loses datagrams, also on the way through a director that asks for a MAC first. Answers to other ids are skipped, so
// a connection may be used for many requests. Both contents are checked.
func Ask(c net.Conn, id uint64, payload []byte, want int, timeout time.Duration) (Answer, error) {
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	request := append(fmt.Appendf(nil, "REQ %d %d\n", id, want), payload...)
	sum := sha256.Sum256(payload)
	var last error
	for end := time.Now().Add(timeout); time.Now().Before(end); {
		if _, err := c.Write(request); err != nil {
			return Answer{}, fmt.Errorf("send request %d: %w", id, err)
		}
		b, err := readAnswer(c, id, min(resend, time.Until(end)))
		if err == nil {
			return checkDatagram(b, id, sum[:], want)
		}
		last = err
	}
	return Answer{}, fmt.Errorf("no answer to request %d within %v: %w", id, timeout, last)
}

// resend is how long Ask waits before it repeats a request.
const resend = 500 * time.Millisecond

// readAnswer returns the next datagram that answers id.
func readAnswer(c net.Conn, id uint64, timeout time.Duration) ([]byte, error) {
	c.SetReadDeadline(time.Now().Add(timeout))
	prefix := fmt.Appendf(nil, "ANS %d ", id)
	buf := make([]byte, 1<<16)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return nil, err
		}
		if bytes.HasPrefix(buf[:n], prefix) {
			return buf[:n], nil
		}
	}
}

// checkDatagram reads "ANS id name remote sha256\n answer" and checks both contents.
func checkDatagram(b []byte, id uint64, sum []byte, want int) (Answer, error) {
	line, got, _ := bytes.Cut(b, []byte{'\n'})
	_, rest, _ := strings.Cut(strings.TrimPrefix(string(line), "ANS "), " ")
	a, field, err := parseAnswer("ANS "+rest, "ANS")
	if err != nil {
		return a, err
	}
	if err := checkSum(field, sum); err != nil {
		return a, err
	}
	expect := make([]byte, want)
	io.ReadFull(Pattern(id), expect)
	if !bytes.Equal(got, expect) {
		return a, fmt.Errorf("server %s: answer %d differs from what it was to send (%d bytes, want %d)", a.Server, id, len(got), want)
	}
	return a, nil
}
