package host

import (
	"sync"
	"time"

	"tapdirector/stack"
	"tapdirector/tap"
)

// Limits of each queue. The bucket holds as many tokens as the queue has places: a burst that fits the queue passes, and after it only
// the rate does.
const (
	queueFrames = 512
	queueBytes  = 4 << 20
)

// item is a frame that waits for the netstack; it has memory of its own.
type item struct {
	frame tap.Frame
	pkt   stack.Packet
	link  int
}

// queue is bounded three ways: frames, bytes, and frames per second by a token bucket.
type queue struct {
	rate float64 // tokens per second

	mu     sync.Mutex
	ring   []item
	head   int
	n      int
	bytes  int
	tokens float64
	filled time.Time // when tokens was right
}

func newQueue(rate int) queue {
	return queue{rate: float64(rate), ring: make([]item, queueFrames), tokens: queueFrames}
}

// put takes a copy of f and p; false when a bound is hit.
func (q *queue) put(now time.Time, link int, f *tap.Frame, p *stack.Packet) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.fill(now)
	if q.tokens < 1 || q.n == len(q.ring) || q.bytes+f.Len() > queueBytes {
		return false
	}
	q.tokens--
	q.ring[(q.head+q.n)%len(q.ring)] = item{frame: f.Clone(), pkt: *p, link: link}
	q.n++
	q.bytes += f.Len()
	return true
}

// setRate changes the tokens per second.
func (q *queue) setRate(perSecond int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.rate = float64(perSecond)
}

// fill adds the tokens of the time that has passed. Time that went backwards adds none.
func (q *queue) fill(now time.Time) {
	if d := now.Sub(q.filled); d > 0 {
		q.tokens = min(q.tokens+d.Seconds()*q.rate, queueFrames)
		q.filled = now
	}
}

// take returns the oldest item.
func (q *queue) take() (item, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.n == 0 {
		return item{}, false
	}
	i := q.ring[q.head]
	q.ring[q.head] = item{}
	q.head = (q.head + 1) % len(q.ring)
	q.n--
	q.bytes -= i.frame.Len()
	return i, true
}

// step gives the netstack one frame; false when nothing waits. Control is always first: it is bounded by its own budget, so
// the other queue is delayed by it but not starved.
func (h *Host) step() bool {
	i, ok := h.control.take()
	if !ok {
		if i, ok = h.other.take(); !ok {
			return false
		}
	}
	h.feed(&i)
	return true
}

// feed brings a frame into the form netstack understands: full checksums, and no UDP superpacket, which it would take for
// one datagram. A TCP superpacket is one large segment to it.
func (h *Host) feed(i *item) {
	l := h.links[i.link]
	if i.pkt.Kind != stack.KindARP {
		h.learnHop(l, i)
	}
	if i.frame.Header.GSOType != tap.GSOUDPL4 {
		stack.CompleteChecksum(&i.frame, &i.pkt)
		l.ep.inject(&i.frame)
		return
	}
	if h.cuts == nil {
		h.cuts = tap.NewArena(cutsLen)
	}
	h.cuts.Reset()
	if !stack.Segment(&i.frame, &i.pkt, h.cuts, l.ep.inject) {
		h.counters.uncut.Add(1)
	}
}

// cutsLen has room for the 128 datagrams that Linux puts into a superpacket at most.
const cutsLen = 128 * (defaultMTU + tap.EthernetLen + tap.Headroom + 64)
