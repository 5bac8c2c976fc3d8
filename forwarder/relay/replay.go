package relay

import (
	"net"
	"time"

	"github.com/localport-sh/localport/forwarder"
)

// replayBuffer holds what a client has sent while it may have to be sent again through another connection.
type replayBuffer struct {
	bytes         []byte
	hasOverflowed bool // the client has sent more than maxReplayBytes: bytes is nil
	hasEOF        bool // the client has closed its sending side
}

// maxReplayBytes is the size of a client's replay buffer. A client that has sent more cannot get another connection.
const maxReplayBytes = 64 << 10

func (r *replayBuffer) add(b []byte) {
	switch {
	case r.hasOverflowed:
	case len(r.bytes)+len(b) > maxReplayBytes:
		r.bytes, r.hasOverflowed = nil, true
	default:
		r.bytes = append(r.bytes, b...)
	}
}

// runClientSide copies what the client sends to the upstream, and into the replay buffer until the connection is
// established. It returns when the attempt has failed or the client is closed.
func (a *attempt) runClientSide() {
	for {
		switch a.nextStep() {
		case stepReturn:
			return
		case stepWatch:
			a.applyOutcome(readOutcome(awaitSocketError(a.client.rawConn)))
		case stepReplay:
			a.applyOutcome(a.replayBytes())
		case stepCloseWrite:
			a.closeUpstreamWrite()
		case stepRecord:
			a.applyOutcome(a.recordAndSend())
		case stepCopy:
			a.applyOutcome(a.toUpstream.run())
		}
	}
}

// step is what the client side does next.
type step int

const (
	stepReturn     step = iota // the attempt has failed or the client is closed
	stepWatch                  // read nothing; only wait for the client's reset or an interrupt
	stepReplay                 // send the part of the replay buffer that this attempt has not sent
	stepCloseWrite             // pass on the client's half-close
	stepRecord                 // copy to the upstream and into the replay buffer
	stepCopy                   // copy to the upstream only
)

func (a *attempt) nextStep() step {
	c := a.client
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.isClosed || a.phase == phaseFailed:
		return stepReturn
	case a.phase == phaseDialing || a.phase == phaseAwaitingReport || a.hasEnded[fromClient]:
		return stepWatch
	case a.sentBytes < len(c.replay.bytes):
		return stepReplay
	case c.replay.hasEOF:
		return stepCloseWrite
	case a.phase == phaseEstablished:
		c.replay.bytes = nil
		a.sentBytes = 0
		return stepCopy
	}
	return stepRecord
}

// applyOutcome does what follows from the outcome of a step.
func (a *attempt) applyOutcome(o outcome) {
	c := a.client
	switch o {
	case outcomeInterrupted:
		c.clearInterrupt()
	case outcomeEOF:
		c.mu.Lock()
		c.replay.hasEOF = true
		c.mu.Unlock()
	case outcomeWriteFailed:
		a.endDirection(fromClient, true)
	case outcomeReset:
		c.close(true)
		c.relay.cancelDial(c)
	}
}

// closeUpstreamWrite passes on the client's half-close.
func (a *attempt) closeUpstreamWrite() {
	if _, isTCP := a.upstream.(*net.TCPConn); !isTCP || !a.isClosedByEndOf(fromClient) {
		a.isUpstreamWriteClosed.Store(true)
		closeWrite(a.upstream, a.toClient.rawSrc)
	}
	a.endDirection(fromClient, false)
}

// replayBytes sends what earlier attempts have sent without success, or what was read but not sent while this one awaited a report.
func (a *attempt) replayBytes() outcome {
	bytes, ok := a.takeUnsent(nil)
	if !ok {
		return outcomeContinue
	}
	_, err := a.upstream.Write(bytes)
	return writeOutcome(err)
}

// recordAndSend copies once from the client to the replay buffer and the upstream.
func (a *attempt) recordAndSend() outcome {
	if o := a.toUpstream.read(); o != outcomeContinue {
		return o
	}
	if _, ok := a.takeUnsent(a.toUpstream.unsent); !ok {
		a.toUpstream.releaseBuffer()
		return outcomeContinue
	}
	return a.toUpstream.write()
}

// takeUnsent adds fresh to the replay buffer, marks all of it as sent by this attempt, and returns what was not marked
// before. It is not ok if the attempt must not send now: it has ended without having sent a byte, and what happens to the
// client is decided by that.
func (a *attempt) takeUnsent(fresh []byte) (unsent []byte, ok bool) {
	c := a.client
	c.mu.Lock()
	defer c.mu.Unlock()
	if a.phase != phaseEstablished {
		c.replay.add(fresh)
	}
	if !a.mayHaveDelivered && (a.phase == phaseAwaitingReport || a.phase == phaseFailed) {
		return nil, false
	}
	a.mayHaveDelivered = true
	unsent = c.replay.bytes[min(a.sentBytes, len(c.replay.bytes)):]
	a.sentBytes = len(c.replay.bytes)
	return unsent, true
}

// confirmServer records the first byte that came back: no other attempt will be made.
func (a *attempt) confirmServer() {
	a.endRecording()
	now, r := time.Now(), a.client.relay
	r.mu.Lock()
	a.tunnelState.pendingConns.remove(a.pendingConn)
	a.pendingConn = nil
	r.confirmTunnel(a.tunnelState, now)
	r.mu.Unlock()
	r.options.OnServerReached(a.tunnelState.tunnel)
}

// endRecording makes the connection the client's last. Bytes in the replay buffer that were not sent yet are left to the
// client side.
func (a *attempt) endRecording() {
	c := a.client
	c.mu.Lock()
	defer c.mu.Unlock()
	a.phase = phaseEstablished
	if a.sentBytes == len(c.replay.bytes) {
		c.replay.bytes, a.sentBytes = nil, 0
	}
}

// resolveEarlyEnd decides what follows from an end before a byte came back. It returns true if the end is to be passed on to
// the client. mayHaveDelivered does not change meanwhile.
//
// If nothing can have been delivered, any report of the tunnel leads to another attempt. If bytes may have been delivered,
// only a failed connect does; after any other report they may be lost, and the client is reset. If a live tunnel reports
// nothing, the server has closed the connection.
func (a *attempt) resolveEarlyEnd(o outcome) bool {
	c, r := a.client, a.client.relay
	mayHaveDelivered := a.beginResolving()
	if a.tunnelState.tunnel.Acknowledges() && (mayHaveDelivered || !a.isUpstreamBroken()) {
		return a.passOnEarlyEnd(o) // it had reached its server: the tunnel has nothing to report
	}
	report := r.awaitEndReport(a.tunnelState, a.pendingConn, !mayHaveDelivered, c.closedCh)
	switch {
	case c.hasClosed():
		return false
	case report.ownRefusal == nil && report.ambiguousRefusal == nil && !report.isTunnelDone:
		return a.passOnEarlyEnd(o)
	case mayHaveDelivered && (report.ownRefusal == nil || !report.ownRefusal.IsConnectFailure || !c.canReplay()):
		c.close(true)
		return false
	}
	r.recordLostConn(a, mayHaveDelivered, !report.isTunnelDone)
	a.fail()
	return false
}

// isUpstreamBroken reports whether a stream has ended without the far end's intent.
func (a *attempt) isUpstreamBroken() bool {
	stream, ok := a.upstream.(forwarder.Stream)
	return ok && stream.IsBroken()
}

// passOnEarlyEnd makes the early end the client's own. It always returns true.
func (a *attempt) passOnEarlyEnd(o outcome) bool {
	a.endRecording()
	a.client.relay.recordAcceptedEnd(a)
	if o == outcomeEOF {
		a.client.interruptRead()
	}
	return true
}

// beginResolving records that the connection has ended before a byte came back.
func (a *attempt) beginResolving() (mayHaveDelivered bool) {
	c, r, now := a.client, a.client.relay, time.Now()
	r.mu.Lock()
	a.tunnelState.pendingConns.markEnded(a.pendingConn, now)
	a.tunnelState.recordEarlyEnd(c)
	r.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	a.phase = phaseAwaitingReport
	return a.mayHaveDelivered
}

// recordAcceptedEnd records that the server ended the connection: the tunnel works.
func (r *Relay) recordAcceptedEnd(a *attempt) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	a.tunnelState.pendingConns.remove(a.pendingConn)
	r.confirmTunnel(a.tunnelState, now)
}

// recordLostConn records that a connection was lost and is attempted again, because of a refusal or the tunnel's end.
func (r *Relay) recordLostConn(a *attempt, mayHaveDelivered, isRefused bool) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	a.tunnelState.pendingConns.remove(a.pendingConn)
	if isRefused {
		a.tunnelState.recordRefusal(a.client, now)
	} else {
		// The tunnel has ended. The time while the client was connected does not count as waiting for a connection.
		a.client.connectDeadline = a.client.connectDeadline.Add(now.Sub(a.connectedAt))
	}
	if mayHaveDelivered {
		r.counters.replays++
	}
}
