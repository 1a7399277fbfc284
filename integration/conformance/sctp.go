package main

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strings"

	"tapdirector/stack/packettest"
)

// SCTP as scripts write it, "COOKIE-ECHO,DATA", and as traces do.

// chunkTypes are the names of RFC 9260's chunks, and one that nobody knows.
var chunkTypes = map[string]uint8{
	"DATA": packettest.Data, "INIT": packettest.Init, "INIT-ACK": packettest.InitAck, "SACK": packettest.Sack, "HEARTBEAT": packettest.Heartbeat,
	"HEARTBEAT-ACK": packettest.HeartbeatAck, "ABORT": packettest.Abort, "SHUTDOWN": packettest.Shutdown, "SHUTDOWN-ACK": packettest.ShutdownAck,
	"ERROR": packettest.Error, "COOKIE-ECHO": packettest.CookieEcho, "COOKIE-ACK": packettest.CookieAck, "SHUTDOWN-COMPLETE": packettest.ShutdownComplete,
	"UNKNOWN": 0x3f,
}

const (
	usualTag   = 0x77777777 // of packets but INIT
	sctpHeader = 12
	sctpSum    = 8
)

// chunksOf reads "COOKIE-ECHO,DATA".
func chunksOf(word string) (chunks []byte, ok bool) {
	for _, n := range strings.Split(word, ",") {
		kind, known := chunkTypes[n]
		if !known {
			return nil, false
		}
		chunks = append(chunks, packettest.Chunk(kind, nil)...)
	}
	return chunks, true
}

// setChunks makes it a packet of SCTP.
func (d *draft) setChunks(chunks []byte) {
	d.spec.Proto, d.spec.Payload, d.spec.Tag = packettest.SCTP, chunks, usualTag
	if chunks[0] == packettest.Init {
		d.spec.Tag = 0
	}
}

// setMessage makes it a DATA chunk of so many bytes.
func (d *draft) setMessage(n uint64) {
	value := make([]byte, 12+n)
	for i := range value {
		value[i] = byte('a' + i%26)
	}
	d.setChunks(packettest.Chunk(packettest.Data, value))
}

// setChunkLen makes the first chunk lie about its length.
func (d *draft) setChunkLen(n uint16) {
	d.later(func(b []byte) []byte {
		binary.BigEndian.PutUint16(b[d.l4()+sctpHeader+2:], n)
		sumSCTP(b[d.l4():])
		return b
	})
}

// setBare leaves so many bytes of the packet behind the IP header.
func (d *draft) setBare(n int) {
	d.later(func(b []byte) []byte { return b[:d.l4()+n] })
	total := 20 + n
	if d.c.family == 6 {
		total = n
	}
	d.setIPLen(uint16(total))
	d.later(func(b []byte) []byte { sumSCTP(b[d.l4():]); return b })
}

// sumSCTP computes the checksum of an SCTP packet.
func sumSCTP(l4 []byte) {
	binary.LittleEndian.PutUint32(l4[sctpSum:], 0)
	binary.LittleEndian.PutUint32(l4[sctpSum:], crc32.Checksum(l4, castagnoli))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sctp writes a packet: its tag, its chunks as far as their lengths can be believed.
func (w *writer) sctp(b []byte) {
	var names []string
	for c := b[sctpHeader:]; len(c) >= 4; {
		names = append(names, chunkName(c[0], c[1]))
		n := (int(binary.BigEndian.Uint16(c[2:])) + 3) &^ 3
		if n < 4 || n > len(c) {
			names = append(names, "...")
			break
		}
		c = c[n:]
	}
	w.add("SCTP %s tag %#x", strings.Join(names, ","), binary.BigEndian.Uint32(b[4:]))
	w.payload(b[sctpHeader:])
}

func chunkName(kind, flags uint8) string {
	for n, k := range chunkTypes {
		if k == kind && kind == packettest.Abort && flags&1 != 0 {
			return n + "(T)"
		}
		if k == kind {
			return n
		}
	}
	return fmt.Sprint("chunk ", kind)
}

// sumOfSCTP says when the checksum is wrong, and in which bits.
func (w *writer) sumOfSCTP(b []byte) {
	if len(b) < sctpHeader {
		return
	}
	whole := append([]byte(nil), b...)
	sumSCTP(whole)
	if d := binary.LittleEndian.Uint32(whole[sctpSum:]) ^ binary.LittleEndian.Uint32(b[sctpSum:]); d != 0 {
		w.add("WRONG CHECKSUM by %#08x", d)
	}
}
