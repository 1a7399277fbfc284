package conf

import "time"

// SCTPTimeouts are those of SCTP's states, named as ipvsadm prints them; SCTP itself is ESTABLISHED.
type SCTPTimeouts struct {
	SCTP                 time.Duration
	SCTPNone             time.Duration
	SCTPInit1            time.Duration
	SCTPInit             time.Duration
	SCTPCookieSent       time.Duration // C-SENT
	SCTPCookieReplied    time.Duration // C-REPLIED
	SCTPCookieWait       time.Duration // C-WAIT
	SCTPCookie           time.Duration
	SCTPCookieEchoed     time.Duration // C-ECHOED
	SCTPShutdownSent     time.Duration // S-SENT
	SCTPShutdownReceived time.Duration // S-RECEIVED
	SCTPShutdownAckSent  time.Duration // S-ACK-SENT
	SCTPRejected         time.Duration
	SCTPClosed           time.Duration
}

// readSCTPTimeouts reads those of [timeouts]; the defaults are IPVS's.
func (s *section) readSCTPTimeouts() SCTPTimeouts {
	const wait = 61 * time.Second // a second more than RTO.Max
	return SCTPTimeouts{
		SCTP:                 s.duration("sctp", 900*time.Second),
		SCTPNone:             s.duration("sctp_none", 2*time.Second),
		SCTPInit1:            s.duration("sctp_init1", 4*time.Second),
		SCTPInit:             s.duration("sctp_init", wait),
		SCTPCookieSent:       s.duration("sctp_cookie_sent", wait),
		SCTPCookieReplied:    s.duration("sctp_cookie_replied", wait),
		SCTPCookieWait:       s.duration("sctp_cookie_wait", wait),
		SCTPCookie:           s.duration("sctp_cookie", wait),
		SCTPCookieEchoed:     s.duration("sctp_cookie_echoed", wait),
		SCTPShutdownSent:     s.duration("sctp_shutdown_sent", wait),
		SCTPShutdownReceived: s.duration("sctp_shutdown_received", wait),
		SCTPShutdownAckSent:  s.duration("sctp_shutdown_ack_sent", wait),
		SCTPRejected:         s.duration("sctp_rejected", 4*time.Second),
		SCTPClosed:           s.duration("sctp_closed", wait),
	}
}

// timeoutRow is a line of Table.
type timeoutRow struct {
	key string
	d   time.Duration
}

func (t *SCTPTimeouts) rows() []timeoutRow {
	return []timeoutRow{
		{"sctp", t.SCTP}, {"sctp_none", t.SCTPNone}, {"sctp_init1", t.SCTPInit1}, {"sctp_init", t.SCTPInit}, {"sctp_cookie_sent", t.SCTPCookieSent},
		{"sctp_cookie_replied", t.SCTPCookieReplied}, {"sctp_cookie_wait", t.SCTPCookieWait}, {"sctp_cookie", t.SCTPCookie},
		{"sctp_cookie_echoed", t.SCTPCookieEchoed}, {"sctp_shutdown_sent", t.SCTPShutdownSent}, {"sctp_shutdown_received", t.SCTPShutdownReceived},
		{"sctp_shutdown_ack_sent", t.SCTPShutdownAckSent}, {"sctp_rejected", t.SCTPRejected}, {"sctp_closed", t.SCTPClosed},
	}
}
