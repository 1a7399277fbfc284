package main

import (
	"strings"
	"testing"
)

const sample = `
# a comment
def web
    service tcp vip:80 rr nat
    server server:8000 weight 3   # and another

for family in 4 6
for event in SYN ACK
case $event/v$family
    family $family
    do web
    mtu int 1400
    timeouts 1 2 3
    > $event ttl=7
    expect int to server

differs ACK/* key for a reason
`

func TestParseScript(t *testing.T) {
	s, err := parseScript("file", sample)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.cases) != 4 {
		t.Fatalf("%d cases, want 4", len(s.cases))
	}
	c := s.cases[3]
	if c.name != "file/ACK/v6" || c.family != 6 || c.mtu[in] != 1400 || c.timeouts != [3]int{1, 2, 3} || len(c.steps) != 2 {
		t.Errorf("the last case is %+v", c)
	}
	if v := c.services[0]; v.proto != "tcp" || v.scheduler != "rr" || v.method != "nat" || v.servers[0].address != "server:8000" || v.servers[0].weight != 3 {
		t.Errorf("its service is %+v", v)
	}
	if c.steps[0].text != "> ACK ttl=7" || c.steps[0].line != 14 {
		t.Errorf("its first step is %+v", c.steps[0])
	}
	if len(c.differs) != 1 || c.differs[0] != [2]string{"key", "for a reason"} || len(s.cases[0].differs) != 0 {
		t.Errorf("its difference is %v", c.differs)
	}
}

func TestParseScriptMistakes(t *testing.T) {
	web := "case a\n  service tcp vip:80 rr nat\n"
	for _, c := range []struct{ text, want string }{
		{"nonsense", "f:1: \"nonsense\": expected"},
		{"case a\n", "has no service"},
		{"case a\n  do none\n", "no def"},
		{"def a\n  do a\ncase b\n  do a\n", "defs that do each other"},
		{web + "  bogus 1\n", "f:3: bogus 1: no such directive"},
		{web + "  server nobody:1\n", "no host \"nobody\""},
		{web + "  server server:99999\n", "port"},
		{web + "  server server:1 weight x\n", "f:3"},
		{web + "  family 5\n", "expected 4 or 6"},
		{web + "  mtu lan 9\n", "no link"},
		{web + "  timeouts 1\n", "expected timeouts"},
		{web + "  sysctl a\n", "expected sysctl"},
		{web + "  module\n", "expected module"},
		{"case a\n  server server:1\n", "below a service"},
		{"case a\n  lb x\n", "below a service"},
		{"case a\n  service dccp vip:80 rr nat\n", "expected service"},
		{web + "differs b key why\n", "no case is called b"},
		{web + "differs [ key why\n", "syntax error"},
	} {
		if _, err := parseScript("f", c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.text, err, c.want)
		}
	}
}

// Every name stands for one host, and every host has its name.
func TestHosts(t *testing.T) {
	for _, family := range []int{4, 6} {
		seen := map[string]string{}
		for _, name := range []string{"client", "client2", "client40", "far", "gw", "probe", "vip", "vip2", "dip", "indip", "server", "server12", "router", "inprobe"} {
			h, err := hostNamed(name, family)
			if err != nil {
				t.Fatal(err)
			}
			if first := seen[h.addr.String()]; first != "" {
				t.Errorf("%s and %s are both %v", name, first, h.addr)
			}
			seen[h.addr.String()] = name
			if got := nameOf(h.addr); got != name {
				t.Errorf("%s is %v, which is called %s", name, h.addr, got)
			}
		}
	}
}
