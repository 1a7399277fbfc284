//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "conformance: user-mode Linux runs on Linux only")
	os.Exit(1)
}
