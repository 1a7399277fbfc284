package conf

import (
	"slices"
	"testing"
	"time"
)

// TestListen: what listen may say, and which port servers get that name none.
func TestListen(t *testing.T) {
	for _, tc := range []struct {
		listen string
		want   []string
		low    uint16
		high   uint16
		port   uint16 // of a server
	}{
		{`"10.77.1.100:80"`, []string{"10.77.1.100:80"}, 80, 80, 80},
		{`["10.77.1.100:80"]`, []string{"10.77.1.100:80"}, 80, 80, 80},
		{`["10.77.1.100:80", "10.77.1.102:443"]`, []string{"10.77.1.100:80", "10.77.1.102:443"}, 80, 80, 0},
		{`"10.77.1.100:6000-6999"`, []string{"10.77.1.100:6000-6999"}, 6000, 6999, 0},
		{`"10.77.1.100:1-65535"`, []string{"10.77.1.100:1-65535"}, 1, 65535, 0},
		{`"10.77.1.100:0"`, []string{"10.77.1.100:0"}, 0, 65535, 0},
	} {
		inBothFamilies(t, func(t *testing.T, form func(string) string) {
			v := mustParse(t, form(edit(t, good, `"10.77.1.100:80"`, tc.listen, "10.77.2.11:8000", "10.77.2.11"))).Services[0]
			var got []string
			for _, l := range v.Listen {
				got = append(got, l.String())
				if l.Interface != 0 {
					t.Errorf("%v is on interface %d, want 0", l, l.Interface)
				}
			}
			for i := range tc.want {
				tc.want[i] = form(tc.want[i])
			}
			if !slices.Equal(got, tc.want) || v.Listen[0].Low != tc.low || v.Listen[0].High != tc.high {
				t.Errorf("%s is %v, %d to %d", tc.listen, got, v.Listen[0].Low, v.Listen[0].High)
			}
			if p := v.Servers[0].Address.Port(); p != tc.port || v.Servers[1].Address.Port() != 8000 {
				t.Errorf("%s: server without a port has %d, want %d", tc.listen, p, tc.port)
			}
		})
	}
}

// Listens that hold one another are told apart: the narrower wins.
func TestListensMayHoldOneAnother(t *testing.T) {
	for _, two := range [][2]string{{"6000-6999", "6500"}, {"0", "80"}, {"0", "6000-6999"}, {"6000-6999", "7000-7999"}} {
		mustParse(t, edit(t, good, "10.77.1.100:80", "10.77.1.100:"+two[0], "10.77.1.101:80", "10.77.1.100:"+two[1]))
	}
	mustParse(t, edit(t, good, "10.77.1.100:80", "10.77.1.100:0", "10.77.1.101:80", "10.77.1.100:0", "method = \"dr\"", "protocol = \"udp\""))
}

// The VIPs of a service may be on several interfaces.
func TestListenOnTwoInterfaces(t *testing.T) {
	v := mustParse(t, edit(t, good, `"10.77.1.100:80"`, `["10.77.1.100:80", "10.77.2.100:80"]`)).Services[0]
	if v.Listen[0].Interface != 0 || v.Listen[1].Interface != 1 {
		t.Errorf("on %d and %d, want 0 and 1", v.Listen[0].Interface, v.Listen[1].Interface)
	}
}

func TestListenOfTwoFamilies(t *testing.T) {
	_, err := parse(edit(t, good, `["10.77.1.1/24"]`, `["10.77.1.1/24", "2001:db8:1::1/64"]`,
		`"10.77.1.100:80"`, `["10.77.1.100:80", "[2001:db8:1::100]:80"]`))
	want := `lb.toml: service "web": listen "[2001:db8:1::100]:80": IPv6, but "10.77.1.100:80" is IPv4: make it a service of its own`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestState reads every key of state.go.
func TestState(t *testing.T) {
	c := mustParse(t, edit(t, good, atWeb, atWeb+`persistence_timeout = "6m"
persistence_prefix4 = 24
persistence_prefix6 = 64
expire_quiescent_template = true
scheduler = "sh"
pickup = true
idle = "reset"
`, atFirst, atFirst+"u_threshold = 100\nl_threshold = 80\n", "method = \"dr\"", "method = \"dr\"\nprotocol = \"udp\"\none_packet = true"))
	v := c.Services[0]
	if v.PersistenceTimeout != 6*time.Minute || v.PersistencePrefix4 != 24 || v.PersistencePrefix6 != 64 || !v.ExpireQuiescentTemplate || !v.Pickup ||
		v.Idle != "reset" || v.OnePacket || !c.Services[1].OnePacket {
		t.Errorf("service: %+v", v)
	}
	if s := v.Servers[0]; s.UThreshold != 100 || s.LThreshold != 80 {
		t.Errorf("server: %+v", s)
	}
	if got := stateText(&v); got != "persistent 6m0s /24,picks up,resets idle" {
		t.Errorf("listed as %q", got)
	}
}

// What comes first is what is meant when a key is empty.
func TestPersistenceIsOff(t *testing.T) {
	v := mustParse(t, edit(t, good, atWeb, atWeb+"persistence_timeout = \"\"\n")).Services[0]
	if v.PersistenceTimeout != 0 || v.PersistencePrefix4 != 32 || v.PersistencePrefix6 != 128 || v.Idle != "expire" {
		t.Errorf("%+v", v)
	}
}
