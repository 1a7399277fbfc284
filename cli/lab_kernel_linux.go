package cli

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"tapdirector/integration"
	"tapdirector/integration/netlab"
)

// nestedLab is set for the lab that runs in a user namespace of its own: it must not try that again.
const nestedLab = "TAPDIRECTOR_LAB_NESTED"

// elsewhere runs the lab in a new user namespace if that, and nothing less, brings the rights. It reports whether it has; without, its
// error is why there is no lab of kernels to be had, nil when it can be built right here.
func elsewhere(cmd *cobra.Command) (done bool, err error) {
	err = netlab.Available()
	if err == nil || os.Getenv(nestedLab) != "" || !errors.Is(err, unix.EPERM) {
		return false, err
	}
	if err := netlab.TunAvailable(); err != nil {
		return false, err
	}
	child, err := startNested(cmd)
	if err != nil {
		return false, fmt.Errorf("no user namespace either: %w", err)
	}
	return true, child
}

// startNested runs this program again as root of new user, network and mount namespaces. The first result is how that ended, the second why it
// did not begin.
func startNested(cmd *cobra.Command) (ended, err error) {
	// The child dies with the thread that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Env = append(os.Environ(), nestedLab+"=1")
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, cmd.OutOrStdout(), cmd.ErrOrStderr()
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	// Ctrl-C goes to both; the child decides, this process only waits for it.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	if err := c.Start(); err != nil {
		return nil, err
	}
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case s := <-signals:
				c.Process.Signal(s)
			case <-done:
				return
			}
		}
	}()
	if err := c.Wait(); err != nil {
		return fmt.Errorf("the lab in its user namespace: %w", err), nil
	}
	return nil, nil
}

// kernelStage builds the lab of network namespaces. The director is this very program.
func kernelStage(spec integration.Spec) (*stage, error) {
	log := &heldLog{}
	w, err := netlab.NewWith(spec, netlab.Options{Program: []string{"/proc/self/exe"}, Log: log})
	if errors.Is(err, netlab.ErrBuild) {
		return nil, fmt.Errorf("%w: %w", errNoHosts, err)
	}
	if err != nil {
		return nil, err
	}
	return &stage{
		World:  w,
		plan:   w.Plan(),
		config: w.Config(),
		kind:   "in network namespaces",
		visit:  visits(w),
		log:    log.release,
		wire:   func(lan string) string { return "bridge " + w.Bridge(lan) },
		link:   w.LinkName,
		mac:    func(host, lan string) string { return w.LinkMAC(host, lan).String() },
		record: func() (func() []sighting, error) { return startCapture(w) },
	}, nil
}

// startCapture keeps what passes every point until stop.
func startCapture(w *netlab.World) (stop func() []sighting, err error) {
	c, err := w.Capture()
	if err != nil {
		return nil, err
	}
	return func() (all []sighting) {
		for _, s := range c.Stop() {
			all = append(all, sighting{host: s.Host, lan: s.LAN, out: s.Out, when: s.When, frame: s.Bytes})
		}
		return all
	}, nil
}

// visits are commands to look around: this process holds the namespaces, so they are found below its descriptors.
func visits(w *netlab.World) []string {
	enter := "nsenter "
	if os.Getenv(nestedLab) != "" {
		enter += fmt.Sprintf("--user=/proc/%d/ns/user --preserve-credentials ", os.Getpid())
	}
	in := func(host, command string) string {
		return fmt.Sprintf("%s--net=%s %s", enter, w.Namespace(host).Path(), command)
	}
	p := w.Plan()
	lines := []string{
		in("client", fmt.Sprintf("curl -s http://%v/", p.VIP)),
		in("director", "tcpdump -ni tap0"),
		in("director", "bridge fdb show"),
	}
	for _, s := range p.Servers {
		lines = append(lines, in(s.Name, "tcpdump -ni eth0"))
	}
	return append(lines, fmt.Sprintf("kill -USR1 %d    # the director logs its counters", w.DirectorPID()))
}
