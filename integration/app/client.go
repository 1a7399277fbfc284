package app

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// Client makes requests on one TCP connection, one at a time.
type Client struct {
	c       net.Conn
	r       *bufio.Reader
	timeout time.Duration
}

// NewClient returns a client on c. Timeout bounds every wait: for an answer, and for each 256 KiB of a transfer; 0: DefaultTimeout.
func NewClient(c net.Conn, timeout time.Duration) *Client {
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	return &Client{c: c, r: bufio.NewReaderSize(c, 64<<10), timeout: timeout}
}

// Close ends the connection.
func (c *Client) Close() error { return c.c.Close() }

// Who asks which server is at the other end, and what it takes us for.
func (c *Client) Who() (Answer, error) {
	a, _, err := c.ask("WHO", "WHO\n")
	return a, err
}

// Sink uploads n bytes of Pattern(seed) and checks that the server got those.
func (c *Client) Sink(n int64, seed uint64) (Answer, error) {
	c.extend()
	if _, err := fmt.Fprintf(c.c, "SINK %d\n", n); err != nil {
		return Answer{}, fmt.Errorf("SINK: %w", err)
	}
	h := sha256.New()
	if err := copyChunks(io.MultiWriter(c.c, h), Pattern(seed), n, c.extend); err != nil {
		return Answer{}, fmt.Errorf("SINK: send: %w", err)
	}
	a, rest, err := c.answer("SINK")
	if err != nil {
		return a, err
	}
	return a, checkSum(rest, h.Sum(nil))
}

// Source downloads n bytes of Pattern(seed) and checks each of them.
func (c *Client) Source(n int64, seed uint64) (Answer, error) {
	a, _, err := c.ask("SOURCE", fmt.Sprintf("SOURCE %d %d\n", n, seed))
	if err != nil {
		return a, err
	}
	check := &comparer{want: Pattern(seed)}
	if err := copyChunks(check, c.r, n, c.extend); err != nil {
		return a, fmt.Errorf("SOURCE: receive: %w", err)
	}
	return a, nil
}

// ask sends a request line and returns the answer's fields.
func (c *Client) ask(word, line string) (Answer, []string, error) {
	c.extend()
	if _, err := io.WriteString(c.c, line); err != nil {
		return Answer{}, nil, fmt.Errorf("%s: %w", word, err)
	}
	return c.answer(word)
}

func (c *Client) answer(word string) (Answer, []string, error) {
	c.extend()
	line, err := readLine(c.r)
	if err != nil {
		return Answer{}, nil, fmt.Errorf("%s: wait for the answer: %w", word, err)
	}
	return parseAnswer(line, word)
}

func (c *Client) extend() { c.c.SetDeadline(time.Now().Add(c.timeout)) }

// comparer is a writer that errs at the first byte that is not the wanted stream's. (Comparing needs no second hash of 100 MB,
// and names the place.)
type comparer struct {
	want   io.Reader
	offset int64
	buf    [32 << 10]byte
}

func (c *comparer) Write(b []byte) (int, error) {
	for done := 0; done < len(b); {
		part := b[done:min(len(b), done+len(c.buf))]
		want := c.buf[:len(part)]
		io.ReadFull(c.want, want)
		if !bytes.Equal(part, want) {
			return done, fmt.Errorf("wrong content at byte %d", c.offset+int64(firstDifference(part, want)))
		}
		done += len(part)
		c.offset += int64(len(part))
	}
	return len(b), nil
}

func firstDifference(a, b []byte) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return len(a)
}

// Get makes an HTTP/1.0 request on c and returns the body; c is used up by it.
func Get(c net.Conn, timeout time.Duration) (string, error) {
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	c.SetDeadline(time.Now().Add(timeout))
	if _, err := io.WriteString(c, "GET / HTTP/1.0\r\nHost: vip\r\n\r\n"); err != nil {
		return "", fmt.Errorf("GET: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(c, 64<<10))
	if err != nil {
		return "", fmt.Errorf("GET: %w", err)
	}
	head, body, ok := strings.Cut(string(b), "\r\n\r\n")
	if !ok || !strings.HasPrefix(head, "HTTP/1.0 200 ") {
		return "", errors.New("GET: not an HTTP answer")
	}
	return body, nil
}
