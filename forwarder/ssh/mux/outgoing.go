package mux

import (
	"io"
	"net"
	"sync"
	"time"
)

// atOnce is how much of a stream is written at once: so many messages.
const atOnce = 8

// frames are messages with bytes of a stream. The bytes stay where they are: what is written is their heads and they by turns.
type frames struct {
	heads [atOnce * dataHead]byte
	parts [2 * atOnce][]byte
}

var framings = sync.Pool{New: func() any { return new(frames) }}

func (s *Stream) Write(p []byte) (n int, err error) {
	for n < len(p) {
		m, err := s.reserve(len(p) - n)
		if err != nil {
			return n, err
		}
		f := framings.Get().(*frames)
		err = s.conn.send(s, channelData, f.carry(s, p[n:n+m]))
		*f = frames{}
		framings.Put(f)
		if err != nil {
			return n, err
		}
		n += m
	}
	return n, nil
}

// reserve waits until something of what is wanted may be sent.
func (s *Stream) reserve(want int) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for min(s.room, s.pace.room()) <= 0 && !s.finished && !s.over() {
		s.cond.Wait()
	}
	switch {
	case s.left:
		return 0, net.ErrClosed
	case s.finished, s.over():
		return 0, io.ErrClosedPipe
	}
	n := min(want, s.room, s.pace.room(), atOnce*s.most)
	s.room -= n
	s.pace.sent(n, time.Now())
	return n, nil
}

// carry makes the messages that carry some bytes.
func (f *frames) carry(s *Stream, bytes []byte) net.Buffers {
	heads, parts := f.heads[:0], f.parts[:0]
	for len(bytes) > 0 {
		n, begin := min(len(bytes), s.most), len(heads)
		heads = append(number(heads, uint32(2+8+n)), 0, channelData) //nolint:gosec // it is short
		heads = number(number(heads, s.remote), uint32(n))           //nolint:gosec // it is short; the far side's number does not change
		parts = append(parts, heads[begin:], bytes[:n])
		bytes = bytes[n:]
	}
	return parts
}

// CloseWrite says that nothing more is sent.
func (s *Stream) CloseWrite() error {
	s.mu.Lock()
	due := !s.finished && !s.over()
	s.finished = true
	s.cond.Broadcast()
	s.mu.Unlock()
	if !due {
		return nil
	}
	return s.send(channelEOF, nil)
}
