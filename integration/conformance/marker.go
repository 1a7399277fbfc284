package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"tapdirector/stack/packettest"
)

// Markers and greetings: how the player knows that a side has done with what it was sent.

// A marker is two pings of a link's probe: one to the director, whose answer leaves by this link, and one through the director to the other link's
// probe, which leaves by that. What a frame brings leaves before the marker that was sent behind it. It is sent again when it is late: user-mode
// Linux on a busy machine sometimes misses that a frame has come until the next one does.
const (
	markerID    = 0x7d7d
	firstLimit  = 20 * time.Millisecond // then twice that, and so on
	pingLimit   = 640 * time.Millisecond
	silentLimit = 20 * time.Second

	answerTime = time.Millisecond // for what waited for a MAC to leave: tapdirector's own host has a goroutine for that
)

// markers numbers them, those of all players: a late one is never taken for another.
var markers atomic.Uint32

var errSilent = errors.New("the director does not answer a ping")

// settle waits until the side has done with the frame that came in by link l, and all that followed from it, and returns what left.
func (p *player) settle(l link) (out []departure, err error) {
	for limit := time.Now().Add(silentLimit); time.Now().Before(limit); {
		more, asked, err := p.marker(l)
		out = append(out, more...)
		if err != nil {
			return out, err
		}
		if !asked && !p.side.Busy() {
			return out, nil
		}
		time.Sleep(answerTime)
	}
	return out, errors.New("the director does not come to rest")
}

// marker sends one into link l and collects what leaves before it has come out of both; asked says that there was a question among it.
func (p *player) marker(l link) (out []departure, asked bool, err error) {
	seq := uint16(markers.Add(1))
	probes, dips := [...]string{"probe", "inprobe"}, [...]string{"dip", "indip"}
	var pings [numLinks][]byte
	for i, name := range []string{dips[l], probes[1-l]} {
		from, _ := hostNamed(probes[l], 4)
		to, _ := hostNamed(name, 4)
		ping := packettest.Spec{
			SrcMAC: from.mac, DstMAC: ourMAC[l], Src: netip.AddrPortFrom(from.addr, 0), Dst: netip.AddrPortFrom(to.addr, 0),
			Proto: packettest.ICMP, ICMPType: 8, ICMPID: markerID, ICMPSeq: seq,
		}
		pings[i] = ping.Bytes()
	}
	var seen [numLinks]bool // by that link
	wait, limit := firstLimit, time.Now().Add(silentLimit)
	for time.Now().Before(limit) {
		for _, b := range pings {
			if err := p.side.Send(l, b); err != nil {
				return out, asked, err
			}
		}
		more, a, err := p.await(seq, &seen, wait)
		out, asked = append(out, more...), asked || a
		if seen == [numLinks]bool{true, true} || err != nil {
			return out, asked, err
		}
		wait = min(wait*2, pingLimit)
	}
	return out, asked, fmt.Errorf("by %v: %w", l, errSilent)
}

// await collects what leaves until a marker has come out of both links, or is late.
func (p *player) await(seq uint16, seen *[numLinks]bool, wait time.Duration) (out []departure, asked bool, err error) {
	limit := time.NewTimer(wait)
	defer limit.Stop()
	for *seen != [numLinks]bool{true, true} {
		select {
		case d := <-p.side.Departures():
			if n, marker := markerOf(d.frame); marker {
				seen[d.link] = seen[d.link] || n == seq
				continue
			}
			if isGreeted(d.frame) {
				p.greeted = true
				continue
			}
			answered, err := p.answer(d)
			if err != nil {
				return out, asked, err
			}
			asked = asked || answered
			if !answered && !isChatter(d.frame) {
				out = append(out, d)
			}
		case <-limit.C:
			return out, asked, nil
		}
	}
	return out, asked, nil
}

// markerOf returns the number of the marker that b is of.
func markerOf(b []byte) (uint16, bool) {
	const icmp = ethLen + 20
	if len(b) < icmp+8 || b[12] != 8 || b[13] != 0 || b[ethLen+9] != 1 || b[icmp] != 0 && b[icmp] != 8 || binary.BigEndian.Uint16(b[icmp+4:]) != markerID {
		return 0, false
	}
	return binary.BigEndian.Uint16(b[icmp+6:]), true
}

// acquaint lets the sender of a frame ping the director until it is answered: what the director's own host says to somebody whose MAC it must ask
// for first comes when it comes, and a marker does not tell.
func (p *player) acquaint(l link, frame []byte) error {
	h, ok := senderOf(frame)
	if !ok || h.local() || h.link != l || p.known[h.name] {
		return nil
	}
	if p.known == nil {
		p.known = map[string]bool{}
	}
	p.known[h.name] = true
	ping := greeting(h)
	p.greeted = false
	for limit := time.Now().Add(silentLimit); time.Now().Before(limit); time.Sleep(answerTime) {
		if err := p.side.Send(l, ping); err != nil {
			return err
		}
		if _, err := p.settle(l); err != nil || p.greeted {
			return err
		}
	}
	return errSilent
}

// greetID marks the pings of acquaint: an answer may be late, and is never part of a case.
const greetID = 0x7d7e

// greeting is a ping of h to the director's address on its link.
func greeting(h host) []byte {
	s := packettest.Spec{SrcMAC: h.mac, DstMAC: ourMAC[h.link], Proto: packettest.ICMP, ICMPType: 8, ICMPID: greetID}
	family := 4
	if h.addr.Is6() {
		family, s.Proto, s.ICMPType = 6, packettest.ICMPv6, 128
	}
	dip, _ := hostNamed([...]string{"dip", "indip"}[h.link], family)
	s.Src, s.Dst = netip.AddrPortFrom(h.addr, 0), netip.AddrPortFrom(dip.addr, 0)
	return s.Bytes()
}

// isGreeted reports whether b answers a greeting.
func isGreeted(b []byte) bool {
	at, reply := ethLen+20, byte(0)
	if len(b) > 12 && b[12] == 0x86 {
		at, reply = ethLen+40, 129
	}
	return len(b) >= at+8 && (b[ethLen+9] == packettest.ICMP || b[ethLen+6] == packettest.ICMPv6) && b[at] == reply && binary.BigEndian.Uint16(b[at+4:]) == greetID
}

// senderOf finds the host that a frame comes from.
func senderOf(b []byte) (host, bool) {
	switch {
	case len(b) >= ethLen+20 && b[12] == 8 && b[13] == 0:
		return hostOf(netip.AddrFrom4([4]byte(b[ethLen+12:])))
	case len(b) >= ethLen+40 && b[12] == 0x86 && b[13] == 0xdd:
		return hostOf(netip.AddrFrom16([16]byte(b[ethLen+8:])))
	}
	return host{}, false
}
