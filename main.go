// Command tapdirector is a Layer-4 load balancer in user space, on TAP devices bridged to a LAN.
package main

import (
	"os"

	"tapdirector/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr)) }
