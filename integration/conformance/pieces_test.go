package main

import (
	"strings"
	"testing"
)

// What is cut and put together is what it was; what lacks a piece, or has two for one place, is nothing.
func TestPieces(t *testing.T) {
	for _, family := range []string{"4", "6"} {
		tc := caseFor(t, family, "udp")
		_, b, err := buildFrame(tc, &memory{}, &step{verb: ">", args: strings.Fields("nodf data 100")})
		if err != nil {
			t.Fatal(err)
		}
		want := describe(ext, b, map[uint16]bool{usualID: true})
		for spec, arrives := range map[string]bool{
			"0-48,48-": true, "48-,0-48": true, "96-,0-48,48-96": true, "16": true, "-8": true, "0-104,104-": true, "0-48,0-48,48-,48-": true, "0-": true,
			"0-48": false, "48-": false, "0-48,96-": false, "0-56,48-": false, "0-48,48-96": false, "0-96,48-96,96-": false,
		} {
			frames, err := cutPieces(b, spec, 7)
			if err != nil {
				t.Fatal(err)
			}
			var out []departure
			for _, f := range frames {
				out = append(out, departure{ext, f})
			}
			whole := assemble(out)
			if !arrives && len(whole) == 0 {
				continue
			}
			if got := describe(ext, whole[0].frame, map[uint16]bool{usualID: true}); len(whole) != 1 || got != want || !arrives {
				t.Errorf("v%s %s: %d packets, %s; want %s (%v)", family, spec, len(whole), got, want, arrives)
			}
		}
		for _, wrong := range []string{"", "x", "1-8", "8-8", "0-200", "16-8"} {
			if _, err := cutPieces(b, wrong, 7); err == nil {
				t.Errorf("pieces %q of 108 bytes are no mistake", wrong)
			}
		}
	}
}
