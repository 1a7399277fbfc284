package director

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"tapdirector/stack"
)

// randomAddr draws an address of either family.
func randomAddr(r *rand.Rand) stack.Addr {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], r.Uint64())
	binary.LittleEndian.PutUint64(b[8:], r.Uint64())
	if r.IntN(2) == 0 {
		return stack.AddrFrom(netip.AddrFrom4([4]byte(b[:4])))
	}
	return stack.AddrFrom(netip.AddrFrom16(b))
}

// The slow twin of an addrSet is the map it is built from.
func TestAddrSetIsItsMap(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 2, 3, 17, 1000} {
		twin := map[stack.Addr]role{}
		for len(twin) < n {
			twin[randomAddr(r)] = role(1 + r.IntN(15))
		}
		s := newAddrSet(twin)
		for a, want := range twin {
			if got := s.role(a); got != want {
				t.Fatalf("%d addresses: role(%v) = %b, want %b", n, a, got, want)
			}
		}
		for range 1000 {
			if a := randomAddr(r); s.role(a) != twin[a] {
				t.Fatalf("%d addresses: %v has a role but is not in the set", n, a)
			}
		}
		if s.role(stack.Addr{}) != 0 {
			t.Fatal("the zero address has a role")
		}
	}
}

func BenchmarkAddrSet(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	roles := map[stack.Addr]role{}
	var ask [1024]stack.Addr
	for i := range ask {
		ask[i] = randomAddr(r)
		if i%4 == 0 {
			roles[ask[i]] = roleVIP
		}
	}
	s := newAddrSet(roles)
	i := 0
	b.Run("set", func(b *testing.B) {
		for b.Loop() {
			_ = s.role(ask[i&1023])
			i++
		}
	})
	b.Run("map", func(b *testing.B) {
		for b.Loop() {
			_ = roles[ask[i&1023]]
			i++
		}
	})
}
