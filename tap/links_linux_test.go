package tap

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// message makes a netlink message about a link.
func message(kind uint16, index int32, flags uint32, tail int) []byte {
	b := make([]byte, unix.SizeofNlMsghdr+unix.SizeofIfInfomsg+tail)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], kind)
	binary.NativeEndian.PutUint32(b[20:], uint32(index))
	binary.NativeEndian.PutUint32(b[24:], flags)
	return append(b, make([]byte, -len(b)&3)...)
}

type linkSeen struct {
	kind  uint16
	index int32
	flags uint32
}

func seen(b []byte) (all []linkSeen) {
	eachLink(b, func(kind uint16, index int32, flags uint32) { all = append(all, linkSeen{kind, index, flags}) })
	return all
}

func TestEachLink(t *testing.T) {
	up := message(unix.RTM_NEWLINK, 7, unix.IFF_UP, 0)
	gone := message(unix.RTM_DELLINK, 8, 0, 33) // with attributes of an odd length
	other := message(unix.RTM_NEWADDR, 7, 1, 4)
	long := message(unix.RTM_NEWLINK, 9, 0, 0)
	binary.NativeEndian.PutUint32(long, 1000)
	short := message(unix.RTM_NEWLINK, 9, 0, 0)
	binary.NativeEndian.PutUint32(short, 20)
	zero := make([]byte, 64)
	tests := []struct {
		name string
		b    []byte
		want []linkSeen
	}{
		{"nothing", nil, nil},
		{"one", up, []linkSeen{{unix.RTM_NEWLINK, 7, unix.IFF_UP}}},
		{"three, one about something else", append(append(append([]byte{}, gone...), other...), up...), []linkSeen{{unix.RTM_DELLINK, 8, 0}, {unix.RTM_NEWLINK, 7, unix.IFF_UP}}},
		{"cut short", up[:len(up)-1], nil},
		{"longer than it is", append(append([]byte{}, up...), long...), []linkSeen{{unix.RTM_NEWLINK, 7, unix.IFF_UP}}},
		{"without its fields", short, nil},
		{"of no length", zero, nil},
	}
	for _, tt := range tests {
		got := seen(tt.b)
		if len(got) != len(tt.want) {
			t.Errorf("%s: %+v", tt.name, got)
			continue
		}
		for i := range got {
			if got[i] != tt.want[i] {
				t.Errorf("%s: %+v", tt.name, got)
			}
		}
	}
}

// FuzzEachLink: whatever the bytes, the walk ends, reads within them, and says no more than they can hold.
func FuzzEachLink(f *testing.F) {
	f.Add(message(unix.RTM_NEWLINK, 7, unix.IFF_UP, 0))
	f.Add(append(message(unix.RTM_DELLINK, 8, 0, 33), message(unix.RTM_NEWLINK, 7, 0, 1)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n := len(seen(b)); n > len(b)/(unix.SizeofNlMsghdr+unix.SizeofIfInfomsg) {
			t.Errorf("%d messages in %d bytes", n, len(b))
		}
	})
}
