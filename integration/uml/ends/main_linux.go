// Command ends is what runs in a guest: the servers of integration/app over TCP, UDP and SCTP, and a client for the protocol that the host's kernel may
// not have.
//
//	ends serve NAME NETWORK ADDRESS...           answer at each address until killed; prints "serving" when all listen
//	ends talk NETWORK ADDRESS BYTES...           for each three: ask who is there, send and fetch that many bytes; prints the answers
//
//	ends hold NETWORK ADDRESS                    ask who is there, print the answer, and keep the connection open until SIGTERM
//
// A network is tcp, udp or sctp. It is for Linux only, and linked statically: a guest's root is the host's, but that is nothing to rely on.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"tapdirector/integration/app"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "ends:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("usage: ends serve NAME NETWORK ADDRESS... | ends talk NETWORK ADDRESS BYTES... | ends hold NETWORK ADDRESS")

func run(args []string) error {
	switch {
	case len(args) >= 4 && args[0] == "serve":
		return serve(args[1], args[2], args[3:])
	case len(args) == 3 && args[0] == "hold":
		return hold(args[1], args[2])
	case len(args) >= 4 && len(args)%3 == 1 && args[0] == "talk":
		for i := 1; i < len(args); i += 3 {
			n, err := strconv.ParseInt(args[i+2], 10, 64)
			if err == nil {
				err = talk(args[i], args[i+1], n, uint64(i))
			}
			if err != nil {
				return fmt.Errorf("%s %s: %w", args[i], args[i+1], err)
			}
		}
		return nil
	}
	return errUsage
}

// hold is a client that stays.
func hold(network, at string) error {
	conn, err := dial(network, at)
	if err != nil {
		return err
	}
	defer conn.Close()
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM)
	if err := say(app.NewClient(conn, waitLimit).Who()); err != nil {
		return err
	}
	<-told
	return nil
}

// serve answers at every address.
func serve(name, network string, addresses []string) error {
	s := &app.Server{Name: name}
	ended := make(chan error)
	for _, at := range addresses {
		task, err := listen(s, network, at)
		if err != nil {
			return fmt.Errorf("%s %s: %w", network, at, err)
		}
		go func() { ended <- task() }()
	}
	fmt.Println("serving")
	return <-ended
}

// listen opens what one address needs and returns what is to run there.
func listen(s *app.Server, network, at string) (task func() error, err error) {
	if network == "udp" {
		c, err := net.ListenPacket(network, at)
		return func() error { return s.ServePacket(context.Background(), c) }, err
	}
	var l net.Listener
	if network == "sctp" {
		l, err = listenSCTP(at)
	} else {
		l, err = net.Listen(network, at)
	}
	return func() error { return s.Serve(context.Background(), l) }, err
}

// waitLimit bounds each wait of a client.
const waitLimit = 30 * time.Second

// talk is a client with one connection.
func talk(network, at string, n int64, seed uint64) error {
	conn, err := dial(network, at)
	if err != nil {
		return err
	}
	defer conn.Close()
	if network == "udp" {
		a, err := app.Ask(conn, seed, make([]byte, n), int(n), waitLimit)
		return say(a, err)
	}
	c := app.NewClient(conn, waitLimit)
	first, err := c.Who()
	if err == nil {
		_, err = c.Sink(n, seed)
	}
	if err == nil {
		_, err = c.Source(n, seed+1)
	}
	return say(first, err)
}

func dial(network, at string) (net.Conn, error) {
	if network == "sctp" {
		return dialSCTP(netip.ParseAddrPort(at))
	}
	return net.DialTimeout(network, at, waitLimit)
}

func say(a app.Answer, err error) error {
	if err == nil {
		fmt.Println(a.Server, a.Remote)
	}
	return err
}
