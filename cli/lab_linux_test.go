package cli

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The lab of kernels, run by the binary as a user runs it. In a namespace of its own it needs no more than any test here.

// labBinary is a lab's command line; it runs with the rights that needRights found.
func labBinary(binary string, args ...string) *exec.Cmd {
	cmd := exec.Command(binary, append([]string{"lab"}, args...)...)
	ownNamespace(cmd)
	return cmd
}

func TestLabOfKernels(t *testing.T) {
	needRights(t)
	binary := buildBinary(t)
	for _, args := range []string{
		"--method nat --family 4 --protocol tcp",
		"--method nat --family 6 --protocol udp --arms 1",
		"--method dr --family 4 --protocol udp --arms 1",
		"--method dr --family 6 --protocol tcp --arms 2",
	} {
		t.Run(args, func(t *testing.T) {
			out, err := labBinary(binary, strings.Fields(args+" --requests 6")...).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			way := "The answer came back through the director."
			if strings.Contains(args, "dr") {
				way = "The answer did not pass the director."
			}
			contains(t, string(out), "in network namespaces", "bridge br-ext", "tap0", "answered by s1", "answered by s2", "answered by s3", way)
			if strings.Contains(string(out), "?") {
				t.Errorf("a hardware address has no owner:\n%s", out)
			}
		})
	}
}

// A plain user's lab is root of a user namespace; where that or the TAP driver is refused it says so and runs in memory.
func TestLabOfAPlainUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can become somebody else")
	}
	binary := buildBinary(t)
	for dir := filepath.Dir(binary); strings.HasPrefix(dir, os.TempDir()) && dir != os.TempDir(); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(binary, "lab", "--requests", "3")
	const nobody = 65534
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EINVAL) {
		lacking(t, fmt.Errorf("this root may not become somebody else: %w", err))
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if strings.Contains(string(out), "in memory") {
		contains(t, string(out), "No lab of kernels here: ", "So it runs in memory.")
	} else {
		contains(t, string(out), "in network namespaces")
	}
	contains(t, string(out), "answered by s1", "answered by s2", "answered by s3")
}

// keptLab starts a lab that stays, and returns it with the process id of its director.
func keptLab(t *testing.T) (*process, int) {
	t.Helper()
	needRights(t)
	p := startBinary(t, buildBinary(t), "lab", "--requests", "1", "--keep")
	p.log.wait(t, "the director logs its counters")
	pid, err := strconv.Atoi(firstMatch(t, p, `kill -USR1 (\d+)`))
	if err != nil {
		t.Fatal(err)
	}
	return p, pid
}

// firstMatch returns what the pattern's group matches in the output so far.
func firstMatch(t *testing.T, p *process, pattern string) string {
	t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(p.log.String())
	if m == nil {
		t.Fatalf("no %q in:\n%s", pattern, p.log)
	}
	return m[1]
}

// Kept, it stays until Ctrl-C, its namespaces can be found where it says, and its director answers to signals.
func TestLabKeepsUntilCtrlC(t *testing.T) {
	p, director := keptLab(t)
	if _, err := os.Stat(firstMatch(t, p, `--net=(\S+) curl`)); err != nil {
		t.Error(err)
	}
	if err := syscall.Kill(director, syscall.SIGUSR1); err != nil {
		t.Error(err)
	}
	p.log.wait(t, "msg=counters")
	p.signal(t, os.Interrupt)
	if code := p.exitCode(t); code != ExitOK {
		t.Errorf("after Ctrl-C: exit code %d:\n%s", code, p.log)
	}
	if alive(director) {
		t.Error("the director outlives the lab")
	}
}

// Not even SIGKILL leaves a director, and with it its namespaces and TAPs.
func TestLabKilledLeavesNothing(t *testing.T) {
	p, director := keptLab(t)
	p.signal(t, os.Kill)
	for end := time.Now().Add(10 * time.Second); alive(director); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the director outlives a killed lab")
		}
	}
}

// alive reports whether a process runs; one that only waits to be reaped does not.
func alive(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(b), ") ")
	return !strings.HasPrefix(after, "Z") && !strings.HasPrefix(after, "X")
}
