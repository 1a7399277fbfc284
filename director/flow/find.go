package flow

import "tapdirector/stack"

// Find copies the connection of tuple k in direction d to out and changes nothing, neither state nor time: for packets that are about a connection,
// not of it (ICMP errors). It reports false when there is none.
func (t *Table) Find(k *stack.Tuple, d Direction, out *Conn) bool {
	var key key
	t.hash.key(&key, k, d)
	s := &t.shards[key.shard]
	s.mu.Lock()
	defer s.mu.Unlock()
	i := t.find(s, &key)
	if i == 0 {
		return false
	}
	t.load(t.entries.at(i), out)
	return true
}
