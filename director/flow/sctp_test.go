package flow

import (
	"strings"
	"testing"
	"time"

	"tapdirector/stack"
)

// The tables as IPVS's reference prints them: a column per state, a row per chunk.
const sctpReference = `
               NO I1 IN CS CR CW CO CE ES SS SR SA RJ CL
INPUT      d   ES I1 IN CS CR CW CO CE ES SS SR SA RJ CL
           i   I1 IN IN CS CR CW CO CE ES SS SR SA IN IN
           i_a CW CW CW CS CR CO CO CE ES SS SR SA RJ CL
           c_e CR IN IN CR CR CW CO CE ES SS SR SA RJ CL
           c_a ES I1 IN CS CR CW CO ES ES SS SR SA RJ CL
           s   SR I1 IN CS CR CW CO CE SR SS SR SA RJ CL
           s_a CL IN IN CS CR CW CO CE ES CL SR CL RJ CL
           s_c CL CL CL CS CR CW CO CE ES SS SR CL RJ CL
           err CL I1 IN CS CR CW CO CL ES SS SR SA RJ CL
           ab  CL CL CL CL CL RJ CL CL CL CL CL CL CL CL
OUTPUT     d   ES I1 IN CS CR CW CO CE ES SS SR SA RJ CL
           i   CW CW CW CW CW CW CW CW ES CW CW CW CW CW
           i_a CS CS CS CS CR CW CO CE ES SS SR SA RJ CL
           c_e CE CE CE CE CE CE CE CE ES SS SR SA RJ CL
           c_a ES ES ES ES ES ES ES ES ES SS SR SA RJ CL
           s   SS SS SS SS SS SS SS SS SS SS SR SA RJ CL
           s_a SA SA SA SA SA CW CO CE ES SA SA SA RJ CL
           s_c CL I1 IN CS CR CW CO CE ES SS SR SA RJ CL
           err CL CL CL CL CL CW CO CE ES SS SR SA RJ CL
           ab  CL RJ CL CL CL CL CL CL CL CL CL CL CL CL
INPUT-ONLY d   ES I1 IN CS CR ES CO CE ES SS SR SA RJ CL
           i   I1 IN IN IN IN IN CO CE ES SS SR SA IN IN
           i_a CE CE CE CE CE CE CO CE ES SS SR SA RJ CL
           c_e ES ES ES ES ES ES CO CE ES SS SR SA RJ CL
           c_a ES I1 IN ES ES CW ES ES ES SS SR SA RJ CL
           s   SR I1 IN CS CR CW CO CE SR SS SR SA RJ CL
           s_a CL IN IN CS CR CW CO CE CL CL SR CL RJ CL
           s_c CL CL CL CL CL CW CO CE ES SS CL CL RJ CL
           err CL I1 IN CS CR CW CO CE ES SS SR SA RJ CL
           ab  CL CL CL CL CL RJ CL CL CL CL CL CL CL CL
`

var sctpStateOfLetters = map[string]State{"NO": SCTPNone, "I1": SCTPInit1, "IN": SCTPInit, "CS": SCTPCookieSent, "CR": SCTPCookieReplied,
	"CW": SCTPCookieWait, "CO": SCTPCookie, "CE": SCTPCookieEchoed, "ES": SCTPEstablished, "SS": SCTPShutdownSent, "SR": SCTPShutdownReceived,
	"SA": SCTPShutdownAckSent, "RJ": SCTPRejected, "CL": SCTPClosed}

// chunksOfName are the chunk types of a row: data stands for all that have none.
var chunksOfName = map[string][]uint8{"d": {0, 3, 4, 5, 12, 13, 15, 64, 192, 255}, "i": {1}, "i_a": {2}, "c_e": {10}, "c_a": {11}, "s": {7}, "s_a": {8},
	"s_c": {14}, "err": {9}, "ab": {6}}

func TestSCTPTablesCellByCell(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(sctpReference), "\n")
	columns := strings.Fields(lines[0])
	var v view
	cells := 0
	for _, line := range lines[1:] {
		fields := strings.Fields(line)
		if named, ok := viewOfName[fields[0]]; ok {
			v, fields = named, fields[1:]
		}
		if len(fields) != 1+len(columns) {
			t.Fatalf("row %q", line)
		}
		for i, letters := range fields[1:] {
			from, want := sctpStateOfLetters[columns[i]], sctpStateOfLetters[letters]
			for _, chunk := range chunksOfName[fields[0]] {
				if got := from.next(stack.ProtoSCTP, v, chunk); got != want {
					t.Errorf("view %d, %s (chunk %d): %v -> %v, want %v", v, fields[0], chunk, from, got, want)
				}
			}
			cells++
		}
	}
	if want := int(numViews) * int(numSCTPEvents) * int(numSCTP); cells != want {
		t.Errorf("%d cells, want %d", cells, want)
	}
}

// TestSCTPLife takes an association through the table, with NAT and with direct routing: states, timeouts, active and inactive, and the end.
func TestSCTPLife(t *testing.T) {
	type step struct {
		d     Direction
		chunk uint8
		want  State
	}
	life := map[Method][]step{
		NAT: {{Forward, stack.ChunkInit, SCTPInit1}, {Reply, stack.ChunkInitAck, SCTPCookieSent}, {Forward, stack.ChunkCookieEcho, SCTPCookieReplied},
			{Reply, stack.ChunkCookieAck, SCTPEstablished}, {Forward, stack.ChunkData, SCTPEstablished}, {Reply, 3, SCTPEstablished},
			{Forward, stack.ChunkShutdown, SCTPShutdownReceived}, {Reply, stack.ChunkShutdownAck, SCTPShutdownAckSent},
			{Forward, stack.ChunkShutdownComplete, SCTPClosed}},
		DR: {{Forward, stack.ChunkInit, SCTPInit1}, {Forward, stack.ChunkCookieEcho, SCTPEstablished}, {Forward, stack.ChunkData, SCTPEstablished},
			{Forward, stack.ChunkAbort, SCTPClosed}},
	}
	for _, ip := range families {
		for method, steps := range life {
			var active, inactive int32
			table := New(Options{Max: 100, Count: func(_ uint32, a, i int32) { active += a; inactive += i }})
			c := ip.conn(method, stack.ProtoSCTP, 1)
			forward, reply := c.Tuple(Forward), c.Tuple(Reply)
			for i, s := range steps {
				var out Conn
				k, now := forward, time.Duration(i)*time.Second
				if s.d == Reply {
					k = reply
				}
				if i == 0 {
					if r := table.Insert(&c, s.chunk, now, &out); r != Inserted {
						t.Fatal(r)
					}
				} else if r := table.touchTuple(&k, s.d, s.chunk, Hop{}, now, &out); r != Found {
					t.Fatal(r)
				}
				want := [2]int32{0, 1}
				if s.want == SCTPEstablished {
					want = [2]int32{1, 0}
				}
				if got := [2]int32{active, inactive}; out.State != s.want || got != want {
					t.Errorf("%v %v step %d: %v, active and inactive %v; want %v, %v", ip, method, i, out.State, got, s.want, want)
				}
				table.Each(now, func(_ *Conn, left time.Duration) bool {
					if d := left - DefaultTimeouts()[s.want]; d < 0 || d > time.Second {
						t.Errorf("%v step %d: %v left", ip, i, left)
					}
					return true
				})
			}
			if n := table.Expire(time.Hour); n != 1 || active != 0 || inactive != 0 {
				t.Errorf("%v: %d expired, %d active, %d inactive", ip, n, active, inactive)
			}
		}
	}
}

// An INIT begins anew what is CLOSED, and nothing else.
func TestSCTPReopens(t *testing.T) {
	for _, ip := range families {
		table := New(Options{Max: 100})
		c := ip.conn(NAT, stack.ProtoSCTP, 1)
		k := c.Tuple(Forward)
		var out Conn
		table.Insert(&c, stack.ChunkInit, 0, &out)
		for i, s := range []struct {
			chunk uint8
			want  Result
		}{{stack.ChunkInit, Found}, {stack.ChunkAbort, Found}, {stack.ChunkCookieEcho, Found}, {stack.ChunkInit, Reopen}, {stack.ChunkInit, Miss}} {
			if got := table.touchTuple(&k, Forward, s.chunk, Hop{}, 0, &out); got != s.want {
				t.Errorf("%v step %d: %v, want %v", ip, i, got, s.want)
			}
		}
	}
}
