package conf

import (
	"errors"
	"io"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// FuzzConfig: no text makes the parser panic; what it refuses comes with sorted mistakes that name the file; what it accepts can be used
// without another look. testdata/fuzz has what was found, here are the seeds.
func FuzzConfig(f *testing.F) {
	f.Add(Reference)
	f.Add(good)
	f.Add(inIPv6(good))
	for _, tc := range slices.Concat(filesAndInterfaces, routesAndServices, hashing, defence, vlans, ofOneFamily, quicIDs) {
		f.Add(strings.NewReplacer(tc.edits...).Replace(good))
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parse(text)
		if err != nil {
			checkErrors(t, err)
			return
		}
		checkConsistent(t, c)
		if err := Table(io.Discard, c); err != nil {
			t.Error(err)
		}
	})
}

func checkErrors(t *testing.T, err error) {
	var all Errors
	if !errors.As(err, &all) || len(all) == 0 {
		t.Fatalf("%T: %v", err, err)
	}
	for i, m := range all {
		if !strings.HasPrefix(m.Error(), "lb.toml: ") || strings.Contains(m.Error(), "\n") {
			t.Errorf("mistake %q", m.Error())
		}
		if i > 0 && slices.Compare(all[i-1].rank[:], m.rank[:]) > 0 {
			t.Errorf("%q comes before %q", all[i-1].Error(), m.Error())
		}
	}
}

// checkConsistent is what the director relies on.
func checkConsistent(t *testing.T, c *Config) {
	expect := func(ok bool, what string, about any) {
		if !ok {
			t.Errorf("%s: %+v", what, about)
		}
	}
	known := func(i int) bool { return i >= 0 && i < len(c.Interfaces) }
	holds := func(i int, a netip.Addr) bool {
		return slices.ContainsFunc(c.Interfaces[i].Addresses, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	expect(len(c.Interfaces) > 0 && len(c.Interfaces) <= 64 && len(c.Services) > 0, "numbers", c)
	for _, f := range c.Interfaces {
		expect(f.Name != "" && (f.Tap == "") != (f.Device == "") && len(f.Tap) <= 15, "interface", f)
		expect(f.MAC[0]&1 == 0 && f.Queues >= 0 && f.Queues <= 16 && (f.MTU == 0 || f.MTU >= 576 && f.MTU <= 65535), "interface", f)
		expect(f.VLAN >= 0 && f.VLAN <= 4094, "VLAN", f)
		expect(f.Driver != "" && f.Reply != "", "interface", f)
	}
	for _, r := range c.Routes {
		expect(r.To.IsValid() && r.To == r.To.Masked() && known(r.Interface) && holds(r.Interface, r.Via), "route", r)
	}
	for _, v := range c.Services {
		checkHashingConsistent(expect, v)
		expect(v.RatePerSource >= 0 && (v.RatePerSource == 0) == (v.BurstPerSource == 0), "rate", v)
		for _, p := range slices.Concat(v.Allow, v.Deny) {
			expect(p.IsValid() && p == p.Masked() && !p.Addr().Is4In6() && slices.Contains(v.Allow, p) != slices.Contains(v.Deny, p), "source", p)
		}
		expect(v.Name != "" && len(v.Listen) > 0 && len(v.Servers) > 0, "service", v)
		for _, l := range v.Listen {
			expect(usable(l.Addr) && known(l.Interface) && (l.Low > 0 || l.High == 65535) && l.Low <= l.High, "listen", l)
		}
		expect(v.Protocol == "udp" || !v.OnePacket, "one packet", v)
		expect(v.Protocol == "tcp" || v.Idle == "expire", "idle", v)
		expect(v.Protocol != "udp" || !v.Pickup, "pickup", v)
		expect(v.PersistenceTimeout >= 0 && v.PersistencePrefix4 > 0 && v.PersistencePrefix6 > 0, "persistence", v)
		expect(slices.Contains(methods, v.Method) && slices.Contains(schedulers, v.Scheduler) && v.OnNoServer != "", "service", v)
		expect(v.TunnelTTL >= 0 && v.TunnelTTL <= 255 && (v.MSSClamp == 0 || v.MSSClamp >= 88 && v.MSSClamp <= 65495), "service", v)
		for _, s := range v.Servers {
			tun := v.Method == "tun"
			expect(usable(s.Address.Addr()) && (tun || s.Address.Addr().Is4() == v.Listen[0].Addr.Is4()) && s.LThreshold <= s.UThreshold && s.LThreshold >= 0 && s.Weight >= 0 && s.Weight <= 65535, "server", s)
			expect(known(s.Iface) && holds(s.Iface, s.Via) && s.MAC[0]&1 == 0, "server", s)
			expect(v.Method != "dr" || s.Via == s.Address.Addr() && s.Address.Port() == v.port(), "dr server", s)
			expect(!tun || s.Address.Port() == v.port() && s.Tunnel.Source.Is4() == s.Address.Addr().Is4() && s.Tunnel.Source != v.Listen[0].Addr, "tun server", s)
			expect(tun == (s.Tunnel.Kind != "") && (s.Tunnel.Kind == "gue") == (s.Tunnel.Port != 0), "tunnel", s)
		}
	}
	expect(c.Limits.Connections > 0 && c.Limits.HostRate > 0 && c.Limits.ICMPRate >= 0, "limits", c.Limits)
	for _, timeouts := range []reflect.Value{reflect.ValueOf(c.Timeouts), reflect.ValueOf(c.Timeouts.SCTPTimeouts)} {
		for i := range timeouts.NumField() {
			if f := timeouts.Field(i); f.CanInt() {
				expect(f.Int() > 0, "timeouts", timeouts)
			}
		}
	}
	expect(c.Limits.Templates > 0, "limits", c.Limits)
}

// checkHashingConsistent is what the schedulers that hash rely on.
func checkHashingConsistent(expect func(bool, string, any), v Service) {
	quic, hashes := v.Scheduler == "quic", slices.Contains([]string{"sh", "dh", "mh", "quic"}, v.Scheduler)
	expect(hashes || !v.HashPort && !v.HashFallback, "keys of a scheduler that does not hash", v)
	expect((quic || v.Scheduler == "mh") == slices.Contains(mhTableSizes, v.MHTableSize) && (v.MHTableSize == 0 || len(v.Servers) <= v.MHTableSize), "table size", v)
	expect(quic == (v.QUICIDLength > 0) && v.QUICIDLength <= 8 && (!quic || v.Protocol == "udp"), "length of QUIC ids", v)
	ids := map[uint64]bool{}
	for _, s := range v.Servers {
		expect(quic || s.QUICID == 0, "QUIC id", s)
		expect(!quic || !ids[s.QUICID], "QUIC id twice", s)
		ids[s.QUICID] = true
	}
}

// usable reports whether a is an address of one host, with IPv4 as IPv4.
func usable(a netip.Addr) bool {
	return a.IsValid() && a == a.Unmap() && a.Zone() == "" && !a.IsUnspecified() && !a.IsMulticast()
}
