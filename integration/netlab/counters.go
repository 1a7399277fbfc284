//go:build linux

package netlab

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Counters returns the namespace's IP counters under the kernel's names, "Tcp.InCsumErrors" from /proc/net/snmp,
// "TcpExt.TCPSynRetrans" from netstat and "Udp6InErrors" from snmp6.
func (n *Namespace) Counters() (map[string]uint64, error) {
	counters := map[string]uint64{}
	err := n.Do(func() error {
		for _, path := range []string{"/proc/thread-self/net/snmp", "/proc/thread-self/net/netstat"} {
			if err := readFile(path, counters, snmpLines); err != nil {
				return err
			}
		}
		return readFile("/proc/thread-self/net/snmp6", counters, snmp6Lines)
	})
	return counters, err
}

// Errors returns what of the namespace's counters says that a frame came in broken: bad checksums and lengths. Datagrams that a
// full socket buffer could not take are no such errors, although UDP's InErrors counts them.
func (n *Namespace) Errors() (map[string]uint64, error) {
	counters, err := n.Counters()
	return broken(counters), err
}

// ErrorsIn is Errors of another kernel: what its /proc/net/snmp and snmp6 say.
func ErrorsIn(snmp, snmp6 string) map[string]uint64 {
	counters := map[string]uint64{}
	snmpLines(bufio.NewScanner(strings.NewReader(snmp)), counters)
	snmp6Lines(bufio.NewScanner(strings.NewReader(snmp6)), counters)
	return broken(counters)
}

func broken(counters map[string]uint64) map[string]uint64 {
	broken := map[string]uint64{}
	for name, v := range counters {
		switch {
		case strings.HasPrefix(name, "Udp") && strings.HasSuffix(name, "InErrors"):
			v -= min(v, counters[strings.TrimSuffix(name, "InErrors")+"RcvbufErrors"])
		case strings.HasSuffix(name, "InCsumErrors"), strings.HasSuffix(name, ".InErrs"), strings.HasSuffix(name, "InHdrErrors"):
			// As it is.
		default:
			continue
		}
		if v != 0 {
			broken[name] = v
		}
	}
	return broken
}

func readFile(path string, into map[string]uint64, parse func(*bufio.Scanner, map[string]uint64)) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("counters: %w", err)
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	parse(s, into)
	if err := s.Err(); err != nil {
		return fmt.Errorf("counters: read %s: %w", path, err)
	}
	return nil
}

// snmpLines reads pairs of lines, "Tcp: RtoMin InSegs" and "Tcp: 200 17".
func snmpLines(s *bufio.Scanner, into map[string]uint64) {
	for s.Scan() {
		names := strings.Fields(s.Text())
		if !s.Scan() {
			return
		}
		values := strings.Fields(s.Text())
		for i := 1; i < min(len(names), len(values)); i++ {
			v, err := strconv.ParseUint(values[i], 10, 64)
			if err == nil { // Tcp.MaxConn is -1
				into[strings.TrimSuffix(names[0], ":")+"."+names[i]] = v
			}
		}
	}
}

// snmp6Lines reads lines such as "Udp6InErrors 0".
func snmp6Lines(s *bufio.Scanner, into map[string]uint64) {
	for s.Scan() {
		f := strings.Fields(s.Text())
		if len(f) != 2 {
			continue
		}
		if v, err := strconv.ParseUint(f[1], 10, 64); err == nil {
			into[f[0]] = v
		}
	}
}
