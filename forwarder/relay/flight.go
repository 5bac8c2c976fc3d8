package relay

import (
	"net"
	"slices"
	"time"

	"github.com/localport-sh/localport/forwarder"
)

// flight is a connection through a tunnel as long as the tunnel may still say that it never arrived: from the dial
// until a byte comes back, and some time beyond an end before that.
type flight struct {
	conn  net.Conn // nil while it is being dialled
	ended time.Time
	own   *forwarder.Refusal // a report that is surely about this connection
	vague *forwarder.Refusal // the last one that may be
	heard time.Time          // when the vague one came
	told  chan struct{}      // closed at the next report; nil while nobody waits
}

// flights are those of one tunnel. They tell whose a report is; the relay's lock guards them.
type flights struct {
	settle  time.Duration // how long after its end a connection may still be reported
	open    map[*flight]struct{}
	ended   []*flight // in the order of their ends
	dialled int       // of the open ones, those whose dial has not returned
	early   []forwarder.Refusal
}

func newFlights(settle time.Duration) *flights {
	return &flights{settle: settle, open: map[*flight]struct{}{}}
}

// launch begins a flight, before the dial.
func (fs *flights) launch() *flight {
	f := &flight{}
	fs.open[f] = struct{}{}
	fs.dialled++
	return f
}

// made names the connection that the dial returned. The tunnel may have reported of it already.
func (fs *flights) made(f *flight, conn net.Conn) {
	f.conn = conn
	for _, refusal := range fs.early {
		if refusal.Conn == conn {
			fs.tell(f, refusal)
		}
	}
	fs.undial()
}

// failed ends a flight whose dial returned an error. Where the tunnel refused, that was the report; a dial that failed
// otherwise, or was given up, may have got as far as the tunnel and may yet be reported.
func (fs *flights) failed(f *flight, refused bool, now time.Time) {
	fs.undial()
	if refused {
		fs.land(f)
		return
	}
	fs.end(f, now)
}

func (fs *flights) undial() {
	if fs.dialled--; fs.dialled == 0 {
		fs.early = nil
	}
}

// end notes that the connection has ended, on either side, with no byte back. It may be reported for a while.
func (fs *flights) end(f *flight, now time.Time) {
	fs.prune(now)
	if _, ok := fs.open[f]; ok {
		delete(fs.open, f)
		f.ended = now
		fs.ended = append(fs.ended, f)
	}
}

// land ends a flight about which there is nothing left to be said: a byte came back, or what became of it is known.
func (fs *flights) land(f *flight) {
	if _, ok := fs.open[f]; ok {
		delete(fs.open, f)
		return
	}
	fs.ended = slices.DeleteFunc(fs.ended, func(other *flight) bool { return other == f })
}

// prune drops those that ended too long ago for a report to come.
func (fs *flights) prune(now time.Time) {
	for len(fs.ended) > 0 && now.Sub(fs.ended[0].ended) > fs.settle {
		fs.ended = fs.ended[1:]
	}
}

// report finds out whom a refusal is about. One that names no connection is surely about the only one in flight, if
// there is only one and the report is of a failed connect; a failed read or write may be about a connection that had
// long been answered.
func (fs *flights) report(refusal forwarder.Refusal, now time.Time) {
	fs.prune(now)
	all := fs.all()
	switch {
	case refusal.Conn != nil:
		fs.named(all, refusal)
	case refusal.Connect && len(all) == 1:
		fs.tell(all[0], refusal)
	default:
		for _, f := range all {
			f.vague, f.heard = &refusal, now
			f.notify()
		}
	}
}

func (fs *flights) named(all []*flight, refusal forwarder.Refusal) {
	for _, f := range all {
		if f.conn == refusal.Conn {
			fs.tell(f, refusal)
			return
		}
	}
	const enough = 1024 // far more than are dialled at once
	if fs.dialled > 0 && len(fs.early) < enough {
		fs.early = append(fs.early, refusal)
	}
}

func (fs *flights) all() []*flight {
	all := make([]*flight, 0, len(fs.open)+len(fs.ended))
	for f := range fs.open {
		all = append(all, f)
	}
	return append(all, fs.ended...)
}

// tell gives a flight its own report.
func (fs *flights) tell(f *flight, refusal forwarder.Refusal) {
	f.own = &refusal
	fs.land(f)
	f.notify()
}

func (f *flight) notify() {
	if f.told != nil {
		close(f.told)
		f.told = nil
	}
}

// word is what is known about the end of a flight.
type word struct {
	own   *forwarder.Refusal
	vague *forwarder.Refusal // of about the time of the end
	over  bool               // the tunnel is done
}

// word is what is known so far, and a channel that is closed when more is.
func (f *flight) word(settle time.Duration) (word, <-chan struct{}) {
	if f.told == nil {
		f.told = make(chan struct{})
	}
	w := word{own: f.own}
	if f.vague != nil && f.ended.Sub(f.heard) <= settle {
		w.vague = f.vague
	}
	return w, f.told
}

// hear waits for what the tunnel says of a flight that has ended unanswered, for as long as anything may come. A hasty
// caller takes any report; otherwise only the connection's own ends the wait, or the tunnel's end. The caller has left
// when gone is closed.
func (r *Relay) hear(l *link, f *flight, hasty bool, gone <-chan struct{}) word {
	timer := time.NewTimer(r.pace.settle)
	defer timer.Stop()
	waiting := true
	for {
		w, told := r.word(l, f)
		if w.own != nil || w.over || hasty && w.vague != nil || !waiting {
			return w
		}
		select {
		case <-told:
		case <-l.over:
		case <-timer.C:
			waiting = false
		case <-gone:
			waiting = false
		}
	}
}

func (r *Relay) word(l *link, f *flight) (word, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w, told := f.word(r.pace.settle)
	w.over = l.isOver()
	return w, told
}
