package relay

import (
	"time"

	"github.com/localport-sh/localport/forwarder"
)

// record is what a client has sent, as long as it may have to be sent again.
type record struct {
	bytes []byte
	lost  bool // there was more than is kept
	ended bool // the client has sent its last
}

// recorded is how many bytes of a client are recorded; they cannot be sent again once there were more.
const recorded = 64 << 10

func (r *record) add(b []byte) {
	switch {
	case r.lost:
	case len(r.bytes)+len(b) > recorded:
		r.bytes, r.lost = nil, true
	default:
		r.bytes = append(r.bytes, b...)
	}
}

// near is the near side: it carries what the client sends, recording it at first, until the attempt or the client is
// over.
func (a *attempt) near() {
	for {
		switch a.next() {
		case leave:
			return
		case hold:
			a.heed(sourceless(watch(a.client.raw)))
		case replay:
			a.heed(a.replay())
		case finish:
			a.finish()
		case note:
			a.heed(a.note())
		case carry:
			a.heed(a.forth.run())
		}
	}
}

// step is what the near side does next.
type step int

const (
	leave  step = iota // the attempt is over
	hold               // take nothing from the client; only see it leave
	replay             // send what is recorded and this attempt has not sent
	finish             // send the end that the client has sent
	note               // record what the client sends, and send it
	carry              // copy
)

func (a *attempt) next() step {
	c := a.client
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.over || a.stage == failed:
		return leave
	case a.stage == dialling || a.stage == judging || a.ended[near]:
		return hold
	case a.sent < len(c.sent.bytes):
		return replay
	case c.sent.ended:
		return finish
	case a.stage == settled:
		c.sent.bytes = nil
		a.sent = 0
		return carry
	}
	return note
}

// heed does what the outcome of a step asks for.
func (a *attempt) heed(o outcome) {
	c := a.client
	switch o {
	case woken:
		c.unwake()
	case drained:
		c.mu.Lock()
		c.sent.ended = true
		c.mu.Unlock()
	case blocked:
		a.half(near, true)
	case broken:
		c.end(true)
		c.relay.cancelDial(c)
	}
}

// finish passes the end of what the client sends on.
func (a *attempt) finish() {
	_ = a.up.CloseWrite()
	a.half(near, false)
}

// replay sends what earlier attempts have sent in vain, or what came while this one was being judged.
func (a *attempt) replay() outcome {
	bytes, ok := a.expose(nil)
	if !ok {
		return more
	}
	_, err := a.up.Write(bytes)
	return destinationless(err)
}

// note records what the client sends and sends it on.
func (a *attempt) note() outcome {
	if o := a.forth.read(); o != more {
		return o
	}
	if _, ok := a.expose(a.forth.buf[:a.forth.n]); !ok {
		a.forth.drop()
		return more
	}
	return a.forth.write()
}

// expose records bytes and marks everything recorded as sent by this attempt; it returns what was not before. It is not
// ok when the attempt must not send its first byte now, because it has ended and is being judged by whether it did.
func (a *attempt) expose(fresh []byte) (unsent []byte, ok bool) {
	c := a.client
	c.mu.Lock()
	defer c.mu.Unlock()
	if a.stage != settled {
		c.sent.add(fresh)
	}
	if !a.exposed && (a.stage == judging || a.stage == failed) {
		return nil, false
	}
	a.exposed = true
	unsent = c.sent.bytes[min(a.sent, len(c.sent.bytes)):]
	a.sent = len(c.sent.bytes)
	return unsent, true
}

// land notes the first byte that came back: this is the connection that the client gets.
func (a *attempt) land() {
	a.settle()
	now, r := time.Now(), a.client.relay
	r.mu.Lock()
	a.link.flights.land(a.flight)
	a.flight = nil
	r.prove(a.link, now)
	r.mu.Unlock()
	r.options.OnProof(a.link.tunnel)
}

// settle ends the recording. What is recorded but not sent is left to the near side.
func (a *attempt) settle() {
	c := a.client
	c.mu.Lock()
	defer c.mu.Unlock()
	a.stage = settled
	if a.sent == len(c.sent.bytes) {
		c.sent.bytes, a.sent = nil, 0
	}
}

// judge decides what becomes of a connection that ended before a byte came back: true when that end is the client's
// too. Whether a byte was sent does not change meanwhile.
//
// A connection that cannot have delivered anything is always tried again where the tunnel reports anything at all. One
// that was sent bytes is tried again only if its connect is known to have failed; where it is known to be lost, but not
// how, the client has to be told, by a reset. And where a live tunnel has nothing to say the far end has closed.
func (a *attempt) judge(o outcome) bool {
	c, r := a.client, a.client.relay
	exposed := a.fell()
	if a.link.tunnel.Acknowledges() && (exposed || !a.broken()) {
		return a.spare(o) // it had arrived: there is nothing that the tunnel could say
	}
	w := r.hear(a.link, a.flight, !exposed, c.gone)
	switch {
	case c.left():
		return false
	case w.own == nil && w.vague == nil && !w.over:
		return a.spare(o)
	case exposed && (w.own == nil || !w.own.Connect || !c.replayable()):
		c.end(true)
		return false
	}
	r.lost(a, exposed, !w.over)
	a.fail()
	return false
}

// broken reports whether the end is none that the far end meant.
func (a *attempt) broken() bool {
	up, ok := a.up.(forwarder.Stream)
	return ok && up.Broken()
}

// spare makes the early end the client's own.
func (a *attempt) spare(o outcome) bool {
	a.settle()
	a.client.relay.spared(a)
	if o == drained {
		a.client.wake()
	}
	return true
}

// fell notes that the connection has ended with no byte back.
func (a *attempt) fell() (exposed bool) {
	c, r, now := a.client, a.client.relay, time.Now()
	r.mu.Lock()
	a.link.flights.end(a.flight, now)
	a.link.falls(c)
	r.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	a.stage = judging
	return a.exposed
}

// spared notes that nothing was said against a connection: the tunnel is well.
func (r *Relay) spared(a *attempt) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	a.link.flights.land(a.flight)
	r.prove(a.link, now)
}

// lost notes that a connection is to be had anew, because of a report or the tunnel's end.
func (r *Relay) lost(a *attempt, exposed, reported bool) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	a.link.flights.land(a.flight)
	if reported {
		a.link.doubt(a.client, now)
	} else {
		// Its tunnel has ended. The time that the client spent with a connection was not spent waiting for one.
		a.client.deadline = a.client.deadline.Add(now.Sub(a.connected))
	}
	if exposed {
		r.figures.replays++
	}
}
