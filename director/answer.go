package director

import (
	"sync/atomic"
	"time"

	"tapdirector/stack"
	"tapdirector/tap"
)

// What cannot go on is answered to its sender: the answer leaves by the interface and to the MAC that the packet came from. All answers of all
// workers share one budget per second ([limits] icmp_rate), so that a flood of bad packets makes no flood of ours.

// reject answers a packet that nobody here takes: TCP by a reset, SCTP by an ABORT, UDP by port unreachable.
func (w *worker) reject(f *tap.Frame) Verdict {
	p := w.p
	switch {
	case p.Proto != stack.ProtoTCP && p.Proto != stack.ProtoSCTP:
		return w.answerICMP(f, stack.ICMPPortUnreachable, 0, SentUnreachable)
	case p.Aborts(), p.Proto == stack.ProtoSCTP && p.IsStray():
		return DropStray
	case !w.d.budget.take(w.now):
		return DropRateLimit
	case p.Proto == stack.ProtoSCTP:
		g, ok := stack.AbortFrame(f, p, w.arena)
		return w.answer(&g, ok, SentAbort)
	}
	g, ok := stack.RSTFrame(f, p, w.arena)
	return w.answer(&g, ok, SentReset)
}

// tooBig answers a packet larger than the MTU of its way out that must not be fragmented.
func (w *worker) tooBig(f *tap.Frame, iface uint16) Verdict {
	return w.answerICMP(f, stack.ICMPTooBig, int(w.view.ifaces[iface].mtu), SentTooBig)
}

// answerICMP answers f, unchanged yet, by an ICMP error from the VIP it was sent to, or else from this interface's own address; v is the verdict.
// The VIP is what the sender knows, and where a DIP is a private address the networks on the way would drop an error that came from it.
func (w *worker) answerICMP(f *tap.Frame, e stack.ICMPError, mtu int, v Verdict) Verdict {
	src := w.p.Dst
	if w.view.locals.role(src)&roleVIP == 0 {
		src = w.view.ifaces[w.in].dip(w.p.Src)
	}
	if src.IsZero() {
		return DropNoAnswer
	}
	if !w.d.budget.take(w.now) {
		return DropRateLimit
	}
	g, ok := stack.ICMPErrorFrame(e, src, mtu, f, w.p, w.arena)
	return w.answer(&g, ok, v)
}

// answer sends a frame of our own making back by the interface that the worker reads.
func (w *worker) answer(g *tap.Frame, ok bool, v Verdict) Verdict {
	if !ok {
		return DropNoAnswer
	}
	w.cutFor = &w.outs[w.in]
	w.own(g)
	return v
}

// budget is a token bucket shared by all workers: rate tokens a second, one second's worth at most.
type budget struct {
	rate   atomic.Int64
	second atomic.Int64 // the second that used counts, since the director's start
	used   atomic.Int64
}

// take takes a token, if one is left.
func (b *budget) take(now time.Duration) bool {
	if s := int64(now / time.Second); b.second.Load() != s {
		b.second.Store(s)
		b.used.Store(0)
	}
	rate := b.rate.Load()
	return b.used.Load() < rate && b.used.Add(1) <= rate
}
