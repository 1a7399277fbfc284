// Package worldtest is the one table of end-to-end tests: the same checks over every integration.World, be it in memory or of kernel
// namespaces. A package that builds worlds calls RunTable from a test of its own.
//
// What is checked, for each method, family, number of arms, and with offload on and off:
//
//	content     bytes arrive as they were sent, both ways, over TCP and UDP, alone and many at once
//	fragments   so do datagrams of up to 60 KB, which pass in fragments
//	spread      connections are shared out as the scheduler and the weights say; each stays on its server
//	address     a server sees the client's own address and port, with fullnat the director's address
//	way         with nat and fullnat answers pass the director, with dr and tun they do not
//	faults      no host counts a wrong checksum or a malformed packet
//	accounts    the director's verdicts add up to the frames that it read, and none says that something is wrong
//	close       no goroutine and no file descriptor outlives the world
package worldtest

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"tapdirector/integration"
)

// Options fit the table to a world.
type Options struct {
	Bytes    int64         // of content each way over one TCP connection; 0: what suits an in-memory world
	Timeout  time.Duration // of every single wait; 0: 20 s
	DeafUDP  bool          // hosts do not fit UDP to a path's MTU that they are told
	Specs    []integration.Spec
	Parallel bool                          // RunState: worlds side by side
	Skip     func(integration.Spec) string // why a spec cannot be built here; "" to run it; nil: run all
}

// Build makes the world of a spec for one test, or fails or skips it. It need not close it.
type Build func(t *testing.T, s integration.Spec) integration.World

// RunTable runs every check over every spec: Options.Specs, or Specs when there are none.
func RunTable(t *testing.T, build Build, o Options) {
	o = o.complete()
	for _, spec := range o.Specs {
		t.Run(name(spec), func(t *testing.T) {
			if reason := o.skip(spec); reason != "" {
				t.Skip(reason)
			}
			runSpec(t, spec, build, o)
		})
	}
}

// Specs is every combination of method, family, arms and offload, and some worlds that have more to them.
func Specs() (specs []integration.Spec) {
	for _, method := range integration.Methods {
		for _, family := range []int{4, 6} {
			for _, arms := range []int{1, 2} {
				for _, offload := range []bool{false, true} {
					specs = append(specs, integration.Spec{Method: method, Family: family, Arms: arms, Offload: offload})
				}
			}
			specs = append(specs, integration.Spec{Method: method, Family: family, Offload: true, Scheduler: "wrr", Weights: []int{3, 1, 0}, Queues: 2})
		}
	}
	return append(specs,
		integration.Spec{Method: "nat", Trunk: true, Offload: true, Queues: 2},
		integration.Spec{Method: "nat", Trunk: true, Family: 6},
		integration.Spec{Method: "dr", Trunk: true, Family: 6, Offload: true},
		integration.Spec{Method: "dr", Trunk: true},
		integration.Spec{Method: "nat", Offload: true, Scheduler: "lc", Queues: 4},
		integration.Spec{Method: "fullnat", WebKeys: "toa = true"},
		integration.Spec{Method: "fullnat", Family: 6, Offload: true, WebKeys: "toa = true", Queues: 2},
		integration.Spec{Method: "dr", Family: 6, Offload: true, Scheduler: "wlc", Weights: []int{1, 2, 3}, Servers: 4})
}

// TunnelSpecs is every combination of tunnel, inner and outer family, and some with one arm: there a full packet has no room in the tunnel.
func TunnelSpecs() (specs []integration.Spec) {
	for _, tunnel := range []string{"ipip", "gue", "gre"} {
		for _, family := range []int{4, 6} {
			for _, outer := range []int{4, 6} {
				specs = append(specs, integration.Spec{Method: "tun", Tunnel: tunnel, Family: family, ServerFamily: outer, Offload: true})
			}
			specs = append(specs, integration.Spec{Method: "tun", Tunnel: tunnel, Family: family, Arms: 1, Offload: tunnel == "gue"})
		}
	}
	return append(specs,
		integration.Spec{Method: "tun", Family: 4, Offload: true, Mixed: true},
		integration.Spec{Method: "tun", Tunnel: "gue", Trunk: true, Offload: true, Queues: 2},
		integration.Spec{Method: "tun", Trunk: true, Family: 6},
		integration.Spec{Method: "tun", Tunnel: "gue", Family: 6, ServerFamily: 4},
		integration.Spec{Method: "tun", Tunnel: "gre", Family: 4, ServerFamily: 6, Offload: true, Scheduler: "wlc", Weights: []int{1, 2}, Servers: 2, Queues: 2})
}

// AcrossSpecs is fullnat with servers of the other family than the VIP: each family, arms and offload, and some that have more to them.
func AcrossSpecs() (specs []integration.Spec) {
	for _, family := range []int{4, 6} {
		s := integration.Spec{Method: "fullnat", Family: family, ServerFamily: 10 - family}
		for _, arms := range []int{1, 2} {
			for _, offload := range []bool{false, true} {
				s.Arms, s.Offload = arms, offload
				specs = append(specs, s)
			}
		}
		s.Mixed = true
		specs = append(specs, s)
		s.Mixed, s.WebKeys, s.Queues = false, "toa = true", 2
		specs = append(specs, s)
		s.WebKeys, s.Queues, s.Trunk, s.Scheduler, s.Weights = "", 1, true, "wrr", []int{3, 1, 0}
		specs = append(specs, s)
	}
	return specs
}

func (o Options) complete() Options {
	if o.Bytes == 0 {
		o.Bytes = 8 << 20
		if RaceEnabled {
			o.Bytes = 256 << 10
		}
	}
	if o.Timeout == 0 {
		o.Timeout = 20 * time.Second
	}
	if o.Specs == nil {
		o.Specs = Specs()
	}
	return o
}

func (o Options) skip(s integration.Spec) string {
	if o.Skip == nil {
		return ""
	}
	return o.Skip(s)
}

// name is the spec's, and what sets it apart from the plain combinations.
func name(s integration.Spec) string {
	n := s.String()
	if s.Scheduler != "" {
		n += "/" + s.Scheduler
	}
	if s.WebKeys != "" {
		n += "/" + strings.ReplaceAll(s.WebKeys, " ", "")
	}
	return n
}

// runSpec builds one world and runs the checks over it in order: accounts after the traffic, leaks after the end.
func runSpec(t *testing.T, spec integration.Spec, build Build, o Options) {
	before := takeInventory()
	plan, err := integration.NewPlan(spec)
	if err != nil {
		t.Fatal(err)
	}
	w := build(t, spec)
	closed := false
	defer func() {
		if !closed {
			w.Close()
		}
	}()
	e := &env{World: w, Options: o, plan: plan, sockets: map[netip.AddrPort]bool{}}
	e.watch()
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) { c.run(t, e) })
	}
	closed = true
	t.Run("close", func(t *testing.T) { checkClose(t, w, before) })
}

// checks run in this order.
var checks = []struct {
	name string
	run  func(t *testing.T, e *env)
}{
	{"content tcp", checkTCP},
	{"content udp", checkUDP},
	{"fragments", checkFragments},
	{"http", checkHTTP},
	{"spread tcp", checkSpreadTCP},
	{"spread udp", checkSpreadUDP},
	{"many at once", checkMany},
	{"way", checkWay},
	{"faults", checkFaults},
	{"accounts", checkAccounts},
}
