package mux

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// Stream is a channel that was opened here. It is a forwarder.Stream.
type Stream struct {
	conn   *Conn
	id     uint32
	opened chan struct{} // closed when it is known whether it was

	mu   sync.Mutex
	cond sync.Cond

	// What comes.
	queue  []*piece
	lent   *piece // to who called Next
	unread []byte // of lent, for Read
	window int    // what the far side may send still
	size   int    // what the window is filled up to
	taken  int    // bytes passed on that the far side has not heard of
	ended  bool   // the far side has said that no more comes
	gone   bool   // the far side has let go of the channel
	err    error  // why it was not opened, or broke

	// What goes.
	remote   uint32 // the far side's number of the channel
	room     int    // what may be sent still
	most     int    // at once
	pace     pace
	halved   bool // the far side was told that nothing more is sent; guarded by the connection's writing, as is
	silent   bool // it was told that we have let go
	finished bool // nothing more is sent
	left     bool // Close was called
	severed  bool // Break was
	released bool // the far side was told that we have let go

	deadline time.Time
	alarm    *time.Timer
}

func newStream(c *Conn) *Stream {
	s := &Stream{conn: c, opened: make(chan struct{}), window: firstWindow, size: firstWindow, pace: pace{limit: firstFlight}}
	s.cond.L = &s.mu
	return s
}

// decided reports whether it is known if the stream was opened. s.mu is held.
func (s *Stream) decided() bool {
	select {
	case <-s.opened:
		return true
	default:
		return false
	}
}

func (s *Stream) verdict() (*Stream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	return s, nil
}

func (s *Stream) far() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.remote
}

// send sends a message of a kind, and what it says besides the channel.
func (s *Stream) send(kind byte, words []byte) error {
	return s.conn.send(s, kind, net.Buffers{message(kind, append(number(nil, s.far()), words...))})
}

// confirm notes that the far side has connected. Nobody may want the stream any more.
func (s *Stream) confirm(remote uint32, room, most int) {
	s.mu.Lock()
	if s.decided() {
		s.mu.Unlock()
		return
	}
	s.remote, s.room, s.most = remote, room, max(1, min(most, maxData))
	close(s.opened)
	s.mu.Unlock()
	s.release()
}

func (s *Stream) refuse(r *Refused) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.decided() {
		return
	}
	s.err = r
	close(s.opened)
	s.conn.forget(s)
}

// fail ends the stream with its connection.
func (s *Stream) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
	if !s.decided() {
		close(s.opened)
	}
	s.gone = true
	s.cond.Broadcast()
}

// put takes bytes that have come. An error is the far side's, which sends more than it may.
func (s *Stream) put(bytes []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.window -= len(bytes); s.window < 0 {
		return errors.New("the far side sent more than the channel's window")
	}
	if s.left || s.severed || s.ended || len(bytes) == 0 {
		return nil
	}
	last := len(s.queue) - 1
	if last < 0 || !s.queue[last].fits(len(bytes)) {
		s.queue = append(s.queue, takePiece(len(bytes), last >= 0))
		last++
	}
	s.queue[last].bytes = append(s.queue[last].bytes, bytes...)
	s.cond.Broadcast()
	return nil
}

func (s *Stream) widen(by int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.room += by
	s.pace.arrived(by, time.Now())
	s.cond.Broadcast()
}

func (s *Stream) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.cond.Broadcast()
}

// closed notes that the far side has let go: nothing goes or comes any more.
func (s *Stream) closed() {
	s.mu.Lock()
	if !s.ended && s.err == nil {
		s.err = io.ErrUnexpectedEOF
	}
	s.gone, s.finished = true, true
	s.cond.Broadcast()
	s.mu.Unlock()
	s.release()
}

// release tells the far side that we have let go, once both it knows of the channel and one of us has had enough.
func (s *Stream) release() {
	s.mu.Lock()
	due := (s.left || s.severed || s.gone) && s.decided() && !s.released && !errors.Is(s.err, ErrGone)
	s.released = s.released || due
	over := s.released && s.gone
	s.mu.Unlock()
	if due {
		_ = s.send(channelClose, nil)
	}
	if over {
		s.conn.forget(s)
	}
}

// Next waits for bytes and lends them until the next call. io.EOF is their end, net.ErrClosed that of the stream by Close.
func (s *Stream) Next() ([]byte, error) {
	s.mu.Lock()
	s.giveBack()
	for len(s.queue) == 0 && !s.ended && !s.over() && !s.late() {
		s.cond.Wait()
	}
	err := s.end()
	var bytes []byte
	if err == nil {
		s.lent, s.queue[0], s.queue = s.queue[0], nil, s.queue[1:]
		bytes = s.lent.bytes
		s.taken += len(bytes)
	}
	more := s.more()
	s.mu.Unlock()
	if more > 0 {
		_ = s.send(channelWindow, number(nil, uint32(more))) //nolint:gosec // at most two windows
	}
	return bytes, err
}

// end is why there are no bytes to be had, nil if there are. Whatever ended the stream, those who read see an end of file:
// Broken tells them more. s.mu is held.
func (s *Stream) end() error {
	switch {
	case s.left:
		return net.ErrClosed
	case len(s.queue) > 0:
		return nil
	case s.ended, s.over():
		return io.EOF
	}
	return os.ErrDeadlineExceeded
}

// more is by how much the window is to grow: when half of it was used up. s.mu is held.
func (s *Stream) more() int {
	if s.taken < s.size/2 || s.gone || s.ended {
		return 0
	}
	share := s.conn.windows.share(s, time.Now())
	more := s.taken
	switch {
	case s.size < share && len(s.queue) == 0:
		more += min(s.size, share-s.size)
	case s.size > share:
		more -= min(s.taken, s.size-share)
	}
	s.size += more - s.taken
	s.taken = 0
	s.window += more
	return more
}

// giveBack takes what was lent. s.mu is held.
func (s *Stream) giveBack() {
	if s.lent != nil {
		s.lent.free()
		s.lent, s.unread = nil, nil
	}
}

func (s *Stream) Read(p []byte) (int, error) {
	if len(s.unread) == 0 {
		bytes, err := s.Next()
		if err != nil {
			return 0, err
		}
		s.unread = bytes
	}
	n := copy(p, s.unread)
	s.unread = s.unread[n:]
	return n, nil
}

// Broken reports, after the end, that the far side did not mean it. What breaks after its last byte does not matter.
func (s *Stream) Broken() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err != nil && !s.ended
}

// WaitEnd returns nil when the far side has let go of the stream altogether, or the connection that carries it has ended;
// net.ErrClosed after Close.
func (s *Stream) WaitEnd() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.over() {
		s.cond.Wait()
	}
	if s.left {
		return net.ErrClosed
	}
	return nil
}

// Break ends the stream as if the far side had: to those who read and write it is broken. Close is still to be called.
func (s *Stream) Break() {
	s.mu.Lock()
	if s.err == nil {
		s.err = ErrClosed
	}
	s.severed = true
	s.cond.Broadcast()
	s.mu.Unlock()
	s.release()
}

// over reports whether nothing goes or comes any more. s.mu is held.
func (s *Stream) over() bool { return s.gone || s.left || s.severed }

// Close ends the stream in both directions; what has come and was not taken is dropped. The error is always nil.
func (s *Stream) Close() error {
	s.mu.Lock()
	s.left, s.finished = true, true
	for _, p := range s.queue {
		p.free()
	}
	s.queue = nil
	if s.alarm != nil {
		s.alarm.Stop()
	}
	s.cond.Broadcast()
	s.mu.Unlock()
	s.release()
	return nil
}

func (s *Stream) late() bool { return !s.deadline.IsZero() && !time.Now().Before(s.deadline) }

// SetDeadline is SetReadDeadline: what is written waits for the far side's window, or until Close.
func (s *Stream) SetDeadline(t time.Time) error { return s.SetReadDeadline(t) }

// SetReadDeadline ends a Read or Next at a time.
func (s *Stream) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.alarm != nil {
		s.alarm.Stop()
		s.alarm = nil
	}
	if s.deadline = t; !t.IsZero() {
		s.alarm = time.AfterFunc(time.Until(t), func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.cond.Broadcast()
		})
	}
	s.cond.Broadcast()
	return nil
}

// SetWriteDeadline does nothing.
func (s *Stream) SetWriteDeadline(time.Time) error { return nil }

// address names an end of a stream, which has none of its own.
type address string

func (address) Network() string  { return "ssh" }
func (a address) String() string { return string(a) }

// LocalAddr has no address of its own.
func (s *Stream) LocalAddr() net.Addr { return address("localport") }

// RemoteAddr has none either.
func (s *Stream) RemoteAddr() net.Addr { return address("ssh") }
