package packettest

import (
	"encoding/binary"
	"hash/crc32"
)

// Chunk types of SCTP (RFC 9260 section 3.2).
const (
	Data             = 0
	Init             = 1
	InitAck          = 2
	Sack             = 3
	Heartbeat        = 4
	HeartbeatAck     = 5
	Abort            = 6
	Shutdown         = 7
	ShutdownAck      = 8
	Error            = 9
	CookieEcho       = 10
	CookieAck        = 11
	ShutdownComplete = 14
)

// minimal are the bytes of value that chunks have at least, for those that have any.
var minimal = map[uint8]int{Data: 12 + 4, Init: 16, InitAck: 16, Sack: 12, Shutdown: 4, CookieEcho: 8}

// Chunk builds a chunk of SCTP with this value, padded to a multiple of four bytes; nil is the shortest that its type may have, filled with ones. Chunks
// are put together with append.
func Chunk(kind uint8, value []byte) []byte {
	if value == nil {
		value = make([]byte, minimal[kind])
		for i := range value {
			value[i] = 1
		}
	}
	b := append([]byte{kind, 0, 0, 0}, value...)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func (s *Spec) sctp() []byte {
	b := make([]byte, 12, 12+len(s.Payload))
	binary.BigEndian.PutUint16(b, s.Src.Port())
	binary.BigEndian.PutUint16(b[2:], s.Dst.Port())
	binary.BigEndian.PutUint32(b[4:], s.Tag)
	if len(s.Payload) == 0 {
		b = append(b, Chunk(Data, nil)...)
	}
	b = append(b, s.Payload...)
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return b
}
