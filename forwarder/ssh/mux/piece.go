package mux

import (
	"slices"
	"sync"
)

// piece is some bytes of a stream on their way: as many as are worth a write of their own, where so many come. Nobody keeps
// one while waiting.
type piece struct{ bytes []byte }

// The sizes of pieces. The largest are for bytes that come faster than they are taken.
var sizes = [...]int{4 << 10, maxData, 4 * maxData}

var pieces [len(sizes)]sync.Pool

// takePiece is an empty piece with room for n bytes, and for more where others wait already.
func takePiece(n int, waiting bool) *piece {
	class := 0
	switch {
	case waiting && n > sizes[0]:
		class = 2
	case n > sizes[0]:
		class = 1
	}
	if p, ok := pieces[class].Get().(*piece); ok {
		return p
	}
	return &piece{bytes: make([]byte, 0, sizes[class])}
}

func (p *piece) fits(n int) bool { return len(p.bytes)+n <= cap(p.bytes) }

func (p *piece) free() {
	p.bytes = p.bytes[:0]
	pieces[slices.Index(sizes[:], cap(p.bytes))].Put(p)
}
