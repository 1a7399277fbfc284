// Package tap reads and writes Ethernet frames in batches, through TAP and macvtap devices, songgao/water's devices, or memory.
// It knows bytes, not addresses.
//
// # The way of a frame
//
//	Queue.Read      drains what is waiting, at most Batch frames, into the queue's arena
//	the caller      edits each frame where it lies
//	Queue.Write     sends them, the same memory, out of another device's queue of the same number
//
// A batch goes all the way before the next is read. That is what lets the kernel put packets of one flow together again
// behind the write, where most of a packet's cost lies. Queues of the same number keep the packets of a flow in order, since the kernel
// keeps a flow on one queue.
//
// # Who owns the bytes
//
// A frame that was read is borrowed until the next Read of the same queue, or of the Reader that reads it with others. Write borrows what it is given until it returns,
// and uses the HeaderLen bytes before it. Frame.Clone is the one way to keep a frame longer. Frames that are made on the way
// come from an Arena of the maker, under the same rule. So nothing is ever released, and nothing is allocated.
//
// # Unfinished frames
//
// With every frame a TAP carries a virtio-net header (Header), which lets both sides leave work undone: a frame can be partial
// (FlagNeedsCsum: its L4 checksum covers the pseudo-header only) and super (up to 64 KiB that stand for many segments of GSOSize bytes each).
// One system call then moves some forty packets of bulk TCP. What the kernel may send us unfinished is agreed on when the device is opened and is what
// the device takes from us: Device.Offload. A frame that it does not carry has to be finished before Write, which drops it otherwise.
// A device without the header (VnetHdr false) sends and takes finished frames only.
//
// # Down, gone, back
//
// A device that is down is not an error: reads see nothing, writes are dropped and counted (TxDown), and that it went down and came up is
// logged and counted. When the interface is deleted under us the device stays open: its reads pass the time, and the interface
// is taken up again as soon as it is there. One that we made, we make again, with its name, address, MTU and bridge; one that existed before Open
// is waited for. The descriptors are the same ones before and after, so queues notice nothing. Only Close makes Read return an error.
// An interface that comes back with a single queue serves a device with one; a device with several waits for multi_queue.
//
// An interface whose bridge is deleted is put in the bridge of that name when there is one again. One that somebody takes out of its bridge, or puts
// elsewhere, is left there, as one that is taken down is left down. Changes of MTU and MAC are logged; Device.MTU, KernelMAC and Index are those at Open.
//
// An interface that existed before Open exists after Close. One that we made is never persistent: it goes with our last descriptor,
// however the process ends.
//
// # Limits
//
//	frame             MaxFrameLen bytes; longer ones are counted (RxTruncated) and dropped
//	batch             64 frames, or 1 MiB less one largest frame, whichever is less
//	queues            16
//	the fake          1,024 frames or 4 MiB waiting in each queue
//
// Not handled: 802.1Q in the header's sense (tags stay in the frame), UDP fragmentation offload (UFO), packet information, and
// multi_queue interfaces that share their frames with another program: one that has a queue when we open is an error, one that
// adds a queue later goes unnoticed.
package tap
