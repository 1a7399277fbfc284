package main

import (
	"path/filepath"
	"strings"
)

// peer is what can stand in the director's place.
type peer struct {
	Key, Title string
	Method     string // the key of ours that is compared with it: the one with as many arms
	Ours       bool
	Program    string // another tapdirector than the one that is built; "": that one
	TCPOnly    bool   // it ends connections, and forwards no datagrams
	InKernel   bool   // it is no process
}

// Keys of the peers.
const (
	peerWire      = "wire"
	peerCopyLoop2 = "copyloop2"
	peerNAT       = "nat"
	peerCopyLoop1 = "copyloop1"
	peerDR        = "dr"
	peerWater     = "nat-water"
	peerLVSNAT    = "lvs-nat"
	peerLVSDR     = "lvs-dr"
	peerNftables  = "nftables"
	peerHAProxy   = "haproxy"
)

// peers are all of them, in the order in which they are told.
var peers = []peer{
	{Key: peerWire, Title: "straight wire", Method: peerNAT, InKernel: true},
	{Key: peerCopyLoop2, Title: "copy loop, two arms", Method: peerNAT},
	{Key: peerNAT, Title: "tapdirector NAT, two arms", Method: peerNAT, Ours: true},
	{Key: peerWater, Title: "tapdirector NAT, driver water", Method: peerNAT},
	{Key: peerLVSNAT, Title: "LVS NAT in user-mode Linux", Method: peerNAT},
	{Key: peerNftables, Title: "nftables DNAT, in the kernel", Method: peerNAT, InKernel: true},
	{Key: peerHAProxy, Title: "HAProxy, TCP, splice", Method: peerNAT, TCPOnly: true},
	{Key: peerCopyLoop1, Title: "copy loop, one arm", Method: peerDR},
	{Key: peerDR, Title: "tapdirector DR, one arm", Method: peerDR, Ours: true},
	{Key: peerLVSDR, Title: "LVS DR in user-mode Linux", Method: peerDR},
}

// compared reports whether ours is compared with it: with every peer of its method but itself.
func (p *peer) compared() bool { return p.Key != p.Method }

// withPrograms adds to the peers other builds of tapdirector, each beside ours: nat@old, dr@old for the program "old".
func withPrograms(known []peer, programs []string) (all []peer) {
	for _, p := range known {
		all = append(all, p)
		for _, program := range programs {
			if p.Ours {
				all = append(all, p.by(program))
			}
		}
	}
	return all
}

// by is the peer as another program does it.
func (p peer) by(program string) peer {
	name := filepath.Base(program)
	p.Key, p.Title, p.Program = p.Key+"@"+name, p.Title+", "+name, program
	return p
}

// peerOf finds a peer by its key, also one that withPrograms made.
func peerOf(key string) (peer, bool) {
	kind, program, other := strings.Cut(key, "@")
	for _, p := range peers {
		switch {
		case p.Key == key:
			return p, true
		case other && p.Key == kind && p.Ours:
			return p.by(program), true
		}
	}
	return peer{}, false
}

func peerKeys(peers []peer) (keys []string) {
	for _, p := range peers {
		keys = append(keys, p.Key)
	}
	return keys
}
