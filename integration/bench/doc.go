// Command bench puts peers in the director's place, in the lab that the tests use, and says how they compare. It is run by `make bench`, or
//
//	go run ./integration/bench [-quick] [-family 6] [-json FILE] [-svg FILE] [-markdown]
//
// and needs the right to make network namespaces and TAPs, the Go toolchain, and gcc. A peer whose program is not here is left out,
// and a measurement that fails is missing; lines below the tables say so. What -json wrote can be told again in every form, by -from.
//
// # The lab
//
// Three namespaces: client, director, server; in the middle one a bridge per LAN. Each measurement of a peer has a lab of its own,
// just built by the code the tests' worlds are built by (integration/netlab), so peers differ in nothing but what stands in the middle:
//
//	two arms   [client]--br-ext--[peer]--br-int--[server]
//	one arm    [client]--br-ext--[server], and the peer on br-ext
//
//	wire        two arms  a veth pair joins the bridges: what the lab itself costs
//	copyloop2   two arms  tap0 and tap1 copied to each other by a C program, a thread each way
//	nat         two arms  tapdirector, method nat; the server's gateway is the director
//	nat-water   two arms  the same with driver = "water", the portable one
//	lvs-nat     two arms  LVS in user-mode Linux, on the same TAPs
//	nftables    two arms  one DNAT rule in the director's namespace, whose bridges have the director's addresses
//	haproxy     two arms  HAProxy there, TCP with splice
//	copyloop1   one arm   what comes in at tap0 goes out there again, to the server's MAC
//	dr          one arm   tapdirector, method dr; the server holds the VIP on lo
//	lvs-dr      one arm   LVS in user-mode Linux, likewise
//
// The client always talks to the VIP. For nat and dr all addresses are those of package integration. With wire and copyloop2 both bridges are one
// LAN, so the server has the VIP on its link, as any host has its address. For copyloop1 the server is set up as for dr, and the client is
// told by a static neighbour entry that the VIP is at the copy loop's MAC: a copy loop answers no ARP. In both one-armed cases the server
// answers the client itself, so "down" passes the peer with acknowledgements only.
//
// The copy loop is the floor: one read and one write per frame and nothing else, on TAPs opened as tapdirector opens them. One that copies well is
// not a limit that nothing can pass: it moves frames one by one, and what moves several at once may be faster.
//
// # The order
//
// Rounds; in each, every peer once, starting with another one each time; of each peer, labs of both families, and in each every figure. What is compared has
// been measured within a minute.
//
//	figure.go peer.go aim.go        what is measured, of whom, and what is aimed at
//	options.go main.go measure.go   a run; the measurements in a lab (lab.go, standin.go)
//	million.go cost.go memory.go    those that need more than a client
//	load*.go raw*.go socket.go      the processes in the client's and the server's namespaces
//	measured.go stats.go report.go  samples become rows with ratios
//	table.go markdown.go chart.go   the report in its forms
package main
