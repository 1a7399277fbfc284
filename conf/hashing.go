package conf

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
)

// The keys of the schedulers that hash: hash_port, hash_fallback, mh_table_size, quic_id. Each is refused where the scheduler would not look at it.

// defaultMHTableSize keeps the shares of up to 160 servers within 1 %.
const defaultMHTableSize = 16381

// Server ids in QUIC connection ids.
const (
	defaultQUICIDLength = 4 // bytes: an IPv4 address
	maxQUICIDLength     = 8 // bytes
)

// mhTableSizes are primes just below powers of two, those of LVS.
var mhTableSizes = []int{251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 131071}

// maxMHServers is the largest number of servers that a slot of a Maglev table can tell apart.
const maxMHServers = 65535

// sizesText lists them for messages.
var sizesText = strings.Trim(strings.ReplaceAll(fmt.Sprint(mhTableSizes), " ", ", "), "[]")

// Schedulers returns the names that scheduler = may have.
func Schedulers() []string { return slices.Sorted(slices.Values(schedulers)) }

// MHTableSizes returns the values that mh_table_size = may have.
func MHTableSizes() []int { return slices.Clone(mhTableSizes) }

// understood reports whether an enumeration's value is what the file says, not a default in place of a word that is wrong: then nothing is to be
// said of what goes with it.
func understood(s *section, key, value string) bool { return !s.has(key) || s.raw[key] == value }

// forSchedulers reports whether v's scheduler is among names; when it is not, using the key is a mistake.
func forSchedulers(s *section, v *Service, key string, names ...string) bool {
	ok := slices.Contains(names, v.Scheduler)
	if !ok && s.has(key) && understood(s, "scheduler", v.Scheduler) {
		s.add("%s: scheduler %q does not use it: only %s", key, v.Scheduler, strings.Join(names, ", "))
	}
	return ok
}

// readHashing reads the service's keys.
func readHashing(s *section, v *Service) {
	port, fallback := s.yes("hash_port"), s.yes("hash_fallback")
	size := s.whole("mh_table_size", span{defaultMHTableSize, math.MinInt, math.MaxInt})
	if forSchedulers(s, v, "hash_port", "sh", "mh", "quic") {
		v.HashPort = port != nil && *port
	}
	if forSchedulers(s, v, "hash_fallback", "sh", "dh", "mh", "quic") {
		v.HashFallback = fallback == nil || *fallback
	}
	if forSchedulers(s, v, "mh_table_size", "mh", "quic") {
		v.MHTableSize = size
	}
}

// checkTableSize judges mh_table_size when the servers are known.
func checkTableSize(s *section, v *Service) {
	if v.Scheduler != "mh" && v.Scheduler != "quic" {
		return
	}
	switch {
	case !slices.Contains(mhTableSizes, v.MHTableSize):
		s.add("mh_table_size %d: not a size of a Maglev table: %s", v.MHTableSize, sizesText)
	case len(v.Servers) > min(v.MHTableSize, maxMHServers):
		s.add("mh_table_size %d: too small for %d servers", v.MHTableSize, len(v.Servers))
	}
}

// readQUICIDs reads the ids of v's servers, whose sections are given. The first server decides on the length; the default id is the last four
// bytes of the address.
func readQUICIDs(s *section, sections []*section, v *Service) {
	if v.Scheduler != "quic" {
		for _, server := range sections {
			if server.has("quic_id") && understood(s, "scheduler", v.Scheduler) {
				server.add("quic_id: scheduler %q does not use it: only quic", v.Scheduler)
			}
		}
		return
	}
	if v.Protocol != "udp" && understood(s, "protocol", v.Protocol) {
		s.add("scheduler %q: QUIC runs over UDP: write protocol = %q", "quic", "udp")
	}
	v.QUICIDLength = defaultQUICIDLength
	ids := firsts[string]{}
	for i, server := range sections {
		id, length, ok := readQUICID(server, v.Servers[i].Address.Addr())
		if !ok {
			continue
		}
		if i == 0 {
			v.QUICIDLength = length
		}
		v.Servers[i].QUICID = id
		if length != v.QUICIDLength {
			server.add("quic_id: %d bytes long, but %d in the first server: all must have the same length", length, v.QUICIDLength)
		} else if first := ids.taken(quicIDText(v, &v.Servers[i]), server.place.text); first != "" {
			server.add("quic_id %q: also the id of %s: give each its own", quicIDText(v, &v.Servers[i]), first)
		}
	}
}

// readQUICID reads the id of one server, which is at a; ok is false where there is none to be had because of another mistake.
func readQUICID(s *section, a netip.Addr) (id uint64, length int, ok bool) {
	text, isText := s.raw["quic_id"].(string)
	if text == "" {
		if !a.IsValid() || s.raw["quic_id"] != nil && !isText {
			return 0, 0, false
		}
		b := a.As16()
		return uint64(binary.BigEndian.Uint32(b[12:])), defaultQUICIDLength, true
	}
	b, err := hex.DecodeString(text)
	if err != nil || len(b) > maxQUICIDLength {
		s.add("quic_id %q: expected 1 to %d bytes in hexadecimal, like %q", text, maxQUICIDLength, "0a4d020b")
		return 0, 0, false
	}
	for _, octet := range b {
		id = id<<8 | uint64(octet)
	}
	return id, len(b), true
}

// quicIDText writes an id as the file does.
func quicIDText(v *Service, s *Server) string { return fmt.Sprintf("%0*x", 2*v.QUICIDLength, s.QUICID) }
