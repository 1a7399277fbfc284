package uml

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"tapdirector/integration/netlab"
)

// Theory of operation
//
// A guest's root is this machine's, read-only, so it runs the programs that are here. Its init is a shell script of ours that loads modules and then
// reads commands, a line each, from a serial line that is a pair of pipes; a line "=done CODE" ends each answer. /proc, /sys, /run and /dev are its
// own; files that it should read are made in the guest's folder here (File).
//
// A guest has a process namespace of its own, whose first process dies with us: nothing outlives the program that booted it.

const (
	program    = "linux.uml"
	moduleRoot = "/usr/lib/uml/modules"
	busybox    = "/usr/bin/busybox" // static: it runs before anything is mounted
	bootLimit  = 120 * time.Second
	replyLimit = 60 * time.Second
	doneMark   = "=done "
	memory     = "96M"
)

// Options say what a guest is.
type Options struct {
	Name    string   // one word
	TAPs    []string // of the namespace that it runs in: the guest's interfaces vec0, vec1, ...
	Modules []string // loaded in this order, each after what it needs
	Large   bool     // it takes frames of up to 64 KiB: superpackets of whoever has offload
}

// Available says what a guest lacks here, or nil.
func Available() error {
	for _, path := range []string{program, busybox, "/usr/sbin/ip"} {
		if _, err := exec.LookPath(path); err != nil {
			return fmt.Errorf("%w (%s)", err, packages)
		}
	}
	_, _, err := moduleList(nil)
	return err
}

// packages is where it comes from.
const packages = "Debian: apt-get install user-mode-linux busybox-static iproute2"

// Guest is a running one.
type Guest struct {
	dir     string // its init and its sockets
	cmd     *exec.Cmd
	ended   <-chan error
	in      *os.File
	out     *bufio.Reader
	outFile *os.File
	console *os.File
	files   int // made for it
}

// Boot starts a guest in a namespace that has its TAPs, and returns when it takes commands.
func Boot(ns *netlab.Namespace, o Options) (*Guest, error) {
	g := &Guest{}
	if err := g.boot(ns, o); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

func (g *Guest) boot(ns *netlab.Namespace, o Options) (err error) {
	if g.dir, err = os.MkdirTemp("", "uml"); err != nil {
		return err
	}
	release, list, err := moduleList(o.Modules)
	if err != nil {
		return err
	}
	initPath := filepath.Join(g.dir, "init")
	if err := os.WriteFile(initPath, []byte(initScript(release, list)), 0o700); err != nil {
		return err
	}
	if err := g.start(ns, initPath, o); err != nil {
		return err
	}
	g.outFile.SetReadDeadline(time.Now().Add(bootLimit))
	if _, err := g.read(); err != nil {
		return fmt.Errorf("user-mode Linux does not boot: %w; it said:\n%s", err, g.Console())
	}
	return nil
}

// PID is the process of the guest's kernel; its memory is the guest's.
func (g *Guest) PID() int { return g.cmd.Process.Pid }

// Console returns the end of what the guest's kernel said.
func (g *Guest) Console() string {
	said, _ := os.ReadFile(g.console.Name())
	return string(said[max(0, len(said)-2000):])
}

// start starts the program; the serial line's pipes are its descriptors 3 and 4.
func (g *Guest) start(ns *netlab.Namespace, initPath string, o Options) error {
	path, err := exec.LookPath(program)
	if err != nil {
		return fmt.Errorf("%w (%s)", err, packages)
	}
	theirIn, ourIn, err := os.Pipe()
	if err != nil {
		return err
	}
	defer theirIn.Close()
	ourOut, theirOut, err := os.Pipe()
	if err != nil {
		return errors.Join(err, ourIn.Close())
	}
	defer theirOut.Close()
	g.in, g.outFile, g.out = ourIn, ourOut, bufio.NewReader(ourOut)
	if g.console, err = os.Create(filepath.Join(g.dir, "console")); err != nil {
		return err
	}
	args := []string{"mem=" + memory, "root=none", "rootfstype=hostfs", "rootflags=/", "ro", "init=" + initPath, "uml_dir=" + g.dir + "/", "umid=" + o.Name,
		"con=null", "con0=null,fd:1", "ssl=null", "ssl0=fd:3,fd:4"}
	for i, tap := range o.TAPs {
		link := fmt.Sprintf("vec%d:transport=tap,ifname=%s,depth=128", i, tap)
		if o.Large {
			link += ",gro=1" // without, its buffers are as long as the MTU, and longer frames are lost
		}
		args = append(args, link)
	}
	g.cmd = exec.Command(path, args...)
	g.cmd.Stdout, g.cmd.Stderr = g.console, g.console
	g.cmd.ExtraFiles = []*os.File{theirIn, theirOut}
	// In a process namespace of its own its helpers end with it, and it ends with us, however we end.
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true, Cloneflags: syscall.CLONE_NEWPID}
	g.ended, err = ns.Start(g.cmd)
	return err
}

// ModuleFiles lists the files of modules and of what they need, in the order in which they must be loaded.
func ModuleFiles(modules []string) ([]string, error) {
	_, list, err := moduleList(modules)
	return list, err
}

// moduleList reads the order in which modules must be loaded, and the kernel's release.
func moduleList(modules []string) (release string, list []string, err error) {
	dirs, _ := filepath.Glob(filepath.Join(moduleRoot, "*", "modules.dep"))
	if len(dirs) != 1 {
		return "", nil, fmt.Errorf("expected the modules of one kernel in %s, found %q (%s)", moduleRoot, dirs, packages)
	}
	text, err := os.ReadFile(dirs[0])
	if err != nil {
		return "", nil, err
	}
	needs := map[string][]string{} // path of each module, then of what it needs, the last one first
	for _, line := range strings.Split(string(text), "\n") {
		if path, rest, ok := strings.Cut(line, ":"); ok {
			needs[strings.TrimSuffix(filepath.Base(path), ".ko")] = append([]string{path}, strings.Fields(rest)...)
		}
	}
	seen := map[string]bool{}
	for _, m := range modules {
		if needs[m] == nil {
			return "", nil, fmt.Errorf("no module %s in %s", m, dirs[0])
		}
		for i := len(needs[m]) - 1; i >= 0; i-- {
			if p := needs[m][i]; !seen[p] {
				seen[p] = true
				list = append(list, filepath.Join(filepath.Dir(dirs[0]), p))
			}
		}
	}
	return filepath.Base(filepath.Dir(dirs[0])), list, nil
}

// initScript is the guest's whole user space.
func initScript(release string, modules []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "#!%s sh\n# init of a user-mode Linux %s: see integration/uml\n", busybox, release)
	for _, fs := range []string{"proc /proc", "sysfs /sys", "tmpfs /run", "tmpfs /tmp", "tmpfs /dev"} {
		kind, at, _ := strings.Cut(fs, " ")
		if at == "/tmp" { // our own files are there
			continue
		}
		fmt.Fprintf(&b, "%s mount -t %s none %s\n", busybox, kind, at)
	}
	fmt.Fprintf(&b, "%[1]s mknod /dev/ttyS0 c 4 64\n%[1]s mknod /dev/null c 1 3\n", busybox)
	b.WriteString("export PATH=/usr/sbin:/usr/bin:/sbin:/bin\nip() { /usr/sbin/ip \"$@\"; }\n") // busybox's own ip knows less
	for _, m := range modules {
		fmt.Fprintf(&b, "insmod %s\n", m)
	}
	b.WriteString("exec 3<>/dev/ttyS0\nstty raw -echo <&3\n")
	fmt.Fprintf(&b, "echo '%s0' >&3\n", doneMark)
	fmt.Fprintf(&b, "while read -r line <&3; do eval \"$line\" >&3 2>&1 </dev/null; echo \"%s$?\" >&3; done\npoweroff -f\n", doneMark)
	return b.String()
}

// Run runs one line of shell in the guest and returns what it printed; a code other than 0 is an error.
func (g *Guest) Run(line string) ([]string, error) {
	if strings.Contains(line, "\n") {
		return nil, fmt.Errorf("a command of more than one line: %q", line)
	}
	line, err := g.short(line)
	if err != nil {
		return nil, err
	}
	g.in.SetWriteDeadline(time.Now().Add(replyLimit))
	g.outFile.SetReadDeadline(time.Now().Add(replyLimit))
	if _, err = io.WriteString(g.in, line+"\n"); err != nil {
		return nil, fmt.Errorf("guest: %w", err)
	}
	said, err := g.read()
	if err != nil {
		return said, fmt.Errorf("guest: %s: %w: %s", line, err, strings.Join(said, "; "))
	}
	return said, nil
}

// longest line that the guest's terminal takes for sure; longer ones go by a file, which the guest sees because its root is ours.
const longest = 1000

func (g *Guest) short(line string) (string, error) {
	if len(line) <= longest {
		return line, nil
	}
	path, err := g.File(line + "\n")
	return ". " + path, err
}

// File makes a file that the guest can read. Never one name twice: the guest keeps what it has read.
func (g *Guest) File(text string) (path string, err error) {
	g.files++
	path = filepath.Join(g.dir, fmt.Sprintf("file%d", g.files))
	return path, os.WriteFile(path, []byte(text), 0o600)
}

// ReadFile reads a file of the guest's, without a program: those are dear in a guest.
func (g *Guest) ReadFile(path string) (string, error) {
	lines, err := g.Run(`while IFS= read -r l; do echo "$l"; done < ` + path)
	return strings.Join(lines, "\n"), err
}

// read returns the lines of one answer.
func (g *Guest) read() (said []string, err error) {
	for {
		l, err := g.out.ReadString('\n')
		if err != nil {
			return said, err
		}
		l = strings.TrimRight(l, "\r\n")
		if code, done := strings.CutPrefix(l, doneMark); done {
			if code != "0" {
				return said, fmt.Errorf("ended with code %s", code)
			}
			return said, nil
		}
		said = append(said, l)
	}
}

// haltLimit is how long a guest may take to power off.
const haltLimit = 3 * time.Second

// Close powers the guest off and removes its files. It may be called twice.
func (g *Guest) Close() error {
	if g.ended != nil {
		g.in.SetWriteDeadline(time.Now().Add(time.Second))
		io.WriteString(g.in, "poweroff -f\n")
		select {
		case <-g.ended:
		case <-time.After(haltLimit):
			g.cmd.Process.Kill()
			<-g.ended
		}
		g.ended = nil
	}
	for _, f := range []*os.File{g.in, g.outFile, g.console} {
		if f != nil {
			f.Close()
		}
	}
	if g.dir == "" {
		return nil
	}
	return os.RemoveAll(g.dir)
}
