package flow

import "tapdirector/stack"

// SCTP states, as Linux's IPVS has them.
//
// They are those of RFC 9260 section 4, seen from between the ends, so for each end its own: the client of a NAT service that sends INIT, INIT ACK,
// COOKIE ECHO, COOKIE ACK takes the director through INIT1, C-SENT, C-REPLIED, ESTABLISHED. What a packet means is its first chunk, or an ABORT behind a
// COOKIE ECHO or COOKIE ACK (stack.Packet.Event); a SACK, a HEARTBEAT and what is not known count as data. Only ESTABLISHED is active.

// sctpEvent is what an SCTP packet means to the tables.
type sctpEvent uint8

const (
	evData sctpEvent = iota // and whatever has no row
	evInit
	evInitAck
	evCookieEcho
	evCookieAck
	evShutdown
	evShutdownAck
	evShutdownComplete
	evError
	evAbort
	numSCTPEvents
)

// sctpEvents gives the event of every chunk type.
var sctpEvents = [256]sctpEvent{
	stack.ChunkInit: evInit, stack.ChunkInitAck: evInitAck, stack.ChunkCookieEcho: evCookieEcho, stack.ChunkCookieAck: evCookieAck,
	stack.ChunkShutdown: evShutdown, stack.ChunkShutdownAck: evShutdownAck, stack.ChunkShutdownComplete: evShutdownComplete,
	stack.ChunkError: evError, stack.ChunkAbort: evAbort,
}

// The states by the two letters of the tables; no and es are other ones in TCP's.
const (
	nO = SCTPNone
	i1 = SCTPInit1
	in = SCTPInit
	cs = SCTPCookieSent
	cr = SCTPCookieReplied
	ck = SCTPCookieWait
	co = SCTPCookie
	ce = SCTPCookieEchoed
	eS = SCTPEstablished
	st = SCTPShutdownSent
	sv = SCTPShutdownReceived
	sk = SCTPShutdownAckSent
	rj = SCTPRejected
	cd = SCTPClosed
)

// sctpNext is view, event, current state - SCTPNone -> new state. The places behind SCTPClosed are never used.
var sctpNext = [numViews][numSCTPEvents][16]State{
	input: {
		//                   nO  i1  in  cs  cr  ck  co  ce  eS  st  sv  sk  rj  cd
		evData:             {eS, i1, in, cs, cr, ck, co, ce, eS, st, sv, sk, rj, cd},
		evInit:             {i1, in, in, cs, cr, ck, co, ce, eS, st, sv, sk, in, in},
		evInitAck:          {ck, ck, ck, cs, cr, co, co, ce, eS, st, sv, sk, rj, cd},
		evCookieEcho:       {cr, in, in, cr, cr, ck, co, ce, eS, st, sv, sk, rj, cd},
		evCookieAck:        {eS, i1, in, cs, cr, ck, co, eS, eS, st, sv, sk, rj, cd},
		evShutdown:         {sv, i1, in, cs, cr, ck, co, ce, sv, st, sv, sk, rj, cd},
		evShutdownAck:      {cd, in, in, cs, cr, ck, co, ce, eS, cd, sv, cd, rj, cd},
		evShutdownComplete: {cd, cd, cd, cs, cr, ck, co, ce, eS, st, sv, cd, rj, cd},
		evError:            {cd, i1, in, cs, cr, ck, co, cd, eS, st, sv, sk, rj, cd},
		evAbort:            {cd, cd, cd, cd, cd, rj, cd, cd, cd, cd, cd, cd, cd, cd},
	},
	output: {
		evData:             {eS, i1, in, cs, cr, ck, co, ce, eS, st, sv, sk, rj, cd},
		evInit:             {ck, ck, ck, ck, ck, ck, ck, ck, eS, ck, ck, ck, ck, ck},
		evInitAck:          {cs, cs, cs, cs, cr, ck, co, ce, eS, st, sv, sk, rj, cd},
		evCookieEcho:       {ce, ce, ce, ce, ce, ce, ce, ce, eS, st, sv, sk, rj, cd},
		evCookieAck:        {eS, eS, eS, eS, eS, eS, eS, eS, eS, st, sv, sk, rj, cd},
		evShutdown:         {st, st, st, st, st, st, st, st, st, st, sv, sk, rj, cd},
		evShutdownAck:      {sk, sk, sk, sk, sk, ck, co, ce, eS, sk, sk, sk, rj, cd},
		evShutdownComplete: {cd, i1, in, cs, cr, ck, co, ce, eS, st, sv, sk, rj, cd},
		evError:            {cd, cd, cd, cd, cd, ck, co, ce, eS, st, sv, sk, rj, cd},
		evAbort:            {cd, rj, cd, cd, cd, cd, cd, cd, cd, cd, cd, cd, cd, cd},
	},
	inputOnly: {
		evData:             {eS, i1, in, cs, cr, eS, co, ce, eS, st, sv, sk, rj, cd},
		evInit:             {i1, in, in, in, in, in, co, ce, eS, st, sv, sk, in, in},
		evInitAck:          {ce, ce, ce, ce, ce, ce, co, ce, eS, st, sv, sk, rj, cd},
		evCookieEcho:       {eS, eS, eS, eS, eS, eS, co, ce, eS, st, sv, sk, rj, cd},
		evCookieAck:        {eS, i1, in, eS, eS, ck, eS, eS, eS, st, sv, sk, rj, cd},
		evShutdown:         {sv, i1, in, cs, cr, ck, co, ce, sv, st, sv, sk, rj, cd},
		evShutdownAck:      {cd, in, in, cs, cr, ck, co, ce, cd, cd, sv, cd, rj, cd},
		evShutdownComplete: {cd, cd, cd, cd, cd, ck, co, ce, eS, st, cd, cd, rj, cd},
		evError:            {cd, i1, in, cs, cr, ck, co, ce, eS, st, sv, sk, rj, cd},
		evAbort:            {cd, cd, cd, cd, cd, rj, cd, cd, cd, cd, cd, cd, cd, cd},
	},
}
