package tap

import (
	"testing"

	"github.com/vishvananda/netlink"
)

// BenchmarkWrite is the write of one frame that the kernel drops at once, as nobody there knows its EtherType: what the system call costs at least.
func BenchmarkWrite(b *testing.B) {
	newNetns(b)
	d, _ := open(b, Options{Name: "tap0", Queues: 1})
	f := probeFrame()
	batch := make([]*Frame, Batch)
	for i := range batch {
		batch[i] = &f
	}
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; {
		done += d.Queues[0].Write(batch[:min(Batch, b.N-done)])
	}
}

// BenchmarkBridged is one frame written to a TAP, carried by a bridge to another and read there, in batches.
func BenchmarkBridged(b *testing.B) {
	newNetns(b)
	must(b, netlink.LinkSetUp(newBridge(b, "br0")))
	in, _ := open(b, Options{Name: "tap0", Queues: 1, Bridge: "br0"})
	out, _ := open(b, Options{Name: "tap1", Queues: 1, Bridge: "br0"})
	f := probeFrame()
	batch := make([]*Frame, 32)
	for i := range batch {
		batch[i] = &f
	}
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; {
		waiting := in.Queues[0].Write(batch)
		done += waiting
		for waiting > 0 {
			frames, err := out.Queues[0].Read(patience)
			if err != nil || len(frames) == 0 {
				b.Fatalf("%d frames are lost (%v)", waiting, err)
			}
			waiting -= len(frames)
		}
	}
}
