// Package uml runs guests of user-mode Linux: real kernels with what the host's may lack (ip_vs, tunnels, SCTP, 802.1Q), on TAPs of a namespace.
//
// It exists on Linux only: elsewhere the package is empty.
package uml
