package spdy

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"
)

// chunkSize is the most that is taken at once: what the servers of container runtimes write at once.
const chunkSize = 32 << 10

// MaxData is how much Write sends at once.
const MaxData = chunkSize

// Piece is some bytes of a stream on their way. Nobody keeps one while waiting.
type Piece struct {
	room  [headSize + chunkSize]byte
	bytes []byte
}

// Bytes are the piece's until Free.
func (p *Piece) Bytes() []byte { return p.bytes }

// Free gives the piece back.
func (p *Piece) Free() {
	p.bytes = nil
	pieces.Put(p)
}

// add takes some more bytes if all of them find room: many short messages that nobody takes are not to hold a piece each.
func (p *Piece) add(bytes []byte) bool {
	if len(bytes) > cap(p.bytes)-len(p.bytes) {
		return false
	}
	p.bytes = append(p.bytes, bytes...)
	return true
}

var pieces = sync.Pool{New: func() any { return new(Piece) }}

func takePiece() *Piece { return pieces.Get().(*Piece) }

// Stream is a stream that was opened here.
type Stream struct {
	conn     *Conn
	id       uint32
	replied  chan struct{}
	finished bool // nothing is written any more; guarded by mu

	mu    sync.Mutex
	cond  sync.Cond
	queue []*Piece
	bytes int   // in the queue
	lent  int   // of these, by the reserve
	got   int64 // altogether
	heard bool  // replied is closed
	over  error // why nothing more comes: io.EOF for a proper end
	deaf  bool  // what comes is not wanted

	deadline time.Time
	alarm    *time.Timer
}

// Replied is closed when the far side has accepted the stream, and when the stream or the connection has ended.
func (s *Stream) Replied() <-chan struct{} { return s.replied }

// Ended is why nothing more comes, nil while something may: io.EOF for a proper end.
func (s *Stream) Ended() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.over
}

// Waiting is a copy of what has come and was not taken.
func (s *Stream) Waiting() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []byte
	for _, piece := range s.queue {
		all = append(all, piece.bytes...)
	}
	return all
}

// Received is how many bytes have come, taken or not.
func (s *Stream) Received() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got
}

func (s *Stream) reply() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replyLocked()
}

func (s *Stream) replyLocked() {
	if !s.heard {
		s.heard = true
		close(s.replied)
	}
}

// put queues a piece. It is false when the queue is full; a patient caller waits.
func (s *Stream) put(piece *Piece, patient bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.bytes >= s.conn.budget && !s.deaf && s.over == nil && !s.borrow(len(piece.bytes)) {
		if !patient {
			return false
		}
		s.cond.Wait()
	}
	if s.deaf || s.over != nil {
		piece.Free()
		return true
	}
	s.got += int64(len(piece.bytes))
	s.bytes += len(piece.bytes)
	if last := len(s.queue) - 1; last >= 0 && s.queue[last].add(piece.bytes) {
		piece.Free()
	} else {
		s.queue = append(s.queue, piece)
	}
	s.cond.Broadcast()
	return true
}

// end notes that nothing more comes.
func (s *Stream) end(err error) {
	s.mu.Lock()
	if s.over != nil {
		s.mu.Unlock()
		return
	}
	s.over = err
	s.finished = s.finished || !errors.Is(err, io.EOF)
	finished := s.finished
	s.replyLocked()
	s.cond.Broadcast()
	s.mu.Unlock()
	if finished {
		s.conn.forget(s)
	}
}

// Next waits for a piece, which is the caller's to free. Its error is why the stream has ended, io.EOF for a proper end, or
// os.ErrDeadlineExceeded when the deadline has passed.
func (s *Stream) Next() (*Piece, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.queue) == 0 && s.over == nil && !s.deaf && !s.late() {
		s.cond.Wait()
	}
	switch {
	case s.deaf:
		return nil, ErrClosed
	case len(s.queue) == 0 && s.over != nil:
		return nil, s.over
	case s.late():
		return nil, os.ErrDeadlineExceeded
	}
	piece := s.queue[0]
	s.queue[0] = nil
	s.queue = s.queue[1:]
	s.bytes -= len(piece.bytes)
	s.repay(s.lent - max(0, s.bytes-s.conn.budget))
	s.cond.Broadcast()
	return piece, nil
}

func (s *Stream) late() bool { return !s.deadline.IsZero() && !time.Now().Before(s.deadline) }

// SetReadDeadline ends the waiting of Next at a time; the zero time does not.
func (s *Stream) SetReadDeadline(t time.Time) {
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
}

// WriteTo writes what comes until the stream ends properly, or the error that ended it otherwise.
func (s *Stream) WriteTo(w io.Writer) (n int64, err error) {
	for {
		piece, err := s.Next()
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		m, err := w.Write(piece.bytes)
		piece.Free()
		n += int64(m)
		if err != nil {
			return n, err
		}
	}
}

// Write sends bytes, MaxData at most, as one frame.
func (s *Stream) Write(p []byte) error {
	frame := takePiece()
	defer frame.Free()
	n := copy(frame.room[headSize:], p)
	putDataHead(frame.room[:], s.id, 0, n)
	return s.conn.write(frame.room[:headSize+n])
}

// CloseWrite says that nothing more is sent.
func (s *Stream) CloseWrite() error {
	s.mu.Lock()
	if s.finished {
		s.mu.Unlock()
		return nil
	}
	s.finished = true
	over := s.over != nil
	s.mu.Unlock()
	var frame [headSize]byte
	putDataHead(frame[:], s.id, fin, 0)
	err := s.conn.write(frame[:])
	if over {
		s.conn.forget(s)
	}
	return err
}

// Abort ends the stream in both directions, and what has come and was not taken is dropped. The far side is told
// unless it has ended the stream too.
func (s *Stream) Abort() {
	s.mu.Lock()
	quiet := s.deaf || s.over != nil && s.finished
	s.deaf, s.finished = true, true
	for _, piece := range s.queue {
		piece.Free()
	}
	s.queue, s.bytes = nil, 0
	s.repay(s.lent)
	s.replyLocked()
	s.cond.Broadcast()
	s.mu.Unlock()
	s.conn.forget(s)
	if !quiet {
		_ = s.conn.write(appendReset(nil, s.id))
	}
}
