package stack

import (
	"encoding/binary"

	"tapdirector/tap"
)

// 802.1Q tags. A TAP carries them within the frame: the kernel writes into it what a NIC or a VLAN device took out, with the virtio header in step, and
// takes them the same way. Parse knows no tags; who reads a trunk takes the tag off before, and puts one on behind everything else. Both move
// the MACs by four bytes, into the frame or out of it.
//
// Priority bits are neither kept nor set.

const (
	tagLen  = 4
	macsLen = 12
)

// PopTag takes the 802.1Q tag off a frame and returns its VLAN, 1 to 4095 (4095 is nobody's); 0 for a frame without a tag. ok is false for a tag that says no
// VLAN (priority only), and for one that is cut short: such a frame stays as it is. A second tag is left to Parse, which refuses it.
func PopTag(f *tap.Frame) (vlan uint16, ok bool) {
	b := f.Bytes()
	if len(b) < tap.EthernetLen || binary.BigEndian.Uint16(b[macsLen:]) != etherVLAN {
		return 0, true
	}
	if len(b) < tap.EthernetLen+tagLen {
		return 0, false
	}
	vlan = binary.BigEndian.Uint16(b[macsLen+2:]) & 0xfff
	if vlan == 0 {
		return 0, false
	}
	copy(b[tagLen:], b[:macsLen])
	f.Prepend(-tagLen)
	f.Header.CsumStart -= tagLen // of a frame that is not partial it says nothing; a wrong one becomes wrong in another way, and Parse looks
	f.Header.HdrLen -= min(tagLen, f.Header.HdrLen)
	return vlan, true
}

// PushTag puts the tag of a VLAN, 1 to 4094, on a frame. It reports false, and changes nothing, when there is no headroom.
func PushTag(f *tap.Frame, vlan uint16) bool {
	if !f.Prepend(tagLen) {
		return false
	}
	b := f.Bytes()
	copy(b[:macsLen], b[tagLen:])
	binary.BigEndian.PutUint16(b[macsLen:], etherVLAN)
	binary.BigEndian.PutUint16(b[macsLen+2:], vlan)
	if f.Header.Partial() {
		f.Header.CsumStart += tagLen
	}
	if f.Header.HdrLen > 0 {
		f.Header.HdrLen += tagLen
	}
	return true
}
