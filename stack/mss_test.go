package stack

import (
	"bytes"
	"encoding/binary"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"tapdirector/stack/packettest"
)

// mssOption is TCP's option as it lies in the header.
func mssOption(mss uint16) []byte { return binary.BigEndian.AppendUint16([]byte{2, 4}, mss) }

func TestClampMSS(t *testing.T) {
	for _, fam := range families {
		for _, tt := range []struct {
			name    string
			flags   uint8
			options []byte
			want    uint16 // 0: unchanged
		}{
			{"lowered", SYN, mssOption(1460), 1400},
			{"behind others", SYN, append([]byte{4, 2, 1, 1, 1, 3, 3, 7}, mssOption(8960)...), 1400},
			{"at an odd place", SYN, append(append([]byte{1}, mssOption(1460)...), 3, 3, 7), 1400},
			{"to a server", SYN | ECE | CWR, mssOption(1401), 1400},
			{"low enough", SYN, mssOption(1400), 0},
			{"lower", SYN, mssOption(536), 0},
			{"none", SYN, nil, 0},
			{"not a SYN", ACK, mssOption(1460), 0},
			{"behind the end", SYN, append([]byte{0, 0, 0, 0}, mssOption(1460)...), 0},
			{"a length of 0", SYN, append([]byte{3, 0, 1, 1}, mssOption(1460)...), 0},
			{"a length beyond", SYN, []byte{1, 1, 2, 4}, 0},
			{"of a wrong length", SYN, []byte{2, 3, 5, 1}, 0},
			{"cut at its kind", SYN, []byte{1, 1, 1, 2}, 0},
		} {
			for _, partial := range []bool{false, true} {
				s := packettest.Spec{Src: fam.client, Dst: fam.vip, Flags: tt.flags, TCPOptions: tt.options, Partial: partial, Seq: 77}
				f := s.Frame()
				p := mustParse(t, &f)
				before := bytes.Clone(f.Bytes())
				changed := p.ClampMSS(f.Bytes(), partial, 1400)
				if changed != (tt.want != 0) || !ChecksumOK(&f, &p) || !changed && !bytes.Equal(before, f.Bytes()) {
					t.Errorf("%s, %s, partial %v: changed %v, checksum right %v", fam.name, tt.name, partial, changed, ChecksumOK(&f, &p))
				}
				if CompleteChecksum(&f, &p); !ChecksumOK(&f, &p) {
					t.Errorf("%s, %s, partial %v: wrong when completed", fam.name, tt.name, partial)
				}
				if got := header.ParseSynOptions(header.TCP(f.Bytes()[p.L4:]).Options(), false).MSS; changed && got != tt.want {
					t.Errorf("%s, %s: MSS %d, want %d", fam.name, tt.name, got, tt.want)
				}
			}
		}
	}
}
