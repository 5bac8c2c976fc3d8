package spdy

import (
	"io"
	"sync"
)

// chunkSize is the most that is taken at once: what the servers of container runtimes write at once.
const chunkSize = 32 << 10

// chunk is a piece of a stream on its way. Nobody keeps one while waiting.
type chunk struct {
	room  [headSize + chunkSize]byte
	bytes []byte
}

var chunks = sync.Pool{New: func() any { return new(chunk) }}

func takeChunk() *chunk { return chunks.Get().(*chunk) }

func giveChunk(p *chunk) {
	p.bytes = nil
	chunks.Put(p)
}

// Stream is a stream that was opened here.
type Stream struct {
	conn     *Conn
	id       uint32
	replied  chan struct{}
	finished bool // nothing is written any more; guarded by mu

	mu    sync.Mutex
	cond  sync.Cond
	queue []*chunk
	bytes int   // in the queue
	got   int64 // altogether
	heard bool  // replied is closed
	over  error // why nothing more comes: io.EOF for a proper end
	deaf  bool  // what comes is not wanted
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
func (s *Stream) put(piece *chunk, patient bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.bytes >= s.conn.budget && !s.deaf && s.over == nil {
		if !patient {
			return false
		}
		s.cond.Wait()
	}
	if s.deaf || s.over != nil {
		giveChunk(piece)
		return true
	}
	s.got += int64(len(piece.bytes))
	s.bytes += len(piece.bytes)
	s.queue = append(s.queue, piece)
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
	s.finished = s.finished || err != io.EOF
	finished := s.finished
	s.replyLocked()
	s.cond.Broadcast()
	s.mu.Unlock()
	if finished {
		s.conn.forget(s)
	}
}

// next waits for a piece, or the reason why there is none.
func (s *Stream) next() (*chunk, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.queue) == 0 && s.over == nil && !s.deaf {
		s.cond.Wait()
	}
	if s.deaf {
		return nil, ErrClosed
	}
	if len(s.queue) == 0 {
		return nil, s.over
	}
	piece := s.queue[0]
	s.queue[0] = nil
	s.queue = s.queue[1:]
	s.bytes -= len(piece.bytes)
	s.cond.Broadcast()
	return piece, nil
}

// WriteTo writes what comes until the stream ends properly, or the error that ended it otherwise.
func (s *Stream) WriteTo(w io.Writer) (n int64, err error) {
	for {
		piece, err := s.next()
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		m, err := w.Write(piece.bytes)
		giveChunk(piece)
		n += int64(m)
		if err != nil {
			return n, err
		}
	}
}

// Send sends what fill puts into the room that it is given, which is of chunkSize bytes, as one frame. Fill is not
// called twice; with 0 bytes nothing is sent.
func (s *Stream) Send(room *Room, n int) error {
	if n == 0 {
		return nil
	}
	putDataHead(room.c.room[:], s.id, 0, n)
	return s.conn.write(room.c.room[:headSize+n])
}

// Room is where bytes are put to be sent without being copied again.
type Room struct{ c *chunk }

// NewRoom lends room, which Free gives back.
func NewRoom() *Room { return &Room{takeChunk()} }

// Bytes is the room.
func (r *Room) Bytes() []byte { return r.c.room[headSize:] }

// Free gives the room back.
func (r *Room) Free() { giveChunk(r.c) }

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
		giveChunk(piece)
	}
	s.queue, s.bytes = nil, 0
	s.replyLocked()
	s.cond.Broadcast()
	s.mu.Unlock()
	s.conn.forget(s)
	if !quiet {
		_ = s.conn.write(appendReset(nil, s.id))
	}
}
