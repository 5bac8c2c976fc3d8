package spdy

import "sync/atomic"

// BufferReserve is memory for bytes that nobody takes, on connections where others would have to wait for that. Many connections share
// one.
type BufferReserve struct{ available atomic.Int64 }

// NewBufferReserve has so many bytes.
func NewBufferReserve(size int64) *BufferReserve {
	r := &BufferReserve{}
	r.available.Store(size)
	return r
}

func (r *BufferReserve) tryTake(n int) bool {
	if r.available.Add(-int64(n)) >= 0 {
		return true
	}
	r.available.Add(int64(n))
	return false
}

// tryBorrow makes room for some bytes at the reserve's expense. s.mu is held.
func (s *Stream) tryBorrow(n int) bool {
	if !s.conn.isShared.Load() || !s.conn.reserve.tryTake(n) {
		return false
	}
	s.borrowedBytes += n
	s.conn.borrowedBytes.Add(int64(n))
	return true
}

// repay gives back what is not needed any more; nothing if that is less than nothing. s.mu is held.
func (s *Stream) repay(n int) {
	if n > 0 {
		s.borrowedBytes -= n
		s.conn.borrowedBytes.Add(-int64(n))
		s.conn.reserve.available.Add(int64(n))
	}
}
