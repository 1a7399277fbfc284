package cli

import (
	"io"
	"slices"
	"sync"
	"time"

	"tapdirector/integration"
	"tapdirector/integration/memlan"
)

// stage is a lab at work, of kernels or in memory, with what the printing needs to know of it.
type stage struct {
	integration.World
	plan   *integration.Plan
	config string          // the director's lb.toml
	kind   string          // what it is made of, in words
	visit  []string        // how other programs can look into it, a line each; none: they cannot
	log    func(io.Writer) // from now on the director's log goes there; nil: it logs nothing

	wire   func(lan string) string       // what a LAN is made of
	link   func(host, lan string) string // the name of a host's interface on a LAN
	mac    func(host, lan string) string // its hardware address; "": unknown
	record func() (stop func() []sighting, err error)
}

// sighting is one frame as it passed a point: an interface of a host.
type sighting struct {
	host, lan string
	out       bool // the host sent it there; false: it came in
	when      time.Time
	frame     []byte // from the Ethernet header on; the end may be missing
}

// memoryStage builds the lab on a LAN in memory.
func memoryStage(spec integration.Spec) (*stage, error) {
	plan, err := integration.NewPlan(spec)
	if err != nil {
		return nil, err
	}
	w, err := memlan.New(spec)
	if err != nil {
		return nil, err
	}
	r := &recorder{}
	w.Observe(r.see)
	return &stage{
		World:  w,
		plan:   plan,
		config: plan.Config(nil),
		kind:   "in memory",
		wire:   func(string) string { return "a switch" },
		link:   func(_, lan string) string { return "nic-" + lan },
		mac:    func(string, string) string { return "" },
		record: r.start,
	}, nil
}

// recordMax is how many frames are kept; later ones are not.
const recordMax = 1 << 14

// recorder keeps the frames of a lab in memory while it is on.
type recorder struct {
	mu   sync.Mutex
	on   bool
	seen []sighting
}

func (r *recorder) start() (stop func() []sighting, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.on = true
	return r.stop, nil
}

func (r *recorder) stop() []sighting {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.on = false
	return r.seen
}

// see is an integration.Observer.
func (r *recorder) see(point, dir string, frame []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.on || len(r.seen) == recordMax {
		return
	}
	host, lan := splitPoint(point)
	r.seen = append(r.seen, sighting{host: host, lan: lan, out: dir == "out", when: time.Now(), frame: slices.Clone(frame)})
}

// heldLog takes the director's log and holds it back: it would run between the lines of the page. What comes after release is passed on.
type heldLog struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *heldLog) release(w io.Writer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.w = w
}

func (l *heldLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.w == nil {
		return len(b), nil
	}
	return l.w.Write(b)
}
