// Package app is the server and the client that every lab runs behind a director. It speaks over plain net.Listener,
// net.PacketConn and net.Conn, so the very same code runs on kernel sockets and on those of an in-memory network stack.
//
// # TCP
//
// A client sends lines, the server answers each; a connection carries as many requests as the client likes.
//
//	WHO                 -> WHO name remote                        who answered, and which address it saw
//	SINK n              -> SINK name remote sha256                after n more bytes from the client; the hash is of those
//	SOURCE n seed       -> SOURCE name remote, then n bytes       the bytes of Pattern(seed)
//	GET / HTTP/1.x ...  -> an HTTP/1.0 answer, then close         so that curl can look
//	anything else       -> ERR reason, then close
//
// # UDP
//
// A datagram is a line and a payload. The server keeps nothing between two of them.
//
//	REQ id want\n payload -> ANS id name remote sha256\n answer   the hash is of the payload; the answer is want bytes of Pattern(id)
//
// So content is checked in both directions by whoever receives it, and a test that knows one number (the seed) knows every byte.
// Every wait of either side has a deadline.
package app

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

// Bounds of what a server does for one request.
const (
	maxLine     = 256      // bytes of a request line
	maxTransfer = 16 << 30 // bytes of one SINK or SOURCE
	maxDatagram = 65507    // bytes of a UDP payload over IPv4
	chunk       = 256 << 10
)

// DefaultTimeout is how long one wait of a server may take, and of a client that was given none.
const DefaultTimeout = 20 * time.Second

// Answer is what a client learns from one request.
type Answer struct {
	Server string         // the name of the server that answered
	Remote netip.AddrPort // the client's address as the server saw it
}

// Pattern returns an endless stream of bytes that only depends on seed.
func Pattern(seed uint64) io.Reader {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	return rand.NewChaCha8(key)
}

// parseAnswer reads "WORD name remote rest..." and returns the rest as fields.
func parseAnswer(line, word string) (Answer, []string, error) {
	f := strings.Fields(line)
	if len(f) < 3 || f[0] != word {
		return Answer{}, nil, fmt.Errorf("answer %q: want %s name address", line, word)
	}
	remote, err := netip.ParseAddrPort(f[2])
	if err != nil {
		return Answer{}, nil, fmt.Errorf("answer %q: %w", line, err)
	}
	return Answer{Server: f[1], Remote: remote}, f[3:], nil
}

// checkSum compares a hash in hexadecimal with the bytes that were sent.
func checkSum(field []string, sum []byte) error {
	if len(field) != 1 {
		return fmt.Errorf("answer has %d fields where one hash belongs", len(field))
	}
	if want := hex.EncodeToString(sum); field[0] != want {
		return fmt.Errorf("the server got other bytes than were sent: sha256 %s, want %s", field[0], want)
	}
	return nil
}

// addrPort is a socket's address as a comparable value, IPv4 unmapped; the zero value for another kind of address.
func addrPort(a net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch a := a.(type) {
	case *net.TCPAddr:
		ap = a.AddrPort()
	case *net.UDPAddr:
		ap = a.AddrPort()
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// IsReset reports whether a connection failed because the other end reset it.
func IsReset(err error) bool { return failedBy(err, syscall.ECONNRESET, "connection reset by peer") }

// IsRefused reports whether nobody listens at the other end: it answered a SYN by a reset, or a datagram by port unreachable.
func IsRefused(err error) bool { return failedBy(err, syscall.ECONNREFUSED, "connection was refused") }

// failedBy reports whether err is the kernel's errno, or what gVisor's sockets have in its place.
func failedBy(err error, errno syscall.Errno, text string) bool {
	return errors.Is(err, errno) || err != nil && strings.Contains(err.Error(), text)
}
