package main

import (
	"strings"
	"testing"
)

// caseFor is a case to build frames for.
func caseFor(t *testing.T, family, proto string) *testCase {
	t.Helper()
	s, err := parseScript("f", "case a\n  family "+family+"\n  service "+proto+" vip:80 rr nat\n  server server:8000\n")
	if err != nil {
		t.Fatal(err)
	}
	return s.cases[0]
}

// What a line makes, as the trace would write it if it had left by the link it came in.
func TestFrames(t *testing.T) {
	for _, c := range []struct{ family, proto, line, want string }{
		{"4", "tcp", "> SYN", "ext to director/ext from client: client:40000 > vip:80 TCP SYN seq 1000 ack 2000 win 65000 ttl 64 df id 0x1111"},
		{"6", "tcp", "> SYN", "ext to director/ext from client: client:40000 > vip:80 TCP SYN seq 1000 ack 2000 win 65000 ttl 64"},
		{"4", "tcp", "< ACK data=3", "int to director/int from server: server:8000 > client:40000 TCP ACK seq 1000 ack 2000 win 65000 data 3 352441c2 ttl 64 df id 0x1111"},
		{"4", "tcp", "> ACK says PORT 1,2=3 data", `data 17 says "PORT 1,2=3 data\r\n" ttl 64`},
		{"6", "tcp", "< ACK begins 200 a\\n22", `data 9 says "200 a\r\n22" ttl 64`},
		{"4", "tcp", "> ACK begins hello", "data 5 3610a686 ttl 64"},
		{"4", "udp", "> client2:7 -> vip2:53 data 0 ttl 1", "ext to director/ext from client2: client2:7 > vip2:53 UDP ttl 1 df id 0x1111"},
		{"4", "udp", "> far:7 -> vip:53 nodf nosum data 0", "ext to director/ext from gw: far:7 > vip:53 UDP nosum ttl 64 id 0x1111"},
		{"6", "udp", "> nosum data 0 tos 0xb8", "UDP nosum ttl 64 tos 0xb8"},
		{"4", "tcp", "> SYN tos 3 id 7 reserved", "ttl 64 tos 0x3 reserved id own"},
		{"4", "tcp", "> none data 0 options 01010100", "TCP none seq 1000 ack 2000 win 65000 ttl 64 df id 0x1111 options 01010100"},
		{"4", "tcp", "> SYN tcpoptions 01010101", "win 65000 tcpoptions 01010101 ttl"},
		{"4", "tcp", "> SYN badsum", "WRONG CHECKSUM by 0x"},
		{"6", "tcp", "> SYN badsum", "WRONG CHECKSUM by 0x"},
		{"4", "tcp", "> SYN badipsum", "WRONG IP CHECKSUM"},
		{"4", "tcp", "> SYN doff 4", "win 65000 doff 16 ttl 64"},
		{"4", "udp", "> udplen 5 data 4", "UDP udplen 5 data 4"},
		{"4", "tcp", "> SYN cut 5", "CUT 35 OF 40"},
		{"6", "tcp", "> SYN pad 5", "padded"},
		{"4", "tcp", "> SYN iplen 19", "LENGTH 19"},
		{"6", "tcp", "> SYN iplen 100", "CUT 60 OF 140"},
		{"6", "tcp", "> SYN ext hop,dst", "ttl 64 ext 0 00010400000000 ext 60 00010400000000"},
		{"4", "tcp", "> SYN ttl 0", "ttl 0 df"},
		{"6", "tcp", "> SYN ttl 0", "ttl 0"},
		{"4", "tcp", "> SYN to client2", "ext to client2 from client"},
		{"4", "tcp", "> client -> dip echo data 0", "client > dip ICMP 8/0 arg 0x12340001 ttl 64"},
		{"6", "tcp", "> client -> dip echo data 0", "client > dip ICMPv6 128/0 arg 0x12340001 ttl 64"},
		{"4", "udp", "> offset 8 more data 16", "client > vip protocol 17 data 16 943ac093 ttl 64 df mf offset 8"},
		{"4", "tcp", "> client -> vip proto 200 data 1", "client > vip protocol 200 data 1"},
	} {
		tc := caseFor(t, c.family, c.proto)
		words := strings.Fields(c.line)
		l, b, err := buildFrame(tc, &memory{}, &step{verb: words[0], args: words[1:]})
		if err != nil {
			t.Errorf("v%s %s: %v", c.family, c.line, err)
			continue
		}
		if got := describe(l, b, map[uint16]bool{0x1111: true}); !strings.Contains(got, c.want) {
			t.Errorf("v%s %s: %s, want %s", c.family, c.line, got, c.want)
		}
	}
}

// An error quotes what left by its link, what came in, or what the VIP would answer to that.
func TestICMPErrorFrames(t *testing.T) {
	for _, family := range []string{"4", "6"} {
		tc := caseFor(t, family, "tcp")
		_, out, _ := buildFrame(tc, &memory{}, &step{verb: "<", args: []string{"server:8000", "->", "client:40000", "ACK"}})
		_, came, _ := buildFrame(tc, &memory{}, &step{verb: ">", args: []string{"SYN"}})
		m := &memory{}
		m.last[ext], m.sent[ext] = out, came
		for _, c := range []struct{ line, want string }{
			{"icmp too-big arg 1300", "gw > server ICMP"},
			{"gw -> vip icmp expired about in", "[ client:40000 > vip:80 TCP SYN"},
			{"gw -> vip icmp expired about answer", "[ vip:80 > client:40000 TCP SYN"},
			{"icmp unreachable quote 10", "cut"},
		} {
			_, b, err := buildFrame(tc, m, &step{verb: ">", args: strings.Fields(c.line)})
			if err != nil {
				t.Errorf("v%s %s: %v", family, c.line, err)
				continue
			}
			if got := describe(ext, b, nil); !strings.Contains(got, c.want) || strings.Contains(got, "WRONG") {
				t.Errorf("v%s %s: %s, want %s", family, c.line, got, c.want)
			}
		}
	}
}

func TestFrameMistakes(t *testing.T) {
	tc := caseFor(t, "4", "tcp")
	for _, line := range []string{"bogus", "ttl", "ttl x", "->", "a b -> c", "nobody:1 -> vip:80 SYN", "ext bogus", "icmp bogus", "icmp too-big",
		"[::1]:1 -> vip:80 SYN", "options xyz", "to nobody", "data x"} {
		if _, b, err := buildFrame(tc, &memory{}, &step{verb: ">", args: strings.Fields(line)}); err == nil {
			t.Errorf("%q makes a frame: %x", line, b)
		}
	}
}

func TestChatter(t *testing.T) {
	tc := caseFor(t, "6", "tcp")
	_, syn, _ := buildFrame(tc, &memory{}, &step{verb: ">", args: []string{"SYN"}})
	_, echo, _ := buildFrame(tc, &memory{}, &step{verb: ">", args: strings.Fields("client -> vip echo")})
	for _, b := range [][]byte{syn, echo} {
		if isChatter(b) {
			t.Errorf("%s is taken for chatter", describe(ext, b, nil))
		}
	}
	report := append([]byte(nil), echo...)
	report[ethLen+40] = 143
	if !isChatter(report) {
		t.Error("a listener report is not taken for chatter")
	}
}

func TestSmallestRotation(t *testing.T) {
	for _, c := range [][2]string{{"3 1 2", "1 2 3"}, {"2 1 1 2 1 1", "1 1 2 1 1 2"}, {"1", "1"}, {"", ""}} {
		if got := strings.Join(smallestRotation(strings.Fields(c[0])), " "); got != c[1] {
			t.Errorf("%s: %s, want %s", c[0], got, c[1])
		}
	}
}

func TestVerdicts(t *testing.T) {
	plain, declared := &testCase{}, &testCase{differs: [][2]string{{"key", "why"}}}
	a, b := []string{"> SYN", "    one"}, []string{"> SYN", "    two"}
	for _, c := range []struct {
		o      outcome
		passed bool
		want   string
	}{
		{outcome{c: plain, lvs: a, us: a}, true, "same"},
		{outcome{c: plain, lvs: a, us: b}, false, "FAIL: differs"},
		{outcome{c: declared, lvs: a, us: b}, true, "differs: docs/lvs.md#key"},
		{outcome{c: declared, lvs: a, us: a}, false, "FAIL: declared to differ, but does not"},
		{outcome{c: plain, lvs: a, us: a, lvsErr: errSilent}, false, "FAIL: broken"},
	} {
		if c.o.passed() != c.passed || c.o.verdict() != c.want {
			t.Errorf("%v, %q, want %v, %q", c.o.passed(), c.o.verdict(), c.passed, c.want)
		}
	}
	if got := diff(a, b); got != "      > SYN\n  LVS     one\n  us      two\n" {
		t.Errorf("diff is\n%s", got)
	}
	if got := summary(a, b, nil) + summary(b, a, nil); got != "onetwo" {
		t.Errorf("summaries are %s", got)
	}
}

func TestRecord(t *testing.T) {
	dir := t.TempDir()
	s := &script{name: "f", cases: []*testCase{{name: "f/a"}, {name: "f/b"}, {name: "f/c"}}}
	want := map[string][]string{"f/a": {"> SYN", "    one"}, "f/b": {"conns"}}
	if err := writeRecord(dir, s, want); err != nil {
		t.Fatal(err)
	}
	got, err := readRecord(dir, "f")
	if err != nil || len(got) != 2 || strings.Join(got["f/a"], "|") != "> SYN|    one" || strings.Join(got["f/b"], "|") != "conns" {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := readRecord(dir, "none"); got != nil || err != nil {
		t.Errorf("no file is %v, %v", got, err)
	}
}

func TestPlayerFailsExpectations(t *testing.T) {
	s, err := parseScript("f", "case a\n  service tcp vip:80 rr nat\n  server server:8000\n  > SYN\n  expect ext to client\n")
	if err != nil {
		t.Fatal(err)
	}
	us := newUs()
	defer us.Close()
	if _, err := play(us, s.cases[0]); err == nil || !strings.Contains(err.Error(), "int to server") {
		t.Errorf("an expectation that is not met: %v", err)
	}
}
