package conf

import (
	"strings"
	"testing"
)

// TestFTP: where control connections may be, and what the message says elsewhere.
func TestFTP(t *testing.T) {
	for _, tc := range []struct {
		name  string
		edits []string
		wrong string
	}{
		{"nat", []string{atWeb, atWeb + "ftp = true\n"}, ""},
		{"fullnat", []string{`"10.77.1.100:80"`, `"10.77.1.100:21"`, atWeb, atWeb + "ftp = true\nmethod = \"fullnat\"\n"}, ""},
		{"and every port", []string{`"10.77.1.100:80"`, `["10.77.1.100:21", "10.77.1.100:0"]`, atWeb, atWeb + "ftp = true\npersistence_timeout = 300\n"}, ""},
		{"said no", []string{"method = \"dr\"", "method = \"dr\"\nftp = false"}, ""},
		{"every port alone", []string{`"10.77.1.100:80"`, `"10.77.1.100:0"`, atWeb, atWeb + "ftp = true\n"},
			`service "web": ftp: no listen of one port, which is where control connections go: write listen = ["10.77.1.100:21", "10.77.1.100:0"]`},
		{"udp", []string{atWeb, atWeb + "ftp = true\nprotocol = \"udp\"\n"}, `service "web": ftp: only for tcp: the service is udp`},
		{"dr", []string{"method = \"dr\"", "method = \"dr\"\nftp = true"},
			`service "fast": ftp: only for nat and fullnat: with dr the server's answers do not pass here, and need no change: listen on port 21 and on every port ` +
				`(or on the servers' passive ports), with persistence_timeout, instead`},
		{"between families", []string{`["10.77.2.1/24"]`, `["10.77.2.1/24", "2001:db8:2::1/64"]`, `"10.77.2.12:8000"`, `"[2001:db8:2::12]:8000"`, atWeb, atWeb + "ftp = true\nmethod = \"fullnat\"\n"},
			`service "web": server 2: address "[2001:db8:2::12]:8000": of another family than the VIP, which ftp does not translate`},
		{"toa", []string{atWeb, atWeb + "ftp = true\nmethod = \"fullnat\"\ntoa = true\n"}, `service "web": ftp: not with toa`},
		{"pickup", []string{atWeb, atWeb + "ftp = true\nscheduler = \"sh\"\npickup = true\n"},
			`service "web": ftp: not with pickup: by how much a connection's numbers were changed is not known after a restart`},
		{"no session", []string{atEnd, atEnd + "[limits]\nftp_sessions = 0\n"}, `limits: ftp_sessions 0: out of range: 1 to 1048576`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := parse(edit(t, good, tc.edits...))
			switch {
			case tc.wrong == "" && err != nil:
				t.Error(err)
			case tc.wrong != "" && (err == nil || !strings.Contains(err.Error(), tc.wrong)):
				t.Errorf("got %v, want %s", err, tc.wrong)
			case tc.wrong == "" && tc.name != "said no" && !strings.Contains(stateText(&c.Services[0]), "ftp"):
				t.Errorf("listed as %q", stateText(&c.Services[0]))
			}
		})
	}
}
