//go:build linux

package main

import (
	"bytes"
	"io"
	"strconv"
	"strings"
	"sync"
)

// counterLog takes what the director logs, passes it on, and finds in it the number of connections.
type counterLog struct {
	next io.Writer // nil: nobody

	mu      sync.Mutex
	partial []byte   // of a line whose end has not come
	answer  chan int // who wants the next number; nil: nobody
}

// expect returns a channel that the next number comes by.
func (c *counterLog) expect() <-chan int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer = make(chan int, 1)
	return c.answer
}

func (c *counterLog) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.partial = append(c.partial, b...)
	for {
		end := bytes.IndexByte(c.partial, '\n')
		if end < 0 {
			break
		}
		if n, ok := parseConnections(string(c.partial[:end])); ok && c.answer != nil {
			c.answer <- n
			c.answer = nil
		}
		c.partial = c.partial[end+1:]
	}
	if c.next == nil {
		return len(b), nil
	}
	return c.next.Write(b)
}

// parseConnections finds the number in the line of the director's own counters; a counter that is zero is not among the values.
func parseConnections(line string) (n int, ok bool) {
	if !strings.Contains(line, " msg=counters frames_read=") {
		return 0, false
	}
	for field := range strings.FieldsSeq(line) {
		if text, found := strings.CutPrefix(field, "connections="); found {
			n, err := strconv.Atoi(text)
			return n, err == nil
		}
	}
	return 0, true
}
