package tap

import (
	"encoding/binary"
	"errors"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The watcher: one goroutine that follows what becomes of the interface, so that the queues need not.
//
//	link message: flags     count and log down, up
//	link message, or poke   is every descriptor still attached? no: gone
//	gone                    at once, with link messages and every second: take the interface up again; done: back
//	not gone                compare MTU and MAC with what they were, see after the bridge
//
// It asks the descriptors, not the link messages, whether the interface is gone: one that was moved to another network namespace
// sends a DELLINK here and works on. Queues poke when a read fails, for an interface that is deleted over there.
// One that we made is made again under its name and address; one that was there before us is waited for.
// The watcher sleeps in Go's poller and holds no thread.

// retryEvery is the time between attempts to take up a lost interface.
const retryEvery = time.Second

type watcher struct {
	p       *port
	done    chan struct{}
	gone    reasons           // why the interface could not be taken up
	outside reasons           // why it could not be put back in its bridge
	tried   time.Time         // when the last attempt at either began
	opened  netlink.LinkAttrs // what the director knows: MTU and MAC as they were at Open
	mtu     int               // as last seen, like mac: a change is logged once
	mac     string
	buf     [1 << 15]byte
}

// reasons keeps a log from repeating itself. A reason is told once, and only when a second attempt, soon after the first, fails for it too: an interface that
// is just being made is not whole ("ip tuntap add" itself holds it for a moment).
type reasons struct{ last, told string }

// failed notes why an attempt failed and returns whether to tell and when to try again.
func (r *reasons) failed(err error) (tell bool, pause time.Duration) {
	reason := err.Error()
	if reason != r.last {
		r.last = reason
		return false, faultPause
	}
	tell = reason != r.told
	r.told = reason
	return tell, retryEvery
}

// watch starts a watcher.
func watch(p *port) *watcher {
	w := newWatcher(p)
	go w.run()
	return w
}

func newWatcher(p *port) *watcher {
	return &watcher{p: p, done: make(chan struct{}), opened: p.attrs, mtu: p.attrs.MTU, mac: p.attrs.HardwareAddr.String()}
}

// stop ends the watcher and waits for it.
func (w *watcher) stop() {
	w.p.events.Close()
	<-w.done
}

// poke makes the watcher look at the descriptors now.
func (w *watcher) poke() { w.p.events.SetReadDeadline(time.Unix(1, 0)) }

func (w *watcher) run() {
	defer close(w.done)
	for {
		n, err := w.p.events.Read(w.buf[:])
		switch {
		case err == nil:
			w.messages(w.buf[:n])
		case errors.Is(err, os.ErrClosed):
			return
		case errors.Is(err, os.ErrDeadlineExceeded):
			// Nothing was said: somebody poked, or it is time to try again.
		default:
			w.resync()             // ENOBUFS: more messages than the socket holds, some are lost
			time.Sleep(faultPause) // whatever else it is, not in a spin
		}
		w.check()
	}
}

// check finds out whether the interface is still ours and tries to take it up if not. It sets the time of the next look.
func (w *watcher) check() {
	h := &w.p.health
	if !w.p.alive() && h.setGone(true) {
		w.gone = reasons{}
		if h.setUp(false) {
			w.p.log.Warn("tap down", "tap", w.p.name)
		}
		w.p.log.Warn("tap gone: deleted under us", "tap", w.p.name)
	}
	var next time.Time
	if h.gone.Load() {
		next = w.try(time.Now())
	} else {
		next = w.follow(time.Now())
	}
	w.p.events.SetReadDeadline(next)
}

// try tries to take the interface up and returns when to try again, zero when that is not needed.
func (w *watcher) try(now time.Time) (next time.Time) {
	if next, soon := w.tooSoon(now); soon {
		return next
	}
	if err := w.p.takeUp(); err != nil {
		tell, pause := w.gone.failed(err)
		if tell {
			w.p.log.Warn("tap not back yet, trying every second", "tap", w.p.name, "error", err)
		}
		return now.Add(pause)
	}
	w.p.health.setGone(false)
	w.p.health.setUp(running(w.p.attrs.RawFlags))
	w.p.log.Info("tap back", "tap", w.p.name)
	w.setOutside(false)
	if w.p.o.Path == "" {
		w.mac = w.p.attrs.HardwareAddr.String() // a new interface has a new one: no news
	}
	w.compare(&w.p.attrs)
	return time.Time{}
}

// tooSoon keeps attempts apart, as one may itself cause the link message that asks for the next. It returns when that may be.
func (w *watcher) tooSoon(now time.Time) (next time.Time, soon bool) {
	next = w.tried.Add(faultPause)
	if now.Before(next) {
		return next, true
	}
	w.tried = now
	return next, false
}

// follow looks at an interface that is ours for changes that matter to the director, and returns when to look again without being asked to.
func (w *watcher) follow(now time.Time) (next time.Time) {
	link, err := w.p.nl.LinkByIndex(w.p.attrs.Index)
	switch {
	case err == nil:
		w.compare(link.Attrs())
	case errors.As(err, new(netlink.LinkNotFoundError)) && w.p.alive():
		link = nil // moved to another network namespace
	default:
		return time.Time{} // deleted a moment ago: a link message says so
	}
	if w.p.o.Bridge == "" {
		return time.Time{}
	}
	return w.followBridge(link, now)
}

// compare warns of changes to what the director has read at Open and does not follow.
func (w *watcher) compare(a *netlink.LinkAttrs) {
	if a.MTU != w.mtu {
		w.mtu = a.MTU
		w.mtuChanged()
	}
	if mac := a.HardwareAddr.String(); mac != w.mac {
		was := w.mac
		w.mac = mac
		w.macChanged(was)
	}
}

func (w *watcher) mtuChanged() {
	if w.mtu == w.opened.MTU {
		w.p.log.Info("tap's MTU is again what the director uses", "tap", w.p.name, "mtu", w.mtu)
		return
	}
	w.p.log.Warn("tap's MTU was changed: restart tapdirector to follow it", "tap", w.p.name, "mtu", w.mtu, "used", w.opened.MTU)
}

// macChanged tells of a TAP's MAC, which the director's must differ from, and of a macvtap's, which must be the director's.
func (w *watcher) macChanged(was string) {
	switch used := w.opened.HardwareAddr.String(); {
	case w.p.o.Path == "":
		w.p.log.Warn("tap's kernel MAC was changed: frames to it never reach the director", "tap", w.p.name, "kernel_mac", w.mac, "was", was)
	case w.mac == used:
		w.p.log.Info("macvtap's MAC is again what the director uses", "tap", w.p.name, "mac", w.mac)
	default:
		w.p.log.Warn("macvtap's MAC was changed: restart tapdirector to follow it", "tap", w.p.name, "mac", w.mac, "used", used)
	}
}

// messages takes the state of our interface from the kernel's link messages.
func (w *watcher) messages(b []byte) {
	eachLink(b, func(kind uint16, index int32, flags uint32) {
		if index != int32(w.p.attrs.Index) || kind != unix.RTM_NEWLINK {
			return
		}
		w.setRunning(running(flags))
	})
}

func (w *watcher) setRunning(up bool) {
	switch news := w.p.health.setUp(up); {
	case news && up:
		w.p.log.Info("tap up", "tap", w.p.name)
	case news:
		w.p.log.Warn("tap down", "tap", w.p.name)
	}
}

// resync asks for the state instead of being told.
func (w *watcher) resync() {
	link, err := w.p.nl.LinkByIndex(w.p.attrs.Index)
	if err == nil {
		w.setRunning(running(link.Attrs().RawFlags))
	}
}

// eachLink walks netlink messages and calls do for each that is about a link. What is cut short ends the walk.
func eachLink(b []byte, do func(kind uint16, index int32, flags uint32)) {
	const header, info = unix.SizeofNlMsghdr, unix.SizeofIfInfomsg
	for len(b) >= header {
		n := int(binary.NativeEndian.Uint32(b))
		if n < header || n > len(b) {
			return
		}
		kind := binary.NativeEndian.Uint16(b[4:])
		if (kind == unix.RTM_NEWLINK || kind == unix.RTM_DELLINK) && n >= header+info {
			m := b[header:]
			do(kind, int32(binary.NativeEndian.Uint32(m[4:])), binary.NativeEndian.Uint32(m[8:]))
		}
		b = b[min((n+3)&^3, len(b)):]
	}
}
