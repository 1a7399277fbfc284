package flow

import (
	"strings"
	"testing"
	"time"

	"tapdirector/stack"
)

// The tables as IPVS's reference prints them: a column per state, a row per event.
const tcpReference = `
             NO ES SS SR FW TW CL CW LA LI SA
INPUT        syn: SR ES ES SR SR SR SR SR SR SR SR
             fin: CL CW SS TW TW TW CL CW LA LI TW
             ack: ES ES SS ES FW TW CL CW CL LI ES
             rst: CL CL CL SR CL CL CL CL LA LI SR
OUTPUT       syn: SS ES SS SR SS SS SS SS SS LI SR
             fin: TW FW SS TW FW TW CL TW LA LI TW
             ack: ES ES SS ES FW TW CL CW LA ES ES
             rst: CL CL SS CL CL TW CL CL CL CL CL
INPUT-ONLY   syn: SR ES ES SR SR SR SR SR SR SR SR
             fin: CL FW SS TW FW TW CL CW LA LI TW
             ack: ES ES SS ES FW TW CL CW CL LI ES
             rst: CL CL CL SR CL CL CL CL LA LI CL
`

var (
	stateOfLetters = map[string]State{"NO": None, "ES": Established, "SS": SynSent, "SR": SynRecv, "FW": FinWait, "TW": TimeWait,
		"CL": Close, "CW": CloseWait, "LA": LastAck, "LI": Listen, "SA": SynAck}
	viewOfName  = map[string]view{"INPUT": input, "OUTPUT": output, "INPUT-ONLY": inputOnly}
	flagsOfName = map[string]uint8{"syn:": stack.SYN, "fin:": stack.FIN, "ack:": stack.ACK, "rst:": stack.RST}
)

// cell is one place of the reference.
type cell struct {
	view     view
	flags    uint8
	from, to State
}

// referenceCells reads tcpReference.
func referenceCells(t *testing.T) (cells []cell) {
	lines := strings.Split(strings.TrimSpace(tcpReference), "\n")
	columns := strings.Fields(lines[0])
	var v view
	for _, line := range lines[1:] {
		fields := strings.Fields(line)
		if named, ok := viewOfName[fields[0]]; ok {
			v, fields = named, fields[1:]
		}
		if len(fields) != 1+len(columns) {
			t.Fatalf("row %q", line)
		}
		for i, letters := range fields[1:] {
			cells = append(cells, cell{v, flagsOfName[fields[0]], stateOfLetters[columns[i]], stateOfLetters[letters]})
		}
	}
	return cells
}

func TestTCPTablesCellByCell(t *testing.T) {
	cells := referenceCells(t)
	if want := int(numViews) * 4 * int(numTCP); len(cells) != want {
		t.Fatalf("%d cells, want %d", len(cells), want)
	}
	for _, c := range cells {
		if got := c.from.next(stack.ProtoTCP, c.view, c.flags); got != c.to {
			t.Errorf("view %d flags %#x: %v -> %v, want %v", c.view, c.flags, c.from, got, c.to)
		}
	}
	for v := range numViews {
		for s := range numTCP {
			if got := State(s).next(stack.ProtoTCP, v, stack.PSH); got != Close {
				t.Errorf("view %d, no flag: %v -> %v, want CLOSE", v, State(s), got)
			}
		}
	}
}

// The first flag in the order RST, SYN, FIN, ACK decides, whatever else is set.
func TestEventOrder(t *testing.T) {
	for flags := range 256 {
		f := uint8(flags)
		want := evNone
		switch {
		case f&stack.RST != 0:
			want = evRst
		case f&stack.SYN != 0:
			want = evSyn
		case f&stack.FIN != 0:
			want = evFin
		case f&stack.ACK != 0:
			want = evAck
		}
		if got := tcpEvents[f&tcpFlagMask]; got != want {
			t.Errorf("flags %#x: event %d, want %d", f, got, want)
		}
	}
}

func TestOtherProtocolsHaveOneState(t *testing.T) {
	for proto, want := range map[uint8]State{stack.ProtoUDP: UDP, stack.ProtoICMP: ICMP, stack.ProtoICMPv6: ICMP, 50: UDP} {
		for v := range numViews {
			for _, from := range []State{None, want} {
				if got := from.next(proto, v, stack.RST); got != want {
					t.Errorf("protocol %d: %v -> %v, want %v", proto, from, got, want)
				}
			}
		}
	}
}

func TestStateNamesTimeoutsAndActivity(t *testing.T) {
	want := []struct {
		name    string
		seconds int
		active  bool
	}{
		{"NONE", 2, false}, {"ESTABLISHED", 900, true}, {"SYN_SENT", 120, true}, {"SYN_RECV", 60, true}, {"FIN_WAIT", 120, false},
		{"TIME_WAIT", 120, false}, {"CLOSE", 10, false}, {"CLOSE_WAIT", 60, false}, {"LAST_ACK", 30, false}, {"LISTEN", 120, false},
		{"SYNACK", 120, true}, {"UDP", 300, false}, {"ICMP", 30, false},
		{"NONE", 2, false}, {"INIT1", 4, false}, {"INIT", 61, false}, {"C-SENT", 61, false}, {"C-REPLIED", 61, false}, {"C-WAIT", 61, false},
		{"COOKIE", 61, false}, {"C-ECHOED", 61, false}, {"ESTABLISHED", 900, true}, {"S-SENT", 61, false}, {"S-RECEIVED", 61, false},
		{"S-ACK-SENT", 61, false}, {"REJECTED", 4, false}, {"CLOSED", 61, false},
	}
	if len(want) != int(NumStates) {
		t.Fatal("states without a row here")
	}
	timeouts := DefaultTimeouts()
	for s, w := range want {
		state := State(s)
		if state.String() != w.name || timeouts[s] != time.Duration(w.seconds)*time.Second || state.Active() != w.active {
			t.Errorf("%d: %v, %v, active %v; want %+v", s, state, timeouts[s], state.Active(), w)
		}
	}
	if got := State(99).String(); got != "STATE_99" {
		t.Error(got)
	}
}

func TestReopens(t *testing.T) {
	for s := range NumStates {
		for flags := range 64 {
			f := uint8(flags)
			pure := f&stack.SYN != 0 && f&(stack.ACK|stack.RST|stack.FIN) == 0
			want := pure && (s == TimeWait || s == Close)
			if got := s.reopens(stack.ProtoTCP, f); s < SCTPNone && got != want {
				t.Errorf("%v, flags %#x: %v", s, f, got)
			}
			if s.reopens(stack.ProtoUDP, f) {
				t.Errorf("UDP reopens in %v", s)
			}
			if got := s.reopens(stack.ProtoSCTP, f); s >= SCTPNone && got != (s == SCTPClosed && f == stack.ChunkInit) {
				t.Errorf("SCTP, %v, chunk %d: %v", s, f, got)
			}
		}
	}
}

func TestResultNames(t *testing.T) {
	for r := range numResults {
		if r.String() == "" {
			t.Errorf("result %d has no name", r)
		}
	}
	if got := Result(77).String(); got != "result 77" {
		t.Error(got)
	}
}
