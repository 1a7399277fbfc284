//go:build linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Child processes: each dies with us, and none outlives the lab it was started in.

// answerLimit bounds how long a child may take to say something.
const answerLimit = 10 * time.Second

// command is a process of ours: it dies with us and does not hear our Ctrl-C. Go's preemption would interrupt its system calls.
func command(ctx context.Context, path string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	cmd.Env = append(cmd.Environ(), "GODEBUG=asyncpreemptoff=1")
	cmd.WaitDelay = time.Second
	return cmd
}

// process is a child that speaks in lines and says "ready" first.
type process struct {
	name   string
	pid    int
	cancel context.CancelFunc
	in     io.WriteCloser
	lines  chan string

	done      chan struct{} // closed when it has ended
	err       error         // how; valid after done
	complaint strings.Builder
}

// starter starts a command; how it ended comes by the channel (netlab.Namespace.Start).
type starter func(*exec.Cmd) (ended <-chan error, err error)

// startSilent starts a child that does not say when it is ready.
func startSilent(ctx context.Context, by starter, path string, args ...string) (*process, error) {
	ctx, cancel := context.WithCancel(ctx)
	p := &process{name: path, cancel: cancel, lines: make(chan string), done: make(chan struct{})}
	cmd := command(ctx, path, args...)
	if err := p.start(by, cmd); err != nil {
		cancel()
		return nil, err
	}
	p.pid = cmd.Process.Pid
	return p, nil
}

// startProcess starts a child and waits until it is ready.
func startProcess(ctx context.Context, by starter, path string, args ...string) (*process, error) {
	p, err := startSilent(ctx, by, path, args...)
	if err != nil {
		return nil, err
	}
	line, err := p.line()
	if err == nil && line != "ready" {
		err = fmt.Errorf("%s is not ready: it said %q", path, line)
	}
	if err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

// start starts the command with its three streams in our hands.
func (p *process) start(by starter, cmd *exec.Cmd) (err error) {
	if p.in, err = cmd.StdinPipe(); err != nil {
		return err
	}
	out, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, &p.complaint
	ended, err := by(cmd)
	if err != nil {
		return err
	}
	go p.listen(out)
	go func() {
		p.err = <-ended
		close(p.done)
		w.Close()
	}()
	return nil
}

// listen passes the child's lines on.
func (p *process) listen(out io.Reader) {
	for lines := bufio.NewScanner(out); lines.Scan(); {
		select {
		case p.lines <- lines.Text():
		case <-p.done:
		}
	}
}

// line waits for the child's next line.
func (p *process) line() (string, error) {
	select {
	case line := <-p.lines:
		return line, nil
	case <-p.done:
		return "", p.ended()
	case <-time.After(answerLimit):
		return "", fmt.Errorf("%s said nothing within %v", p.name, answerLimit)
	}
}

// ask sends a line and waits for the answer.
func (p *process) ask(question string) (string, error) {
	if _, err := io.WriteString(p.in, question+"\n"); err != nil {
		return "", fmt.Errorf("%s: %w", p.name, err)
	}
	return p.line()
}

// ended tells how the child ended by itself; nil while it runs.
func (p *process) ended() error {
	select {
	case <-p.done:
		return fmt.Errorf("%s has ended: %v: %s", p.name, p.err, strings.TrimSpace(p.complaint.String()))
	default:
		return nil
	}
}

// finish ends the child's input and waits for it to end, for which it has answerLimit.
func (p *process) finish() error {
	p.in.Close()
	select {
	case <-p.done:
	case <-time.After(answerLimit):
		p.cancel()
		<-p.done
	}
	p.cancel()
	if p.err != nil {
		return p.ended()
	}
	return nil
}

// stop kills the child, unless it has ended by itself, which is an error. A nil process is stopped already.
func (p *process) stop() error {
	if p == nil {
		return nil
	}
	err := p.ended()
	p.cancel()
	select {
	case <-p.done:
		return err
	case <-time.After(answerLimit):
		return fmt.Errorf("%s does not end", p.name)
	}
}
