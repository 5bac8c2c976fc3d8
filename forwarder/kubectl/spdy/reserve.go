package spdy

import "sync/atomic"

// BufferReserve is a limit on the memory for received bytes that slow clients of shared connections have not read. Many
// connections share one.
type BufferReserve struct{ available atomic.Int64 }

// NewBufferReserve makes a reserve of size bytes.
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

// tryBorrow takes n bytes from the reserve, if the connection is shared and the reserve has them. s.mu is held.
func (s *Stream) tryBorrow(n int) bool {
	if !s.conn.isShared.Load() || !s.conn.reserve.tryTake(n) {
		return false
	}
	s.borrowedBytes += n
	s.conn.borrowedBytes.Add(int64(n))
	return true
}

// repay returns n bytes to the reserve; a negative n counts as zero. s.mu is held.
func (s *Stream) repay(n int) {
	if n > 0 {
		s.borrowedBytes -= n
		s.conn.borrowedBytes.Add(-int64(n))
		s.conn.reserve.available.Add(int64(n))
	}
}
