package spdy

import "sync/atomic"

// Reserve is memory for bytes that nobody takes, on connections where others would have to wait for that. Many connections share
// one.
type Reserve struct{ left atomic.Int64 }

// NewReserve has so many bytes.
func NewReserve(size int64) *Reserve {
	r := &Reserve{}
	r.left.Store(size)
	return r
}

func (r *Reserve) take(n int) bool {
	if r.left.Add(-int64(n)) >= 0 {
		return true
	}
	r.left.Add(int64(n))
	return false
}

// borrow makes room for some bytes at the reserve's expense. s.mu is held.
func (s *Stream) borrow(n int) bool {
	if !s.conn.crowded.Load() || !s.conn.reserve.take(n) {
		return false
	}
	s.lent += n
	s.conn.lent.Add(int64(n))
	return true
}

// repay gives back what is not needed any more; nothing if that is less than nothing. s.mu is held.
func (s *Stream) repay(n int) {
	if n > 0 {
		s.lent -= n
		s.conn.lent.Add(-int64(n))
		s.conn.reserve.left.Add(int64(n))
	}
}
