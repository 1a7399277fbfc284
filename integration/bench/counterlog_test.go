//go:build linux

package main

import (
	"bytes"
	"io"
	"testing"
)

func TestCounterLog(t *testing.T) {
	var passed bytes.Buffer
	c := counterLog{next: &passed}
	text := "time=1 level=INFO msg=start connections=9\ntime=2 level=INFO msg=counters frames_read=7 connections=1015411 connections_inserted=3\n"
	answer := c.expect()
	for _, piece := range []string{text[:3], text[3:60], text[60:]} {
		if n, err := io.WriteString(&c, piece); err != nil || n != len(piece) {
			t.Fatal(n, err)
		}
	}
	if n := <-answer; n != (connections{1015411, 3}) {
		t.Errorf("%+v", n)
	}
	if passed.String() != text {
		t.Errorf("passed on: %q", &passed)
	}
	c.next = nil
	io.WriteString(&c, text) // nobody waits
	answer = c.expect()
	io.WriteString(&c, "time=3 level=INFO msg=counters frames_read=8 connections_bytes=4 zero=\"connections, panics\"\n")
	if n := <-answer; n != (connections{}) {
		t.Errorf("%+v, want none", n)
	}
}
