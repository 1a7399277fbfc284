package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// An agent takes the place of the guest's shell: this program, run inside the guest, over the same serial line. Starting programs is what is dear
// in user-mode Linux (30 ms each), and a shell reads files byte by byte, at a system call a byte; an agent reads files as they are, and keeps one ipvsadm
// running that takes commands as they come (-R). It answers as the shell does, so guest.Run does for both.
//
// A line is a JSON array of orders, done one after the other until one fails; what they print is the answer.

// agentName is the argument that makes this program an agent.
const agentName = "agent"

// orders are what an agent can be told.
var orders = map[string]func(a *agent, w io.Writer, rest string) error{
	"ipvsadm": (*agent).ipvsadm, // a command of ipvsadm
	"set":     (*agent).set,     // PATH VALUE: write it, and take it back with undo
	"write":   (*agent).write,   // PATH VALUE
	"undo":    (*agent).undo,    // what was set since the last undo
	"cat":     (*agent).cat,     // PATH
	"emptied": (*agent).emptied, // wait until there are no connections
	"expired": (*agent).expired, // wait until those are gone whose time is over
	"tc":      (*agent).tc,      // lines for tc -batch
	"sh":      (*agent).shell,   // a line of shell
}

type agent struct {
	old  [][2]string    // files that were set, and what was in them
	adm  io.WriteCloser // ipvsadm's input, nil: it does not run
	said *bufio.Reader  // and what it says
	told bool           // it was told something since it was last waited for
}

// runAgent serves a serial line. It is the guest's first process and never ends: the guest is powered off by the shell's command.
func runAgent(line io.ReadWriter) error {
	a := &agent{}
	in := bufio.NewReader(line)
	for code := 0; ; {
		if _, err := fmt.Fprintf(line, "=done %d\n", code); err != nil {
			return err
		}
		text, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		if code = 0; a.line(line, strings.TrimSpace(text)) != nil {
			code = 1
		}
	}
}

// line does what one line says, and prints why it could not.
func (a *agent) line(w io.Writer, text string) (err error) {
	defer func() {
		if err != nil {
			fmt.Fprintln(w, err)
		}
	}()
	if path, inFile := strings.CutPrefix(text, ". "); inFile { // too long for the terminal
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		text = string(b)
	}
	var list []string
	if json.Unmarshal([]byte(text), &list) != nil {
		return a.shell(w, text)
	}
	for _, order := range list {
		name, rest, _ := strings.Cut(order, " ")
		do, ok := orders[name]
		if !ok {
			return fmt.Errorf("no order %q", name)
		}
		if name != "ipvsadm" {
			if err := a.wait(w); err != nil {
				return err
			}
		}
		if err := do(a, w, rest); err != nil {
			return fmt.Errorf("%s: %w", order, err)
		}
	}
	return a.wait(w)
}

// ipvsadm tells the ipvsadm that runs.
func (a *agent) ipvsadm(_ io.Writer, command string) error {
	if a.adm == nil {
		c := exec.Command("stdbuf", "-oL", "ipvsadm", "-R")
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		defer w.Close()
		c.Stdout, c.Stderr = w, w
		if a.adm, err = c.StdinPipe(); err != nil {
			return err
		}
		if err := c.Start(); err != nil {
			return err
		}
		go c.Wait()
		a.said = bufio.NewReader(r)
	}
	a.told = true
	_, err := fmt.Fprintln(a.adm, command)
	return err
}

// lastWord is what ipvsadm says when it has done all before: the answer to one more question.
const lastWord = "Timeout (tcp tcpfin udp):"

// wait waits until ipvsadm has done all it was told. What it says is an error.
func (a *agent) wait(w io.Writer) error {
	if !a.told {
		return nil
	}
	a.told = false
	if err := a.ipvsadm(w, "-L --timeout"); err != nil {
		return err
	}
	a.told = false
	var complaints []string
	for {
		l, err := a.said.ReadString('\n')
		if err != nil {
			a.adm = nil
			return fmt.Errorf("ipvsadm ended (%w): %s", err, strings.Join(complaints, "; "))
		}
		if strings.HasPrefix(l, lastWord) {
			break
		}
		complaints = append(complaints, strings.TrimSpace(l))
	}
	if complaints != nil {
		return fmt.Errorf("ipvsadm: %s", strings.Join(complaints, "; "))
	}
	return nil
}

func (a *agent) write(_ io.Writer, rest string) error {
	path, value, _ := strings.Cut(rest, " ")
	return os.WriteFile(path, []byte(value+"\n"), 0)
}

func (a *agent) set(w io.Writer, rest string) error {
	path, _, _ := strings.Cut(rest, " ")
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	a.old = append(a.old, [2]string{path, strings.TrimSpace(string(b))})
	return a.write(w, rest)
}

func (a *agent) undo(w io.Writer, _ string) error {
	for len(a.old) > 0 {
		last := a.old[len(a.old)-1]
		a.old = a.old[:len(a.old)-1]
		if err := a.write(w, last[0]+" "+last[1]); err != nil {
			return err
		}
	}
	return nil
}

func (a *agent) cat(w io.Writer, path string) error {
	b, err := os.ReadFile(path)
	if err == nil {
		_, err = w.Write(b)
	}
	return err
}

// goneLimit is how long connections may take to go that have lost their servers, or that ip_vs has ended: the next tick does it.
const goneLimit = 10 * time.Second

func (a *agent) emptied(io.Writer, string) error {
	return awaitConns(func(string) bool { return false })
}

func (a *agent) expired(io.Writer, string) error {
	return awaitConns(func(line string) bool {
		w := strings.Fields(line)
		return len(w) <= connExpires || w[connExpires] != "0"
	})
}

// connFile is the connection table: a title, and a line for each connection.
const (
	connFile    = "/proc/net/ip_vs_conn"
	connExpires = 8 // the column of the seconds left
)

// awaitConns waits until all connections may stay.
func awaitConns(mayStay func(line string) bool) error {
	for limit := time.Now().Add(goneLimit); ; time.Sleep(2 * time.Millisecond) {
		b, err := os.ReadFile(connFile)
		if err != nil {
			return err
		}
		lines := strings.Split(strings.TrimSpace(string(b)), "\n")
		if !slices.ContainsFunc(lines[1:], func(l string) bool { return !mayStay(l) }) {
			return nil
		}
		if time.Now().After(limit) {
			return fmt.Errorf("connections that do not go: %s", b)
		}
	}
}

func (a *agent) tc(w io.Writer, lines string) error {
	c := exec.Command("tc", "-batch", "-")
	c.Stdin, c.Stdout, c.Stderr = strings.NewReader(lines+"\n"), w, w
	return c.Run()
}

func (a *agent) shell(w io.Writer, line string) error {
	c := exec.Command("/usr/bin/busybox", "sh", "-c", line)
	c.Stdout, c.Stderr = w, w
	return c.Run()
}
