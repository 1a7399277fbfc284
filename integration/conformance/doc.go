// Command conformance sends the same scripted frames to LVS and to tapdirector and compares what comes out, frame by frame.
//
// # Theory of operation
//
// LVS is the real one: Debian's user-mode-linux runs ip_vs on two TAPs, in a network namespace that this program makes and whose files it shares
// (lvs_linux.go, integration/uml), and inside it this program is what sets ip_vs up (agent_linux.go). There is one guest for each CPU; each plays
// the next case that none has played. Tapdirector runs in this process over tap.Memory, with the same MACs, addresses and routes (us.go). Both
// are a side. The rest of the LAN, clients, servers, routers, is played by a player (player.go), the same for both: it builds frames (frame.go),
// sends them, answers ARP and ND, and waits until the side has done with a frame. It knows that from a marker behind the frame: what has not left by a
// link before the marker does is not going to.
//
// What comes out is written down as text (trace.go), all of it: every header field, and a sum of the payload. The traces of a case are compared
// as text (verdict.go). So the fields that may differ are those that trace.go does not write, or writes as a word:
//
//   - the IPv4 identification of a packet that the director made itself ("own"), and its flag against fragmentation: a sender's choice (RFC 6864)
//   - the IPv6 flow label, which is 0 in every frame of a script: a sender's choice (RFC 6437)
//   - the seconds that a connection has left, written as the timeout they were counted down from
//   - frames of one step that leave by different links, whose order nobody sees
//   - what is sent in fragments, where a script has "pieces": put together again on both sides, what arrives is compared (pieces.go)
//   - the identification of a tunnel's outer packet, and GUE's source port, a hash (encap.go)
//   - where a scheduler begins its cycle, where a script says "from anywhere": LVS's place depends on the order in which its administrator typed
//
// LVS's list of servers is newest first: the servers of a script are typed in reverse.
//
// LVS's traces are kept in the folder lvs, so that go test compares us with them without LVS; make conformance boots LVS, compares with it,
// and says when what it did is not what was kept. The cases are data: see cases/README.md for the notation.
//
// Not handled: what needs minutes to pass (expiry is read from the tables), many queues, superpackets, more than one worker.
package main
