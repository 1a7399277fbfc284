package conf

import "net/netip"

// Match says which service of old each service of new is, -1 for none: the one of its name, else, of those that are left, one that listens on a port in common with
// it, which has been renamed.
func Match(old, new []Service) []int {
	names, taken := make(map[string]int, len(old)), make([]bool, len(old))
	for i := range old {
		if _, there := names[old[i].Name]; !there {
			names[old[i].Name] = i
		}
	}
	match, missing := make([]int, len(new)), false
	for i := range new {
		match[i] = -1
		if at, ok := names[new[i].Name]; ok && !taken[at] {
			match[i], taken[at] = at, true
		}
		missing = missing || match[i] < 0
	}
	if missing {
		matchListens(old, new, match, taken)
	}
	return match
}

// listenKey is one listen, whoever owns the VIP.
type listenKey struct {
	addr      netip.Addr
	low, high uint16
	protocol  string
}

func (v *Service) listenKey(i int) listenKey {
	return listenKey{v.Listen[i].Addr, v.Listen[i].Low, v.Listen[i].High, v.Protocol}
}

// matchListens is Match for services whose name is new.
func matchListens(old, new []Service, match []int, taken []bool) {
	listens := map[listenKey]int{}
	for i := range old {
		for l := range old[i].Listen {
			if k := old[i].listenKey(l); !taken[i] {
				if _, there := listens[k]; !there {
					listens[k] = i
				}
			}
		}
	}
	for i := range new {
		for l := range new[i].Listen {
			if at, ok := listens[new[i].listenKey(l)]; match[i] < 0 && ok && !taken[at] {
				match[i], taken[at] = at, true
			}
		}
	}
}

// ServerKey is what makes a server of a service the one that it is: with another method or protocol it is another one, whose connections the old one's are not.
type ServerKey struct {
	Address          netip.AddrPort
	Method, Protocol string
}

// ServerKey returns the key of s, a server of v.
func (v *Service) ServerKey(s *Server) ServerKey { return ServerKey{s.Address, v.Method, v.Protocol} }
