package relay

import (
	"maps"
	"net"
	"slices"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/wait"
)

// pendingConn is an upstream connection of which the tunnel may still report that it did not reach its server: from the
// dial until a byte comes back, and for the report window after an end before that.
type pendingConn struct {
	conn             net.Conn // nil during the dial
	endedAt          time.Time
	ownRefusal       *forwarder.Refusal // certainly about this connection
	ambiguousRefusal *forwarder.Refusal // the last one that may be about this connection
	ambiguousAt      time.Time          // when ambiguousRefusal was reported
	refusalReceived  wait.Broadcast
}

// pendingConns are the pending connections of one tunnel. They find the connection that a refusal is about. The relay's mu
// guards them.
type pendingConns struct {
	reportWindow time.Duration // how long after a connection's end a refusal of it may arrive
	open         map[*pendingConn]struct{}
	ended        []*pendingConn      // in the order of endedAt
	dialing      int                 // how many of the open ones are in a dial
	unassigned   []forwarder.Refusal // they name a connection that no dial has returned yet
}

func newPendingConns(reportWindow time.Duration) *pendingConns {
	return &pendingConns{reportWindow: reportWindow, open: map[*pendingConn]struct{}{}}
}

// add adds a connection. It is called before the dial.
func (ps *pendingConns) add() *pendingConn {
	p := &pendingConn{}
	ps.open[p] = struct{}{}
	ps.dialing++
	return p
}

// setConn sets the connection that the dial returned. The tunnel may have reported a refusal of it before.
func (ps *pendingConns) setConn(p *pendingConn, conn net.Conn) {
	p.conn = conn
	for _, refusal := range ps.unassigned {
		if refusal.Conn == conn {
			ps.setOwnRefusal(p, refusal)
		}
	}
	ps.endDial()
}

// recordDialError records that a dial returned an error. If that was a refusal, no other will follow. A dial that was
// canceled or failed otherwise may have reached the tunnel's program, which may still report a refusal.
func (ps *pendingConns) recordDialError(p *pendingConn, isRefusal bool, now time.Time) {
	ps.endDial()
	if isRefusal {
		ps.remove(p)
		return
	}
	ps.markEnded(p, now)
}

func (ps *pendingConns) endDial() {
	if ps.dialing--; ps.dialing == 0 {
		ps.unassigned = nil
	}
}

// markEnded records that the connection was ended, by either side, before a byte came back.
func (ps *pendingConns) markEnded(p *pendingConn, now time.Time) {
	ps.pruneEnded(now)
	if _, ok := ps.open[p]; ok {
		delete(ps.open, p)
		p.endedAt = now
		ps.ended = append(ps.ended, p)
	}
}

// remove removes a connection of which no refusal is expected any more: a byte came back, or its end is explained.
func (ps *pendingConns) remove(p *pendingConn) {
	if _, ok := ps.open[p]; ok {
		delete(ps.open, p)
		return
	}
	ps.ended = slices.DeleteFunc(ps.ended, func(other *pendingConn) bool { return other == p })
}

// pruneEnded removes the connections that ended longer than reportWindow ago.
func (ps *pendingConns) pruneEnded(now time.Time) {
	for len(ps.ended) > 0 && now.Sub(ps.ended[0].endedAt) > ps.reportWindow {
		ps.ended = ps.ended[1:]
	}
}

// assignRefusal gives a refusal to the connection that it is about. One that names no connection is certain only if it is
// of a failed connect and exactly one connection is pending: a failed read or write may be about a connection that was
// confirmed long ago. Otherwise it is ambiguous, and all pending connections get it.
func (ps *pendingConns) assignRefusal(refusal forwarder.Refusal, now time.Time) {
	ps.pruneEnded(now)
	all := ps.all()
	switch {
	case refusal.Conn != nil:
		ps.assignToConn(all, refusal)
	case refusal.IsConnectFailure && len(all) == 1:
		ps.setOwnRefusal(all[0], refusal)
	default:
		for _, p := range all {
			p.ambiguousRefusal, p.ambiguousAt = &refusal, now
			p.refusalReceived.Announce()
		}
	}
}

func (ps *pendingConns) assignToConn(all []*pendingConn, refusal forwarder.Refusal) {
	for _, p := range all {
		if p.conn == refusal.Conn {
			ps.setOwnRefusal(p, refusal)
			return
		}
	}
	const maxUnassigned = 1024 // far more than are dialed at once
	if ps.dialing > 0 && len(ps.unassigned) < maxUnassigned {
		ps.unassigned = append(ps.unassigned, refusal)
	}
}

func (ps *pendingConns) all() []*pendingConn {
	return append(slices.Collect(maps.Keys(ps.open)), ps.ended...)
}

func (ps *pendingConns) setOwnRefusal(p *pendingConn, refusal forwarder.Refusal) {
	p.ownRefusal = &refusal
	ps.remove(p)
	p.refusalReceived.Announce()
}

// endReport is what is known about the end of a pending connection.
type endReport struct {
	ownRefusal       *forwarder.Refusal
	ambiguousRefusal *forwarder.Refusal // if it was not reported longer than reportWindow before the end
	isTunnelDone     bool
}

// endReport returns what is known so far, and a channel that is closed when there is more.
func (p *pendingConn) endReport(reportWindow time.Duration) (endReport, <-chan struct{}) {
	report := endReport{ownRefusal: p.ownRefusal}
	if p.ambiguousRefusal != nil && p.endedAt.Sub(p.ambiguousAt) <= reportWindow {
		report.ambiguousRefusal = p.ambiguousRefusal
	}
	return report, p.refusalReceived.Changed()
}

// awaitEndReport waits until the tunnel has explained the end of a pending connection, for at most the report window. The
// wait ends early with the connection's own refusal, the tunnel's end, or abandonedCh, and with an ambiguous refusal if
// the caller accepts one.
func (r *Relay) awaitEndReport(ts *tunnelState, p *pendingConn, acceptsAmbiguous bool, abandonedCh <-chan struct{}) endReport {
	timer := time.NewTimer(r.timing.reportWindow)
	defer timer.Stop()
	isWaiting := true
	for {
		report, changedCh := r.readEndReport(ts, p)
		if report.ownRefusal != nil || report.isTunnelDone || acceptsAmbiguous && report.ambiguousRefusal != nil || !isWaiting {
			return report
		}
		select {
		case <-changedCh:
		case <-ts.doneCh:
		case <-timer.C:
			isWaiting = false
		case <-abandonedCh:
			isWaiting = false
		}
	}
}

func (r *Relay) readEndReport(ts *tunnelState, p *pendingConn) (endReport, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	report, changedCh := p.endReport(r.timing.reportWindow)
	report.isTunnelDone = ts.isDone()
	return report, changedCh
}
