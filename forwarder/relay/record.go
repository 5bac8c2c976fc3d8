package relay

import "sync"

// recordLimit is how many bytes of a client are kept to be sent again, in bytes. One that sends more before any answer
// comes back cannot be given another attempt.
const recordLimit = 64 << 10

// record is what a client has sent before the far end answered, and how much of it was sent on in this attempt.
type record struct {
	mu      sync.Mutex
	bytes   []byte
	written int
	sent    bool // the client has sent something
	eof     bool // the client has sent its end
	tooMuch bool // more than is kept
	closed  bool // nothing is kept any more: an answer came
}

// keep takes bytes in; false if they are not kept and are to be sent on directly. Everything kept before has been
// sent on by then.
func (r *record) keep(b []byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent = true
	if !r.closed && !r.tooMuch && len(r.bytes)+len(b) <= recordLimit {
		r.bytes = append(r.bytes, b...)
		return true
	}
	if !r.closed {
		r.tooMuch = true
	}
	r.bytes, r.written = nil, 0
	return false
}

func (r *record) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.eof = true
}

// pending is what is kept and not sent on yet, whether the client's end comes after it, and whether later bytes are
// still kept.
func (r *record) pending() (bytes []byte, eof, keeping bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bytes[r.written:], r.eof, !r.closed && !r.tooMuch
}

// wrote says that n more bytes were sent on.
func (r *record) wrote(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.written += n
	r.release()
}

// close ends the keeping; what was not sent on yet is kept until it is.
func (r *record) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.release()
}

func (r *record) release() {
	if r.closed && r.written == len(r.bytes) {
		r.bytes, r.written = nil, 0
	}
}

// rewind makes everything be sent again, to another connection.
func (r *record) rewind() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.written = 0
}

// state is whether the client has sent anything (its end is not a thing), and whether all of it can be sent again.
func (r *record) state() (sent, whole bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sent, !r.tooMuch
}
