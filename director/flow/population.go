package flow

import "sync/atomic"

// population counts a table's connections and the references to them in its index, in one word: what all workers write should be one line, once.
type population struct{ both atomic.Int64 }

const oneRef = 1 << 32 // connections are in the lower half

// come counts a connection with so many references, and returns how many there are of both.
func (p *population) come(refs int64) (conns, all int64) {
	n := p.both.Add(refs*oneRef + 1)
	return n & (oneRef - 1), n >> 32
}

// gone undoes come.
func (p *population) gone(refs int64) { p.both.Add(-refs*oneRef - 1) }

func (p *population) conns() int64 { return p.both.Load() & (oneRef - 1) }

// own reports whether most connections have a reference of their own for replies.
func (p *population) own() bool {
	n := p.both.Load()
	return 3*(n>>32-n&(oneRef-1)) > n>>32
}

func (p *population) refs() int64 { return p.both.Load() >> 32 }
