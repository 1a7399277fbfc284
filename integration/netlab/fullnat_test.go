//go:build linux

package netlab

import (
	"bytes"
	"context"
	"testing"
	"time"

	"tapdirector/integration"
	"tapdirector/integration/app"
	"tapdirector/stack"
	"tapdirector/tap"
)

// A server that is a client of its own service, on one wire: the kernel must take the answer though it comes from where the question went.
func TestFullNATHairpin(t *testing.T) {
	needRights(t)
	for _, family := range []int{4, 6} {
		for _, offload := range []bool{false, true} {
			spec := integration.Spec{Method: "fullnat", Family: family, Arms: 1, Servers: 1, Offload: offload, WebKeys: "toa = true"}
			t.Run(spec.String(), func(t *testing.T) {
				w := newWorld(t, spec, Options{})
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				conn, err := w.Namespace("s1").Dial(ctx, "tcp", w.VIP().String())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				c := app.NewClient(conn, 20*time.Second)
				a, err := c.Sink(8<<20, 1)
				if err != nil || a.Remote.Addr() != w.plan.Peer(w.plan.Client.Addr()) {
					t.Errorf("upload: seen as %v, %v", a.Remote, err)
				}
				if _, err := c.Source(8<<20, 2); err != nil {
					t.Errorf("download: %v", err)
				}
				if faults := w.Faults(); len(faults) > 0 {
					t.Errorf("faults: %v", faults)
				}
			})
		}
	}
}

// What a kernel gets of a connection with toa: the option on the packet that completes the handshake, and a first request of many segments in full.
func TestTOAReachesTheServer(t *testing.T) {
	needRights(t)
	for _, family := range []int{4, 6} {
		for _, offload := range []bool{false, true} {
			spec := integration.Spec{Method: "fullnat", Family: family, Servers: 1, Offload: offload, WebKeys: "toa = true"}
			t.Run(spec.String(), func(t *testing.T) {
				w := newWorld(t, spec, Options{})
				capture, err := w.Capture()
				if err != nil {
					t.Fatal(err)
				}
				conn, err := w.Dial(t.Context(), "tcp")
				if err != nil {
					t.Fatal(err)
				}
				if _, err := app.NewClient(conn, 20*time.Second).Sink(4<<20, 1); err != nil {
					t.Fatal(err)
				}
				local := []byte(w.plan.Client.Addr().AsSlice())
				conn.Close()
				handshake, with := false, 0
				for _, s := range capture.Stop() {
					f, p := tap.NewFrame(tap.Header{}, s.Bytes), stack.Packet{}
					if s.Point.String() != "s1/int" || s.Out || stack.Parse(&f, &p) != stack.ReasonNone || p.Proto != stack.ProtoTCP || p.TCPFlags&stack.SYN != 0 {
						continue
					}
					told := bytes.Contains(f.Bytes()[p.L4+20:p.L4+p.L4Len], append([]byte{254, byte(4 + len(local))}, f.Bytes()[p.L4+22:p.L4+24]...)) &&
						bytes.Contains(f.Bytes()[p.L4+24:p.L4+p.L4Len], local)
					if !handshake && !told {
						t.Errorf("the handshake's last packet does not tell of the client: %s", stack.Describe(s.Bytes))
					}
					handshake = true
					if told {
						with++
					}
				}
				if with == 0 {
					t.Error("no packet told of the client")
				}
				t.Logf("%d packets told of the client", with)
			})
		}
	}
}
