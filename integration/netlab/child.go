//go:build linux

package netlab

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tapdirector/director"
)

// child is a director in a process of its own that dies with us (Pdeathsig). It has a process group of its own: a Ctrl-C is for us, and we
// tell it.
type child struct {
	cmd  *exec.Cmd
	file *os.File      // its lb.toml
	tail tail          // the end of what it logged
	done chan struct{} // closed when it has ended
	err  error         // how; valid after done
}

// stopLimit is how long a director may take to stop; the promise is a second.
const stopLimit = 5 * time.Second

// startChild starts the program of the options in a namespace, with the config in a file that has no name.
func startChild(ns *Namespace, o Options, config string) (runner, error) {
	file, err := memoryFile("lb.toml", config)
	if err != nil {
		return nil, err
	}
	c := &child{file: file, done: make(chan struct{})}
	c.cmd = exec.Command(o.Program[0], append(o.Program[1:], "-conf", "/proc/self/fd/3")...)
	c.cmd.ExtraFiles = []*os.File{file}
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	c.cmd.Stdout = &c.tail
	if o.Log != nil {
		c.cmd.Stdout = io.MultiWriter(o.Log, &c.tail)
	}
	c.cmd.Stderr = c.cmd.Stdout
	ended, err := ns.Start(c.cmd)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	go func() {
		c.err = errors.Join(<-ended, file.Close())
		close(c.done)
	}()
	return c, nil
}

// counters are the child's own business: it logs them on SIGUSR1.
func (c *child) counters() []director.Counter { return nil }

func (c *child) pid() int { return c.cmd.Process.Pid }

// reload writes the child's file anew and tells it to read it.
func (c *child) reload(config string) error {
	if err := c.file.Truncate(0); err != nil {
		return err
	}
	if _, err := c.file.WriteAt([]byte(config), 0); err != nil {
		return err
	}
	return c.cmd.Process.Signal(syscall.SIGHUP)
}

// ended is nil while the child runs.
func (c *child) ended() error {
	select {
	case <-c.done:
		return fmt.Errorf("%w; it said:\n%s", errors.Join(c.err, errEnded), c.tail.String())
	default:
		return nil
	}
}

var errEnded = errors.New("the process has ended")

// stop asks the child to end, and ends it when it does not.
func (c *child) stop() error {
	if err := c.ended(); err != nil {
		return err
	}
	c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.done:
		if c.err != nil {
			return fmt.Errorf("director: %w; it said:\n%s", c.err, c.tail.String())
		}
		return nil
	case <-time.After(stopLimit):
		c.cmd.Process.Kill()
		<-c.done
		return fmt.Errorf("director did not stop within %v of SIGTERM", stopLimit)
	}
}

// memoryFile is a file without a name: it is gone with the last descriptor.
func memoryFile(name, content string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memory file: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.WriteString(content); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// tailSize is how much of a child's log is kept for an error message, in bytes.
const tailSize = 4096

// tail keeps the last bytes that were written to it.
type tail struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf.Write(b)
	if over := t.buf.Len() - tailSize; over > 0 {
		t.buf.Next(over)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.buf.String()
}
