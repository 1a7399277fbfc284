package sched

// maxima is a tree of maxima over the weights of a list of servers: which is the next one of at least some weight, in logarithmic time. Node 1 is
// the root, node n has the children 2n and 2n+1, the second half is the leaves.
type maxima []int32

// newMaxima is for n servers, all of weight 0.
func newMaxima(n int) maxima {
	leaves := 1
	for leaves < n {
		leaves *= 2
	}
	return make(maxima, 2*leaves)
}

// leaf sets the weight of server i; build must follow.
func (m maxima) leaf(i int, weight int32) { m[len(m)/2+i] = weight }

// weight returns the weight of server i.
func (m maxima) weight(i int) int32 { return m[len(m)/2+i] }

// build makes the inner nodes of the leaves.
func (m maxima) build() {
	for n := len(m)/2 - 1; n > 0; n-- {
		m[n] = max(m[2*n], m[2*n+1])
	}
}

// next returns the first server from place from on whose weight is at least least, which is above 0; -1 if there is none.
func (m maxima) next(from int, least int32) int {
	leaves := len(m) / 2
	if from >= leaves {
		return -1
	}
	n := leaves + from
	for m[n] < least {
		// To the tree on the right: of the first ancestor that is a left child.
		for n&1 == 1 {
			n >>= 1
		}
		if n == 0 {
			return -1
		}
		n++
	}
	for n < leaves {
		if n *= 2; m[n] < least {
			n++
		}
	}
	return n - leaves
}
