package memlan

import (
	"errors"
	"maps"
	"sync"

	"tapdirector/tap"
)

// faults counts what the judge found, by point and fault. The zero value is ready.
type faults struct {
	mu    sync.Mutex
	count map[string]uint64
}

// judge counts what is wrong with a frame that reached a point.
func (l *faults) judge(point string, f *tap.Frame, mtu int, offload bool) {
	err := Check(f, mtu)
	if err == nil && !offload && (f.Header.Partial() || f.Header.Super()) {
		err = errors.New("unfinished, on a link without offload")
	}
	if err != nil {
		l.add(point+": "+err.Error(), 1)
	}
}

func (l *faults) add(name string, n uint64) {
	if n == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.count == nil {
		l.count = map[string]uint64{}
	}
	l.count[name] += n
}

// all returns a copy of the counts.
func (l *faults) all() map[string]uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.count)
}
