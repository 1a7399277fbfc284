package conf

import "slices"

// FTP's key: whether the control connections of a service are read.

// readFTP reads it, and refuses it where it could not work.
func readFTP(s *section, v *Service) {
	v.FTP = s.on("ftp")
	switch {
	case !v.FTP || !understood(s, "protocol", v.Protocol):
	case v.Protocol != "tcp":
		s.add("ftp: only for tcp: the service is %s", v.Protocol)
	case v.Method == "dr" || v.Method == "tun":
		s.add(`ftp: only for nat and fullnat: with %s the server's answers do not pass here, and need no change: listen on port 21 and on every port `+
			`(or on the servers' passive ports), with persistence_timeout, instead`, v.Method)
	case v.TOA:
		s.add("ftp: not with toa")
	case v.Pickup:
		s.add("ftp: not with pickup: by how much a connection's numbers were changed is not known after a restart")
	}
}

// checkFTP: control connections are those to listens of one port, and what servers announce is for their own family.
func (d *draft) checkFTP() {
	for i := range d.c.Services {
		v := &d.c.Services[i]
		if !v.FTP || len(v.Listen) == 0 {
			continue
		}
		if !slices.ContainsFunc(v.Listen, Listen.Single) {
			d.add(d.serviceAt(i), `ftp: no listen of one port, which is where control connections go: write listen = ["%v", "%v"]`,
				Listen{Addr: v.Listen[0].Addr, Low: 21, High: 21}, v.Listen[0])
		}
		for j := range v.Servers {
			if a := v.Servers[j].Address.Addr(); a.IsValid() && v.Method == "fullnat" && a.Is4() != v.Listen[0].Addr.Is4() {
				d.add(d.serviceAt(i).part("server", j), "address %q: of another family than the VIP, which ftp does not translate", v.Servers[j].Address)
			}
		}
	}
}
