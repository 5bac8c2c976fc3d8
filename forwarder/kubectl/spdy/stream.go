package spdy

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder/wait"
)

// maxChunkSize is the size of a read or write: that of the writes of container runtimes.
const maxChunkSize = 32 << 10

// MaxWriteSize is how many bytes Write sends at most.
const MaxWriteSize = maxChunkSize

// Chunk is a pooled buffer with some bytes of a stream. It is not held by a goroutine that waits.
type Chunk struct {
	buf  [frameHeaderSize + maxChunkSize]byte
	data []byte
}

// Bytes returns the chunk's bytes, valid until Free.
func (c *Chunk) Bytes() []byte { return c.data }

// Free returns the chunk to the pool.
func (c *Chunk) Free() {
	c.data = nil
	chunkPool.Put(c)
}

// tryAppend appends data if all of it fits, so that many short messages that nobody has read do not hold a chunk each.
func (c *Chunk) tryAppend(data []byte) bool {
	if len(data) > cap(c.data)-len(c.data) {
		return false
	}
	c.data = append(c.data, data...)
	return true
}

var chunkPool = sync.Pool{New: func() any { return new(Chunk) }}

func getChunk() *Chunk { return chunkPool.Get().(*Chunk) }

// Stream is a stream of a Conn. It is safe for concurrent use.
type Stream struct {
	conn          *Conn
	id            uint32
	repliedCh     chan struct{}
	isWriteClosed bool // guarded by mu

	mu            sync.Mutex
	cond          sync.Cond
	queue         []*Chunk
	queuedBytes   int   // in the queue
	borrowedBytes int   // of these, from the reserve
	receivedBytes int64 // in total
	hasReplied    bool  // repliedCh is closed
	endErr        error // see EndErr
	isAborted     bool  // received data is dropped

	readDeadline wait.Deadline
}

// Replied is closed when the server has accepted the stream, and when the stream or the connection has ended.
func (s *Stream) Replied() <-chan struct{} { return s.repliedCh }

// EndErr is why the server sends nothing more: io.EOF for a regular end, nil while more may come.
func (s *Stream) EndErr() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.endErr
}

// ReceivedBytes is how many bytes have been received, read or not.
func (s *Stream) ReceivedBytes() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.receivedBytes
}

func (s *Stream) markReplied() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.markRepliedLocked()
}

func (s *Stream) markRepliedLocked() {
	if !s.hasReplied {
		s.hasReplied = true
		close(s.repliedCh)
	}
}

// enqueue queues a chunk. If the queue is full, it waits if canWait is set, and returns false otherwise.
func (s *Stream) enqueue(chunk *Chunk, canWait bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.queuedBytes >= s.conn.maxQueuedBytes && !s.isAborted && s.endErr == nil && !s.tryBorrow(len(chunk.data)) {
		if !canWait {
			return false
		}
		s.cond.Wait()
	}
	if s.isAborted || s.endErr != nil {
		chunk.Free()
		return true
	}
	s.receivedBytes += int64(len(chunk.data))
	s.queuedBytes += len(chunk.data)
	if last := len(s.queue) - 1; last >= 0 && s.queue[last].tryAppend(chunk.data) {
		chunk.Free()
	} else {
		s.queue = append(s.queue, chunk)
	}
	s.cond.Broadcast()
	return true
}

// endWith records that the server sends nothing more.
func (s *Stream) endWith(err error) {
	s.mu.Lock()
	if s.endErr != nil {
		s.mu.Unlock()
		return
	}
	s.endErr = err
	s.isWriteClosed = s.isWriteClosed || !errors.Is(err, io.EOF)
	isWriteClosed := s.isWriteClosed
	s.markRepliedLocked()
	s.cond.Broadcast()
	s.mu.Unlock()
	if isWriteClosed {
		s.conn.removeStream(s)
	}
}

// Next waits for a chunk, which the caller must free. Its error is why the stream has ended, io.EOF for a regular end, or
// os.ErrDeadlineExceeded if the read deadline has passed and no chunk has arrived.
func (s *Stream) Next() (*Chunk, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.queue) == 0 && s.endErr == nil && !s.isAborted && !s.readDeadline.HasPassed() {
		s.cond.Wait()
	}
	switch {
	case s.isAborted:
		return nil, ErrClosed
	case len(s.queue) == 0 && s.endErr != nil:
		return nil, s.endErr
	case len(s.queue) == 0:
		return nil, os.ErrDeadlineExceeded
	}
	chunk := s.queue[0]
	s.queue[0] = nil
	s.queue = s.queue[1:]
	s.queuedBytes -= len(chunk.data)
	s.repay(s.borrowedBytes - max(0, s.queuedBytes-s.conn.maxQueuedBytes))
	s.cond.Broadcast()
	return chunk, nil
}

// SetReadDeadline sets the time until which Next waits; the zero time means no deadline.
func (s *Stream) SetReadDeadline(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readDeadline.Set(t, &s.cond)
}

// WriteTo copies the stream to w until its end. A regular end is no error.
func (s *Stream) WriteTo(w io.Writer) (n int64, err error) {
	for {
		chunk, err := s.Next()
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		m, err := w.Write(chunk.data)
		chunk.Free()
		n += int64(m)
		if err != nil {
			return n, err
		}
	}
}

// Write sends p, at most MaxWriteSize bytes, as one frame.
func (s *Stream) Write(p []byte) error {
	frame := getChunk()
	defer frame.Free()
	n := copy(frame.buf[frameHeaderSize:], p)
	putDataHeader(frame.buf[:], s.id, 0, n)
	return s.conn.write(frame.buf[:frameHeaderSize+n])
}

// CloseWrite half-closes the stream: nothing more is sent.
func (s *Stream) CloseWrite() error {
	s.mu.Lock()
	if s.isWriteClosed {
		s.mu.Unlock()
		return nil
	}
	s.isWriteClosed = true
	hasEnded := s.endErr != nil
	s.mu.Unlock()
	var frame [frameHeaderSize]byte
	putDataHeader(frame[:], s.id, flagFin, 0)
	err := s.conn.write(frame[:])
	if hasEnded {
		s.conn.removeStream(s)
	}
	return err
}

// Abort ends the stream in both directions and drops what has not been read. It sends RST_STREAM unless both sides have ended the
// stream already.
func (s *Stream) Abort() {
	s.mu.Lock()
	isEnded := s.isAborted || s.endErr != nil && s.isWriteClosed
	s.isAborted, s.isWriteClosed = true, true
	s.readDeadline.Stop()
	for _, chunk := range s.queue {
		chunk.Free()
	}
	s.queue, s.queuedBytes = nil, 0
	s.repay(s.borrowedBytes)
	s.markRepliedLocked()
	s.cond.Broadcast()
	s.mu.Unlock()
	s.conn.removeStream(s)
	if !isEnded {
		_ = s.conn.write(appendRstStream(nil, s.id))
	}
}
