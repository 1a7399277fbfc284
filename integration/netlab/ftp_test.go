//go:build linux

package netlab

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tapdirector/integration"
)

// FTP with the programs that people use: vsftpd on each server, curl on the client.

// needPrograms skips the test where a program is missing, or fails it in CI.
func needPrograms(t *testing.T, names ...string) {
	t.Helper()
	os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			if os.Getenv("TAPDIRECTOR_NEED_NETNS") == "1" {
				t.Fatalf("TAPDIRECTOR_NEED_NETNS=1, but: %v: apt-get install %s", err, name)
			}
			t.Skipf("%v: apt-get install %s", err, name)
		}
	}
}

// needUsers skips the test in a user namespace that has no user nobody, or fails it in CI: vsftpd becomes that one.
func needUsers(t *testing.T) {
	t.Helper()
	const nobody = 65534
	if os.Geteuid() == 0 && hasUser(t, nobody) {
		return
	}
	if os.Getenv("TAPDIRECTOR_NEED_NETNS") == "1" {
		t.Fatal("TAPDIRECTOR_NEED_NETNS=1, but vsftpd cannot change to the user nobody here: run as root")
	}
	t.Skip("vsftpd changes to the user nobody, which is not in this user namespace: run as root")
}

// hasUser reports whether the user is in this user namespace.
func hasUser(t *testing.T, user uint64) bool {
	t.Helper()
	b, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var first, outside, count uint64
		if n, _ := fmt.Sscan(line, &first, &outside, &count); n == 3 && first <= user && user-first < count {
			return true
		}
	}
	return false
}

// ftpServer is a vsftpd of a server: what it serves is under root/pub.
type ftpServer struct {
	root string
	tail *tail
}

// startFTP starts vsftpd in a server's namespace. It ends with the test.
func startFTP(t *testing.T, ns *Namespace, at netip.AddrPort) *ftpServer {
	t.Helper()
	dir := t.TempDir()
	s := &ftpServer{root: filepath.Join(dir, "root"), tail: &tail{}}
	empty, pub := filepath.Join(dir, "empty"), filepath.Join(s.root, "pub")
	for _, d := range []string{filepath.Dir(dir), dir, empty, s.root, pub} {
		must(t, os.MkdirAll(d, 0o755))
		must(t, os.Chmod(d, 0o755))
	}
	must(t, os.Chmod(pub, 0o777))
	listen := "listen=YES\nlisten_ipv6=NO\nlisten_address="
	if at.Addr().Is6() {
		listen = "listen=NO\nlisten_ipv6=YES\nlisten_address6="
	}
	file := filepath.Join(dir, "vsftpd.conf")
	must(t, os.WriteFile(file, fmt.Appendf(nil, "%s%v\nlisten_port=%d\nbackground=NO\nanonymous_enable=YES\nno_anon_password=YES\nanon_root=%s\n"+
		"write_enable=YES\nanon_upload_enable=YES\nanon_other_write_enable=YES\nanon_umask=022\nanon_world_readable_only=NO\nsecure_chroot_dir=%s\n"+
		"ftp_username=daemon\nnopriv_user=nobody\nchown_uploads=NO\nseccomp_sandbox=NO\nisolate_network=NO\nconnect_from_port_20=YES\npasv_enable=YES\n"+
		"port_enable=YES\nmax_per_ip=0\nxferlog_enable=NO\n", listen, at.Addr(), at.Port(), s.root, empty), 0o644))
	cmd := exec.Command("vsftpd", file)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	cmd.Stdout, cmd.Stderr = s.tail, s.tail
	ended, err := ns.Start(cmd)
	must(t, err)
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // with the sessions that it forked
		<-ended
	})
	if err := waitFor(20*time.Second, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		c, err := ns.Dial(ctx, "tcp", at.String())
		if err == nil {
			c.Close()
		}
		return err == nil
	}); err != nil {
		t.Fatalf("vsftpd does not listen: %v; it said:\n%s", err, s.tail)
	}
	return s
}

// curl runs curl in the client's namespace.
func curl(t *testing.T, w *World, arguments ...string) error {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.Command("curl", append([]string{"-sS", "-g", "--max-time", "120", "--connect-timeout", "60", "--keepalive-time", "60"}, arguments...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stdout, cmd.Stderr = &out, &out
	ended, err := w.Namespace("client").Start(cmd)
	if err == nil {
		err = <-ended
	}
	if err != nil {
		return errors.Join(err, errors.New(out.String()))
	}
	return nil
}

// ftpModes are how curl asks for data connections, and by which commands.
var ftpModes = []struct {
	name      string
	arguments []string
	active    bool
	only4     bool
}{
	{"EPSV", nil, false, false},
	{"PASV", []string{"--disable-epsv"}, false, true},
	{"EPRT", []string{"--ftp-port", "-"}, true, false},
	{"PORT", []string{"--ftp-port", "-", "--disable-eprt"}, true, true},
}

// TestFTP downloads and uploads, several files on one control connection and several at once, by every command of either family.
func TestFTP(t *testing.T) {
	needRights(t)
	needPrograms(t, "vsftpd", "curl")
	needUsers(t)
	for _, method := range []string{"nat", "fullnat"} {
		for _, family := range []int{4, 6} {
			for _, offload := range []bool{false, true} {
				s := integration.Spec{Method: method, Family: family, Servers: 2, Offload: offload}
				t.Run(s.String(), func(t *testing.T) { tryFTP(t, s) })
			}
		}
	}
}

func tryFTP(t *testing.T, s integration.Spec) {
	plan, err := integration.NewPlan(s)
	must(t, err)
	vip := netip.AddrPortFrom(plan.VIP.Addr(), 21)
	s.Extra = fmt.Sprintf("[[service]]\nname = \"ftp\"\nlisten = %q\nmethod = %q\nscheduler = \"rr\"\nftp = true\n", vip, s.Method)
	for _, h := range plan.Servers {
		s.Extra += fmt.Sprintf("[[service.server]]\naddress = %q\n", netip.AddrPortFrom(h.Listen.Addr(), 21))
	}
	w := newWorld(t, s, Options{})
	content := make([]byte, 3<<20)
	rand.NewChaCha8([32]byte{1}).Read(content)
	var servers []*ftpServer
	for i, h := range plan.Servers {
		servers = append(servers, startFTP(t, w.Namespace(h.Name), netip.AddrPortFrom(h.Listen.Addr(), 21)))
		must(t, os.WriteFile(filepath.Join(servers[i].root, "pub", "file"), content, 0o644))
	}
	sum := sha256.Sum256(content)
	for _, m := range ftpModes {
		if m.only4 && s.Family == 6 || m.active && s.Method == "fullnat" {
			continue
		}
		t.Run(m.name, func(t *testing.T) {
			dir := t.TempDir()
			url := fmt.Sprintf("ftp://%v/pub/", vip)
			var all sync.WaitGroup
			for n := range 4 {
				all.Go(func() { transfer(t, w, sum, filepath.Join(dir, fmt.Sprint(n)), url, m.arguments) })
			}
			all.Wait()
			for _, v := range servers {
				if names, _ := filepath.Glob(filepath.Join(v.root, "pub", "up-*")); len(names) == 0 {
					t.Error("a server got no upload")
				}
			}
			uploads(t, servers, sum, 4)
		})
	}
	if faults := w.Faults(); len(faults) > 0 {
		t.Errorf("faults: %v", faults)
	}
	for _, c := range w.Counters() {
		if strings.HasPrefix(c.Name, "ftp_") && c.Value > 0 {
			t.Log(c)
		}
		if (c.Name == "ftp_malformed" || c.Name == "ftp_foreign" || c.Name == "ftp_unasked") && c.Value > 0 {
			t.Errorf("%v: of a client and servers that do nothing of the kind", c)
		}
	}
}

// transfer fetches the file three times and puts what it got, on one control connection each.
func transfer(t *testing.T, w *World, sum [32]byte, path, url string, arguments []string) {
	fetch := append([]string{}, arguments...)
	for i := range 3 {
		fetch = append(fetch, "-o", fmt.Sprint(path, "-", i), url+"file")
	}
	if err := curl(t, w, fetch...); err != nil {
		t.Errorf("download: %v", err)
		return
	}
	for i := range 3 {
		if b, err := os.ReadFile(fmt.Sprint(path, "-", i)); err != nil || sha256.Sum256(b) != sum {
			t.Errorf("download %d: %d bytes, %v", i, len(b), err)
		}
	}
	name := "up-" + filepath.Base(path)
	if err := curl(t, w, append(append([]string{}, arguments...), "-T", path+"-0", url+name, "-T", path+"-1", url+name+"-again")...); err != nil {
		t.Errorf("upload: %v", err)
	}
}

// uploads checks, and removes, what n clients have put on some server, two files each.
func uploads(t *testing.T, servers []*ftpServer, sum [32]byte, n int) {
	t.Helper()
	found := 0
	for _, s := range servers {
		names, err := filepath.Glob(filepath.Join(s.root, "pub", "up-*"))
		must(t, err)
		for _, name := range names {
			found++
			b, err := os.ReadFile(name)
			if err != nil || sha256.Sum256(b) != sum {
				t.Errorf("%s: %d bytes, %v", name, len(b), err)
			}
			must(t, os.Remove(name))
		}
	}
	if found != 2*n {
		t.Errorf("%d files on the servers, want %d", found, 2*n)
	}
}
