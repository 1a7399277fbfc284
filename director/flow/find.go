package flow

import "tapdirector/stack"

// Find copies the connection of tuple k in direction d to out and changes nothing, neither state nor time: for packets that are about a connection,
// not of it (ICMP errors). It reports false when there is none.
func (t *Table) Find(k *stack.Tuple, d Direction, out *Conn) bool {
	s, i := t.lock(k, d)
	defer s.mu.Unlock()
	if i == 0 {
		return false
	}
	t.load(t.entries.at(i), out)
	return true
}

// lock locks the shard of tuple k in direction d and returns it with the entry that k asks for, 0 when there is none. For what happens to a connection now
// and then: Touch, for every packet, has these lines itself.
func (t *Table) lock(k *stack.Tuple, d Direction) (*shard, uint32) {
	var key key
	t.hash.key(&key, k, d)
	s := &t.shards[key.shard]
	s.mu.Lock()
	return s, t.find(s, &key)
}
