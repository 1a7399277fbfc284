package tap

import "sync/atomic"

// counters are one queue's share of Stats. Readers and writers keep to cache lines of their own, and both add once a batch,
// so that counting costs a few nanoseconds per batch and nothing per frame.
type counters struct {
	rxFrames, rxBytes, rxErrors, rxTruncated atomic.Uint64
	_                                        [arenaAlign - 32]byte

	txFrames, txBytes, txDown, txInvalid, txFull atomic.Uint64
	_                                            [arenaAlign - 40]byte
}

// rxTally is what one Read saw.
type rxTally struct{ frames, bytes, errors, truncated uint64 }

// txTally is what one Write saw.
type txTally struct{ frames, bytes, down, invalid, full uint64 }

func (c *counters) addRx(t *rxTally) {
	add(&c.rxFrames, t.frames)
	add(&c.rxBytes, t.bytes)
	add(&c.rxErrors, t.errors)
	add(&c.rxTruncated, t.truncated)
}

func (c *counters) addTx(t *txTally) {
	add(&c.txFrames, t.frames)
	add(&c.txBytes, t.bytes)
	add(&c.txDown, t.down)
	add(&c.txInvalid, t.invalid)
	add(&c.txFull, t.full)
}

// add spares the locked instruction for the usual zero.
func add(to *atomic.Uint64, n uint64) {
	if n != 0 {
		to.Add(n)
	}
}

// sum adds the counters to s.
func (c *counters) sum(s *Stats) {
	s.RxFrames += c.rxFrames.Load()
	s.RxBytes += c.rxBytes.Load()
	s.RxErrors += c.rxErrors.Load()
	s.RxTruncated += c.rxTruncated.Load()
	s.TxFrames += c.txFrames.Load()
	s.TxBytes += c.txBytes.Load()
	s.TxDown += c.txDown.Load()
	s.TxInvalid += c.txInvalid.Load()
	s.TxFull += c.txFull.Load()
}

// health is the state of a device's interface and how often it changed.
type health struct {
	up, gone, outside              atomic.Bool // outside: not in the bridge it belongs in
	downs, ups, losses, reattaches atomic.Uint64
	bridgeLosses, bridgeReturns    atomic.Uint64
}

// setUp notes the state and reports whether it is news.
func (h *health) setUp(up bool) bool {
	if h.up.Swap(up) == up {
		return false
	}
	if up {
		h.ups.Add(1)
	} else {
		h.downs.Add(1)
	}
	return true
}

// setGone notes that the interface is lost, or is back, and reports whether it is news.
func (h *health) setGone(gone bool) bool {
	if h.gone.Swap(gone) == gone {
		return false
	}
	if gone {
		h.losses.Add(1)
	} else {
		h.reattaches.Add(1)
	}
	return true
}

// setOutside notes that the interface left its bridge, or is back in it, and reports whether it is news.
func (h *health) setOutside(outside bool) bool {
	if h.outside.Swap(outside) == outside {
		return false
	}
	if outside {
		h.bridgeLosses.Add(1)
	} else {
		h.bridgeReturns.Add(1)
	}
	return true
}

func (h *health) sum(s *Stats) {
	s.Downs += h.downs.Load()
	s.Ups += h.ups.Load()
	s.Losses += h.losses.Load()
	s.Reattaches += h.reattaches.Load()
	s.BridgeLosses += h.bridgeLosses.Load()
	s.BridgeReturns += h.bridgeReturns.Load()
}
