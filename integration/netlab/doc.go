// Package netlab is a world of kernels: a client, servers and a director in network namespaces of their own, joined by veth pairs and
// bridges, all made by this process without any other program.
//
// It exists on Linux only: elsewhere the package is empty.
package netlab
