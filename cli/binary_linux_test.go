package cli

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The binary as a user runs it: built by the go tool, started in a network namespace that is born and dies with the process,
// so nothing can be left behind.

// tapConf makes a TAP of its own. No bridge: nothing leaves the namespace.
const tapConf = `
[[interface]]
name      = "lan"
tap       = "tdcli0"
addresses = ["10.77.1.2/24", "fd77:1::2/64"]

[[service]]
name   = "web"
listen = "10.77.1.100:80"
method = "nat"

  [[service.server]]
  address = "10.77.1.11:8000"
  [[service.server]]
  address = "10.77.1.12:8000"

[[service]]
name   = "web6"
listen = "[fd77:1::100]:80"
method = "dr"

  [[service.server]]
  address = "[fd77:1::11]:80"
`

// ownNamespace makes cmd start in a network namespace of its own: as root, or in a user namespace where the user is root.
func ownNamespace(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if os.Getuid() == 0 {
		return
	}
	cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
	cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
	cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
}

// needRights skips the test where TAPs or namespaces are not to be had.
func needRights(t *testing.T) {
	t.Helper()
	probe := exec.Command(os.Args[0], "-test.run=^$")
	ownNamespace(probe)
	err := probe.Run()
	if err == nil {
		var f *os.File
		if f, err = os.OpenFile("/dev/net/tun", os.O_RDWR, 0); err == nil {
			f.Close()
			return
		}
	}
	lacking(t, fmt.Errorf("no network namespaces or /dev/net/tun: %w", err))
}

// lacking skips the test for want of rights; with TAPDIRECTOR_NEED_NETNS=1, as in CI, it fails.
func lacking(t *testing.T, why error) {
	t.Helper()
	if os.Getenv("TAPDIRECTOR_NEED_NETNS") == "1" {
		t.Fatalf("TAPDIRECTOR_NEED_NETNS=1, but: %v", why)
	}
	t.Skip(why)
}

// buildBinary builds the program and returns its path.
func buildBinary(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "tapdirector")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", binary, "tapdirector")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return binary
}

// process is the program, running.
type process struct {
	cmd  *exec.Cmd
	log  *lineWatch
	done chan error
}

// startBinary starts it with args in a namespace of its own; the end of the test ends it.
func startBinary(t *testing.T, binary string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(binary, args...), log: newLineWatch(), done: make(chan error, 1)}
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	ownNamespace(p.cmd)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	go func() { p.done <- p.cmd.Wait() }()
	return p
}

// exitCode waits for the end.
func (p *process) exitCode(t *testing.T) int {
	t.Helper()
	select {
	case err := <-p.done:
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		t.Fatalf("it does not end:\n%s", p.log)
		return -1
	}
}

// TestBinary: start lines, every counter on SIGUSR1, a clean end at SIGTERM and SIGINT. The exit code is 0 only if the director
// stopped in time: see errStuck.
func TestBinary(t *testing.T) {
	needRights(t)
	binary := buildBinary(t)
	path := writeConf(t, tapConf)
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(s.String(), func(t *testing.T) {
			p := startBinary(t, binary, "-conf", path)
			p.log.wait(t, "msg=interface interface=lan tap=tdcli0 driver=linux")
			p.log.wait(t, "msg=service service=web listen=10.77.1.100:80 protocol=tcp method=nat scheduler=wlc servers=2")
			p.log.wait(t, "msg=service service=web6 listen=[fd77:1::100]:80 protocol=tcp method=dr scheduler=wlc servers=1")
			links, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", p.cmd.Process.Pid))
			if err != nil || !strings.Contains(string(links), "tdcli0") {
				t.Errorf("no tdcli0 in its namespace (%v):\n%s", err, links)
			}
			p.signal(t, syscall.SIGUSR1)
			for _, want := range []string{"msg=counters", "frames_read", "verdict[forwarded-nat]", "msg=counters interface=lan",
				"service=web server=10.77.1.12:8000", "service=web6 server=[fd77:1::11]:80"} {
				p.log.wait(t, want)
			}
			p.signal(t, s)
			if code := p.exitCode(t); code != ExitOK {
				t.Errorf("exit code %d:\n%s", code, p.log)
			}
			p.log.wait(t, "msg=stopped")
		})
	}
}

// TestBinarySurvives: neither SIGHUP nor a reader of the log that went away ends it.
func TestBinarySurvives(t *testing.T) {
	needRights(t)
	binary := buildBinary(t)
	t.Run("SIGHUP", func(t *testing.T) {
		p := startBinary(t, binary, "-conf", writeConf(t, tapConf))
		p.log.wait(t, "service=web6")
		p.signal(t, syscall.SIGHUP)
		p.log.wait(t, "msg=reload changes=nothing")
		p.signal(t, syscall.SIGTERM)
		if code := p.exitCode(t); code != ExitOK {
			t.Errorf("exit code %d:\n%s", code, p.log)
		}
	})
	t.Run("lost reader", func(t *testing.T) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		p := &process{cmd: exec.Command(binary, "-conf", writeConf(t, tapConf)), done: make(chan error, 1)}
		p.cmd.Stdout, p.cmd.Stderr = w, w
		ownNamespace(p.cmd)
		if err := p.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.cmd.Process.Kill() })
		w.Close()
		waitForLine(t, r, "service=web6")
		r.Close()
		go func() { p.done <- p.cmd.Wait() }()
		p.signal(t, syscall.SIGUSR1) // writes into the void
		p.signal(t, syscall.SIGTERM)
		if code := p.exitCode(t); code != ExitOK {
			t.Errorf("exit code %d", code)
		}
	})
}

// waitForLine reads until a line holds want.
func waitForLine(t *testing.T, r *os.File, want string) {
	t.Helper()
	if err := r.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if strings.Contains(lines.Text(), want) {
			return
		}
	}
	t.Fatalf("no line with %q: %v", want, lines.Err())
}

func (p *process) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// TestBinaryFails: exit codes as a shell sees them.
func TestBinaryFails(t *testing.T) {
	needRights(t)
	binary := buildBinary(t)
	noBridge := strings.Replace(tapConf, `"tdcli0"`, `"tdcli0"`+"\nbridge = \"tdnobridge\"", 1)
	for _, c := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"no file", []string{"-conf", "no/such.toml"}, ExitUsage, "no/such.toml"},
		{"no bridge", []string{"-conf", writeConf(t, noBridge)}, ExitRuntime, "tdnobridge"},
		{"no device", []string{"-conf", writeConf(t, goodConf)}, ExitRuntime, "/dev/tapdirector-no-such-device"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := startBinary(t, binary, c.args...)
			if code := p.exitCode(t); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			p.log.wait(t, c.want)
		})
	}
}
