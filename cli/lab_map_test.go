package cli

import (
	"bytes"
	"strings"
	"testing"

	"tapdirector/integration"
)

const natTwoArms = `  client    nic-ext  02:65:00:00:00:74  10.77.1.2/24
       |
  =====+==== ext: wire ext, MTU 1500 bytes ==================================================
       |
  director  tap-ext  02:00:00:00:aa:01  10.77.1.1/24  VIP 10.77.1.100:80
       |    tap-int  02:00:00:00:aa:02  10.77.2.1/24
       |
  =====+==== int: wire int, MTU 1500 bytes =========================================
       +-- s1   nic-int  02:69:00:00:00:31  10.77.2.11/24
       +-- s2   nic-int  02:69:00:00:00:32  10.77.2.12/24

  Servers listen on port 8000; their default gateway is the director (10.77.2.1), so answers come back through it.
`

const natOneArm = `  client    nic-ext  02:65:00:00:00:74  10.77.1.2/24
       |
  =====+==== ext: wire ext, MTU 1500 bytes ==================================================
       +-- director  tap-ext  02:00:00:00:aa:01  10.77.1.1/24  10.77.2.1/24  VIP 10.77.1.100:80
       +-- s1   nic-ext  02:65:00:00:00:31  10.77.2.11/24
       +-- s2   nic-ext  02:65:00:00:00:32  10.77.2.12/24

  Servers listen on port 8000; their default gateway is the director (10.77.2.1), so answers come back through it.
`

const drTwoArms6 = `  client    nic-ext  02:65:00:00:00:74  2001:db8:77:1::2/64
       |
  =====+==== ext: wire ext, MTU 1500 bytes =================================================+
       |                                                                                    |
  director  tap-ext  02:00:00:00:aa:01  2001:db8:77:1::1/64  VIP [2001:db8:77:1::100]:80    |
       |    tap-int  02:00:00:00:aa:02  2001:db8:77:2::1/64                                 |
       |                                                                                    |
  =====+==== int: wire int, MTU 1500 bytes =========================================        |
       +-- s1   nic-int  02:69:00:00:00:31  2001:db8:77:2::11/64                            |
       |        nic-ext  02:65:00:00:00:31  2001:db8:77:1::11/64 ---------------------------+
       +-- s2   nic-int  02:69:00:00:00:32  2001:db8:77:2::12/64                            |
       |        nic-ext  02:65:00:00:00:32  2001:db8:77:1::12/64 ---------------------------+

  Every server holds the VIP 2001:db8:77:1::100 on lo, and neither ARP nor ND tells. It answers the client itself.
`

const drOneArm = `  client    nic-ext  10.77.1.2/24
       |
  =====+==== ext: wire ext, MTU 1500 bytes ==================================================
       +-- director  tap-ext  02:00:00:00:aa:01  10.77.1.1/24  VIP 10.77.1.100:80
       +-- s1   nic-ext  10.77.1.11/24
       +-- s2   nic-ext  10.77.1.12/24

  Every server holds the VIP 10.77.1.100 on lo, and neither ARP nor ND tells. It answers the client itself.
`

func TestMap(t *testing.T) {
	for _, c := range []struct {
		name  string
		spec  integration.Spec
		noMAC bool
		want  string
	}{
		{"nat, two arms", integration.Spec{Method: "nat", Servers: 2}, false, natTwoArms},
		{"nat, one arm", integration.Spec{Method: "nat", Servers: 2, Arms: 1}, false, natOneArm},
		{"dr, two arms, IPv6", integration.Spec{Method: "dr", Servers: 2, Family: 6}, false, drTwoArms6},
		{"dr, one arm, no MACs known", integration.Spec{Method: "dr", Servers: 2, Arms: 1}, true, drOneArm},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, _ := fakeStage(t, c.spec)
			if c.noMAC {
				s.mac = func(string, string) string { return "" }
			}
			var b bytes.Buffer
			drawMap(&page{w: &b}, s)
			if b.String() != c.want {
				t.Errorf("got:\n%s\nwant:\n%s", b.String(), c.want)
			}
		})
	}
}

// However long the addresses are, no line loses its end.
func TestMapKeepsEveryAddress(t *testing.T) {
	s, _ := fakeStage(t, integration.Spec{Method: "dr", Family: 6, Servers: integration.MaxServers})
	s.link = func(string, string) string { return "averylongname0" }
	var b bytes.Buffer
	drawMap(&page{w: &b}, s)
	for _, h := range s.plan.Servers {
		for _, leg := range h.Legs {
			if !strings.Contains(b.String(), leg.Address.String()) {
				t.Errorf("%s: %v is missing", h.Name, leg.Address)
			}
		}
	}
}
