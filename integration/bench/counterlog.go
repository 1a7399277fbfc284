//go:build linux

package main

import (
	"bytes"
	"io"
	"strconv"
	"strings"
	"sync"
)

// connections are how many the director's table has, and how many were ever made.
type connections struct{ now, made int }

// counterLog takes what the director logs, passes it on, and finds in it the numbers of connections.
type counterLog struct {
	next io.Writer // nil: nobody

	mu      sync.Mutex
	partial []byte           // of a line whose end has not come
	answer  chan connections // who wants the next numbers; nil: nobody
}

// expect returns a channel that the next numbers come by.
func (c *counterLog) expect() <-chan connections {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer = make(chan connections, 1)
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

// parseConnections finds the numbers in the line of the director's own counters; a counter that is zero is not among the values.
func parseConnections(line string) (c connections, ok bool) {
	if !strings.Contains(line, " msg=counters frames_read=") {
		return c, false
	}
	for field := range strings.FieldsSeq(line) {
		switch name, value, _ := strings.Cut(field, "="); name {
		case "connections":
			c.now, _ = strconv.Atoi(value)
		case "connections_inserted":
			c.made, _ = strconv.Atoi(value)
		}
	}
	return c, true
}
