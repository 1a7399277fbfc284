package conf

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Table writes what the director would do with c, for people: one table each of interfaces, routes, services, servers, tunnels, QUIC ids and defence, with what
// was left out of the file filled in, and a last one of limits and timeouts. The error is the writer's.
func Table(w io.Writer, c *Config) error {
	for _, table := range []func(io.Writer, *Config){tableInterfaces, tableRoutes, tableServices, tableServers, tableTunnels, tableQUIC, tableDefence, tableBounds} {
		columns := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
		table(columns, c)
		if err := columns.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// row writes cells; the last one has no tab behind it, so that lines do not end in blanks.
func row(w io.Writer, cells ...any) {
	texts := make([]string, len(cells))
	for i, cell := range cells {
		texts[i] = fmt.Sprint(cell)
	}
	fmt.Fprintln(w, strings.Join(texts, "\t"))
}

// tableInterfaces shows what the director attaches to.
func tableInterfaces(w io.Writer, c *Config) {
	row(w, "INTERFACE", "ATTACHED TO", "DRIVER", "MAC", "ADDRESSES", "QUEUES", "MTU", "REPLY", "OPTIONS")
	for i := range c.Interfaces {
		f := &c.Interfaces[i]
		row(w, f.Name, attachedTo(f), f.Driver, orWord(f.MAC != [6]byte{}, macText(f.MAC), "default"), orWord(len(f.Addresses) > 0, join(f.Addresses), "none"),
			orWord(f.Queues > 0, f.Queues, "one per CPU"), orWord(f.MTU > 0, f.MTU, "the kernel's"), f.Reply, options(f))
	}
}

// attachedTo says what the frames of an interface come from.
func attachedTo(f *Interface) string {
	switch {
	case f.Device != "":
		return f.Device + vlanText(f)
	case f.Bridge != "":
		return f.Tap + " in " + f.Bridge + vlanText(f)
	}
	return f.Tap + vlanText(f)
}

// vlanText is the tag, if there is one.
func vlanText(f *Interface) string {
	if f.VLAN == 0 {
		return ""
	}
	return fmt.Sprint(" vlan ", f.VLAN)
}

// options lists what is switched on.
func options(f *Interface) string {
	var on []string
	if f.Forward {
		on = append(on, "forward")
	}
	if f.Masquerade {
		on = append(on, "masquerade")
	}
	return orWord(len(on) > 0, strings.Join(on, ","), "none")
}

// orWord writes v if there is one, else the word for none.
func orWord(there bool, v any, word string) string {
	if there {
		return fmt.Sprint(v)
	}
	return word
}

// join writes addresses with commas.
func join[T fmt.Stringer](addresses []T) string {
	texts := make([]string, len(addresses))
	for i, a := range addresses {
		texts[i] = a.String()
	}
	return strings.Join(texts, ",")
}

// tableRoutes is left out where there are no routes, which is usual.
func tableRoutes(w io.Writer, c *Config) {
	if len(c.Routes) == 0 {
		return
	}
	row(w)
	row(w, "ROUTE TO", "VIA", "INTERFACE")
	for _, r := range c.Routes {
		row(w, r.To, r.Via, c.Interfaces[r.Interface].Name)
	}
}

// tableServices shows the virtual services and where their VIPs are answered for.
func tableServices(w io.Writer, c *Config) {
	row(w)
	row(w, "SERVICE", "LISTEN", "PROTOCOL", "METHOD", "SCHEDULER", "VIP ON", "NO SERVER", "SERVERS", "STATE")
	for i := range c.Services {
		v := &c.Services[i]
		row(w, v.Name, listenText(v), v.Protocol, v.Method, schedulerText(v), strings.Join(c.Owners(v), ","), v.OnNoServer, len(v.Servers), stateText(v))
	}
}

// listenText lists what v listens on.
func listenText(v *Service) string {
	texts := make([]string, len(v.Listen))
	for i, l := range v.Listen {
		texts[i] = l.String()
	}
	return strings.Join(texts, ",")
}

// stateText says what v does beyond remembering connections.
func stateText(v *Service) string {
	var more []string
	if v.PersistenceTimeout > 0 {
		bits := v.PersistencePrefix6
		if v.Listen[0].Addr.Is4() {
			bits = v.PersistencePrefix4
		}
		more = append(more, fmt.Sprintf("persistent %v /%d", v.PersistenceTimeout, bits))
	}
	for _, o := range []struct {
		on   bool
		name string
	}{{v.OnePacket, "one packet"}, {v.Pickup, "picks up"}, {v.Idle == "reset", "resets idle"}, {v.FTP, "ftp"}} {
		if o.on {
			more = append(more, o.name)
		}
	}
	return orWord(len(more) > 0, strings.Join(more, ","), "connections")
}

// schedulerText is the scheduler with what its hash is told: "mh(16381 slots,port)".
func schedulerText(v *Service) string {
	var more []string
	if v.MHTableSize > 0 {
		more = append(more, fmt.Sprint(v.MHTableSize, " slots"))
	}
	if v.HashPort {
		more = append(more, "port")
	}
	if v.HashFallback {
		more = append(more, "fallback")
	}
	return v.Scheduler + orWord(len(more) > 0, "("+strings.Join(more, ",")+")", "")
}

// tableQUIC shows the server ids of QUIC services; it is left out where there is none.
func tableQUIC(w io.Writer, c *Config) {
	title := false
	for i := range c.Services {
		v := &c.Services[i]
		for j := range v.Servers {
			if v.QUICIDLength == 0 {
				break
			}
			if !title {
				row(w)
				row(w, "QUIC ID OF", "ADDRESS", "ID")
				title = true
			}
			row(w, v.Name, v.Servers[j].Address, quicIDText(v, &v.Servers[j]))
		}
	}
}

// tableDefence shows who may connect to a service; it is left out where everybody may.
func tableDefence(w io.Writer, c *Config) {
	title := false
	for i := range c.Services {
		v := &c.Services[i]
		if len(v.Allow)+len(v.Deny)+v.RatePerSource == 0 {
			continue
		}
		if !title {
			row(w)
			row(w, "DEFENCE OF", "ALLOW", "DENY", "RATE PER SOURCE", "BURST")
			title = true
		}
		row(w, v.Name, orWord(len(v.Allow) > 0, join(v.Allow), "all"), orWord(len(v.Deny) > 0, join(v.Deny), "none"),
			orWord(v.RatePerSource > 0, v.RatePerSource, "any"), orWord(v.BurstPerSource > 0, v.BurstPerSource, "any"))
	}
}

// tableServers shows the way to each real server: the part of the file's meaning that is hardest to see in it.
func tableServers(w io.Writer, c *Config) {
	row(w)
	row(w, "SERVER OF", "ADDRESS", "WEIGHT", "NEXT HOP", "INTERFACE", "MAC", "SEES", "THRESHOLDS")
	for i := range c.Services {
		for j := range c.Services[i].Servers {
			s := &c.Services[i].Servers[j]
			address := orWord(s.Address.Port() > 0, s.Address, s.Address.Addr().String())
			row(w, c.Services[i].Name, address, orWord(s.Weight > 0, s.Weight, "0 (drains)"), orWord(s.Via != s.Address.Addr(), s.Via, "direct"),
				c.Interfaces[s.Iface].Name, orWord(s.MAC != [6]byte{}, macText(s.MAC), "asked for"),
				orWord(len(s.Sources) > 0, join(s.Sources), "the client"), thresholds(s))
		}
	}
}

// tableTunnels is left out where there are none.
func tableTunnels(w io.Writer, c *Config) {
	header := false
	for i := range c.Services {
		v := &c.Services[i]
		for j := range v.Servers {
			s := &v.Servers[j]
			if s.Tunnel.Kind == "" {
				continue
			}
			if !header {
				row(w)
				row(w, "TUNNEL TO", "KIND", "PORT", "CHECKSUM", "FROM", "TTL", "TOO LARGE", "MSS CLAMP")
				header = true
			}
			row(w, s.Address.Addr(), s.Tunnel.Kind, orWord(s.Tunnel.Port > 0, s.Tunnel.Port, "none"), orWord(s.Tunnel.Csum, "yes", "no"), s.Tunnel.Source,
				orWord(v.TunnelTTL > 0, v.TunnelTTL, "the packet's"), orWord(v.PMTUDisc, "answered", "fragmented"), orWord(v.MSSClamp > 0, v.MSSClamp, "none"))
		}
	}
}

// thresholds writes a server's upper and lower threshold.
func thresholds(s *Server) string {
	return orWord(s.UThreshold > 0, fmt.Sprintf("%d/%d", s.UThreshold, s.LThreshold), "none")
}

// tableBounds shows the numbers of [limits] and [timeouts].
func tableBounds(w io.Writer, c *Config) {
	row(w)
	row(w, "LIMIT", "VALUE")
	row(w, "connections", c.Limits.Connections)
	row(w, "fragments", fmt.Sprint(c.Limits.Fragments, " held"))
	row(w, "early_drop", c.Limits.EarlyDrop)
	row(w, "icmp_rate", fmt.Sprint(c.Limits.ICMPRate, " per second"))
	row(w, "host_rate", fmt.Sprint(c.Limits.HostRate, " per second"))
	row(w, "templates", c.Limits.Templates)
	row(w, "ftp_sessions", c.Limits.FTPSessions)
	t := &c.Timeouts
	rows := []timeoutRow{
		{"tcp", t.TCP}, {"tcpfin", t.TCPFin}, {"tcp_none", t.TCPNone}, {"tcp_syn_sent", t.TCPSynSent}, {"tcp_syn_recv", t.TCPSynRecv},
		{"tcp_time_wait", t.TCPTimeWait}, {"tcp_close", t.TCPClose}, {"tcp_close_wait", t.TCPCloseWait}, {"tcp_last_ack", t.TCPLastAck},
		{"tcp_listen", t.TCPListen}, {"tcp_synack", t.TCPSynAck}, {"udp", t.UDP}, {"icmp", t.ICMP}, {"fragment", t.Fragment},
	}
	for _, timeout := range append(rows, t.SCTPTimeouts.rows()...) {
		row(w, "timeout "+timeout.key, timeout.d)
	}
}
