package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// picks opens new connections one after the other and writes down the servers' numbers: "picks 6", "picks 6 clients" (each from another client
// instead of another port), "picks 6 ends" (to each end of the service in turn), "picks 6 from anywhere" (any rotation will do).
func (p *player) picks(args []string) error {
	if len(args) == 0 {
		return errors.New("how many?")
	}
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	rest := strings.Join(args[1:], " ")
	var seq []string
	for i := range n {
		from := fmt.Sprintf("client:%d", 41000+p.picked)
		if strings.Contains(rest, "clients") {
			from = fmt.Sprintf("client%d:%d", i+1, 40000+p.rounds)
		}
		p.picked++
		to := p.c.services[0].listen[0]
		if strings.Contains(rest, "ends") {
			to = p.c.services[0].listen[i%len(p.c.services[0].listen)]
		}
		who, err := p.pick(from, to)
		if err != nil {
			return err
		}
		seq = append(seq, who)
	}
	p.rounds++
	if strings.Contains(rest, "from anywhere") {
		seq, p.free = smallestRotation(seq), true
	}
	p.lines = append(p.lines, strings.Join(seq, " "))
	return nil
}

// pick opens one connection and says whom it went to.
func (p *player) pick(from, to string) (string, error) {
	s := &step{verb: ">", args: []string{from, "->", to, "open"}}
	_, b, err := buildFrame(p.c, &p.m, s)
	if err != nil {
		return "", err
	}
	out, err := p.exchange(ext, b, [][]byte{b}, slices.Clone)
	for _, d := range out {
		if d.link == in {
			name := strings.TrimPrefix(nameOfMAC([6]byte(d.frame[:6])), "server")
			return cmp.Or(name, "1"), err
		}
	}
	if len(out) > 0 {
		return "refused", err
	}
	return "dropped", err
}

// smallestRotation is the same for all rotations of a sequence.
func smallestRotation(seq []string) []string {
	best := seq
	for i := range seq {
		if r := append(slices.Clone(seq[i:]), seq[:i]...); slices.Compare(r, best) < 0 {
			best = r
		}
	}
	return best
}
