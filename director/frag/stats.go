package frag

// Stats are counters since the table was made; the last three say what is there now. Held = Released + Dropped + HeldNow.
type Stats struct {
	Datagrams  uint64 // of which a fragment was seen for the first time
	Complete   uint64 // of which each byte was seen
	Expired    uint64 // forgotten with bytes missing
	Evicted    uint64 // forgotten early, to make room
	Killed     uint64 // fragments contradicted each other, or there was no room to hold one: for one of the reasons that follow
	Overlaps   uint64 // ... two had bytes in common, or ended the datagram in two places
	Tiny       uint64 // ... a fragment too small for any link
	TooLong    uint64 // ... more than 65,535 bytes
	TooMany    uint64 // ... more fragments than any link would need
	NoRoom     uint64 // ... no room to hold
	Refused    uint64 // fragments dropped because their datagram was refused or killed before
	Duplicates uint64 // fragments seen twice
	Held       uint64 // fragments held because their first had not come
	Released   uint64 // ... and given back when it came
	Dropped    uint64 // ... and dropped because it did not, or was refused

	Tracked   uint64 // datagrams now
	HeldNow   uint64 // frames
	HeldBytes uint64 // what they cost
}

// Stats returns the counters of all shards together.
func (t *Table[V]) Stats() (sum Stats) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		sum.add(&s.stats)
		sum.Tracked += uint64(len(s.byKey))
		s.mu.Unlock()
	}
	sum.HeldNow = uint64(max(t.frames.used.Load(), 0))
	sum.HeldBytes = uint64(max(t.bytes.used.Load(), 0))
	return sum
}

// add adds a shard's counters.
func (s *Stats) add(o *Stats) {
	s.Datagrams += o.Datagrams
	s.Complete += o.Complete
	s.Expired += o.Expired
	s.Evicted += o.Evicted
	s.Killed += o.Killed
	s.Overlaps += o.Overlaps
	s.Tiny += o.Tiny
	s.TooLong += o.TooLong
	s.TooMany += o.TooMany
	s.NoRoom += o.NoRoom
	s.Refused += o.Refused
	s.Duplicates += o.Duplicates
	s.Held += o.Held
	s.Released += o.Released
	s.Dropped += o.Dropped
}
