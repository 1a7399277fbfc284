package ftp

import (
	"net/netip"
	"strings"
	"testing"

	"tapdirector/stack"
)

const (
	toServer = 0 // flow.Forward
	toClient = 1 // flow.Reply
)

func TestLines(t *testing.T) {
	for _, tc := range []struct {
		d     int
		line  string
		verb  verb
		addr  string // "": none
		port  uint16 // 0: not well formed, or none
		where string // the text that is the endpoint
	}{
		{toServer, "PORT 10,77,1,2,156,64\r\n", port, "10.77.1.2", 40000, "10,77,1,2,156,64"},
		{toServer, "port 10,77,1,2,0,1\n", port, "10.77.1.2", 1, "10,77,1,2,0,1"},
		{toServer, "PoRt   10,77,1,2,255,255  \r\n", port, "10.77.1.2", 65535, "10,77,1,2,255,255"},
		{toServer, "PORT 010,077,001,002,000,021\r\n", port, "10.77.1.2", 21, "010,077,001,002,000,021"},
		{toServer, "PORT 10,77,1,2,0,0\r\n", port, "", 0, ""},
		{toServer, "PORT 10,77,1,256,1,1\r\n", port, "", 0, ""},
		{toServer, "PORT 10,77,1,2,1\r\n", port, "", 0, ""},
		{toServer, "PORT 10,77,1,2,1,1,1\r\n", port, "", 0, ""},
		{toServer, "PORT 10,77,1,2,1,1 x\r\n", port, "", 0, ""},
		{toServer, "PORT 10.77.1.2.1.1\r\n", port, "", 0, ""},
		{toServer, "PORT 10,77,1,-2,1,1\r\n", port, "", 0, ""},
		{toServer, "PORT 10,77,1,0002,1,1\r\n", port, "", 0, ""},
		{toServer, "PORT 10,,1,2,1,1\r\n", port, "", 0, ""},
		{toServer, "PORT \r\n", port, "", 0, ""},
		{toServer, "PORT\r\n", other, "", 0, ""},
		{toServer, "PORTX 10,77,1,2,1,1\r\n", other, "", 0, ""},
		{toServer, " PORT 10,77,1,2,1,1\r\n", other, "", 0, ""},
		{toServer, "EPRT |1|10.77.1.2|40000|\r\n", eprt, "10.77.1.2", 40000, "|1|10.77.1.2|40000|"},
		{toServer, "eprt |2|2001:db8::2|40000|\r\n", eprt, "2001:db8::2", 40000, "|2|2001:db8::2|40000|"},
		{toServer, "EPRT !2!2001:DB8:0:0:0:0:0:2!1!\n", eprt, "2001:db8::2", 1, "!2!2001:DB8:0:0:0:0:0:2!1!"},
		{toServer, "EPRT |1|2001:db8::2|40000|\r\n", eprt, "", 0, ""},
		{toServer, "EPRT |2|10.77.1.2|40000|\r\n", eprt, "", 0, ""},
		{toServer, "EPRT |3|10.77.1.2|40000|\r\n", eprt, "", 0, ""},
		{toServer, "EPRT |2|fe80::1%eth0|40000|\r\n", eprt, "", 0, ""},
		{toServer, "EPRT |1|10.77.1.2|0|\r\n", eprt, "", 0, ""},
		{toServer, "EPRT |1|10.77.1.2|65536|\r\n", eprt, "", 0, ""},
		{toServer, "EPRT |1|10.77.1.2|40000\r\n", eprt, "", 0, ""},
		{toServer, "EPRT |1|10.77.1.2|40000|x\r\n", eprt, "", 0, ""},
		{toServer, "EPRT 1|10.77.1.2|40000|\r\n", eprt, "", 0, ""},
		{toServer, "EPRT |\r\n", eprt, "", 0, ""},
		{toServer, "EPRT \r\n", eprt, "", 0, ""},
		{toServer, "PASV\r\n", pasv, "", 0, ""},
		{toServer, "pasv\n", pasv, "", 0, ""},
		{toServer, "PASV \r\n", pasv, "", 0, ""},
		{toServer, "PASVX\r\n", other, "", 0, ""},
		{toServer, "EPSV\r\n", epsv, "", 0, ""},
		{toServer, "EPSV 2\r\n", epsv, "", 0, ""},
		{toServer, "AUTH TLS\r\n", auth, "", 0, ""},
		{toServer, "RETR 227 (1,2,3,4,5,6)\r\n", other, "", 0, ""},
		{toServer, "\r\n", other, "", 0, ""},
		{toServer, "\n", other, "", 0, ""},
		{toClient, "227 Entering Passive Mode (10,77,2,11,195,80).\r\n", answerPASV, "10.77.2.11", 50000, "10,77,2,11,195,80"},
		{toClient, "227 Entering Passive Mode 10,77,2,11,195,80\r\n", answerPASV, "10.77.2.11", 50000, "10,77,2,11,195,80"},
		{toClient, "227 =10,77,2,11,195,80\n", answerPASV, "10.77.2.11", 50000, "10,77,2,11,195,80"},
		{toClient, "227 Mode 2: (10,77,2,11,195,80)\r\n", answerPASV, "10.77.2.11", 50000, "10,77,2,11,195,80"},
		{toClient, "227 1,2,3,4,5,6,7 (10,77,2,11,195,80)\r\n", answerPASV, "10.77.2.11", 50000, "10,77,2,11,195,80"},
		{toClient, "227 Entering Passive Mode (10,77,2,11,195)\r\n", answerPASV, "", 0, ""},
		{toClient, "227 Entering Passive Mode (10,77,2,11,195,380)\r\n", answerPASV, "", 0, ""},
		{toClient, "227 \r\n", answerPASV, "", 0, ""},
		{toClient, "227-Entering (10,77,2,11,195,80)\r\n", other, "", 0, ""},
		{toClient, "2270 (10,77,2,11,195,80)\r\n", other, "", 0, ""},
		{toClient, "229 Entering Extended Passive Mode (|||50000|)\r\n", answerEPSV, "", 50000, "50000"},
		{toClient, "229 (###1#)\r\n", answerEPSV, "", 1, "1"},
		{toClient, "229 |||50000|\r\n", answerEPSV, "", 0, ""},
		{toClient, "229 (|1||50000|)\r\n", answerEPSV, "", 0, ""},
		{toClient, "229 (|||0|)\r\n", answerEPSV, "", 0, ""},
		{toClient, "229 (|||65536|)\r\n", answerEPSV, "", 0, ""},
		{toClient, "229 (|||50000|\r\n", answerEPSV, "", 0, ""},
		{toClient, "229 (|||50000)\r\n", answerEPSV, "", 0, ""},
		{toClient, "229 (|||", answerEPSV, "", 0, ""},
		{toClient, "229 (", answerEPSV, "", 0, ""},
		{toClient, "234 Proceed\r\n", answerAUTH, "", 0, ""},
	} {
		v := verbOf(tc.d, []byte(tc.line))
		e, ok := endpointOf(v, []byte(tc.line))
		var want stack.Addr
		if tc.addr != "" {
			want = stack.AddrFrom(netip.MustParseAddr(tc.addr))
		}
		if v != tc.verb || ok != (tc.port != 0) || ok && (e.addr != want || e.port != tc.port || tc.line[e.from:e.to] != tc.where) {
			t.Errorf("%q is %d with %+v, %v", tc.line, v, e, ok)
		}
		if v != other && !mayMatter(tc.d, []byte(tc.line)) {
			t.Errorf("%q does not matter", tc.line)
		}
	}
}

// Whatever a line that matters begins with may matter.
func TestMayMatter(t *testing.T) {
	for d := range words {
		for _, w := range words[d] {
			for n := range len(w.text) {
				if !mayMatter(d, []byte(strings.ToLower(w.text[:n]))) {
					t.Errorf("%q does not matter", w.text[:n])
				}
			}
			if mayMatter(d, []byte("X"+w.text)) {
				t.Errorf("X%s matters", w.text)
			}
		}
	}
}

// What is written is read again.
func TestAppend(t *testing.T) {
	for _, a := range []string{"0.0.0.0", "255.255.255.255", "10.77.1.100", "2001:db8::1", "ff02:ffff:ffff:ffff:ffff:ffff:ffff:ffff"} {
		for _, p := range []uint16{1, 255, 256, 65535} {
			addr := stack.AddrFrom(netip.MustParseAddr(a))
			line := append(appendExtended([]byte("EPRT "), addr, p), "\r\n"...)
			if e, ok := endpointOf(eprt, line); !ok || e.addr != addr || e.port != p {
				t.Errorf("%q: %+v, %v", line, e, ok)
			}
			if !addr.Is4() {
				continue
			}
			line = append(appendSix([]byte("227 ("), addr, p), ")\r\n"...)
			if e, ok := endpointOf(answerPASV, line); !ok || e.addr != addr || e.port != p {
				t.Errorf("%q: %+v, %v", line, e, ok)
			}
		}
	}
}

func FuzzLine(f *testing.F) {
	for _, s := range []string{"PORT 10,77,1,2,156,64\r\n", "EPRT |2|2001:db8::2|40000|\r\n", "227 (10,77,2,11,195,80)\r\n", "229 (|||50000|)\r\n", "229 (", "227 ,1,2,3,4,5,6"} {
		f.Add(byte(0), []byte(s))
		f.Add(byte(1), []byte(s))
	}
	f.Fuzz(func(t *testing.T, d byte, line []byte) {
		v := verbOf(int(d&1), line)
		e, ok := endpointOf(v, line)
		if !ok {
			return
		}
		if e.from < 4 || e.from >= e.to || e.to > len(line) || e.port == 0 {
			t.Fatalf("%q: %+v", line, e)
		}
		// What stands there is the endpoint: written in our words it is read as the same.
		var text []byte
		switch v {
		case port, answerPASV:
			text = appendSix(nil, e.addr, e.port)
		case eprt:
			text = appendExtended(nil, e.addr, e.port)
		case answerEPSV:
			text = appendPort(nil, e.port)
		}
		again := append(append(append([]byte{}, line[:e.from]...), text...), line[e.to:]...)
		if g, ok := endpointOf(v, again); !ok || g.addr != e.addr || g.port != e.port {
			t.Fatalf("%q became %q: %+v, %v", line, again, g, ok)
		}
	})
}
