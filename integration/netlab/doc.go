// Package netlab is a lab of kernels: a client, servers and a director in network namespaces of their own, joined by veth pairs and
// bridges, all made by this process without any other program.
//
// It exists on Linux only; elsewhere New returns an error that says so.
package netlab

// mtu is what every link carries, in bytes of L3.
const mtu = 1500
