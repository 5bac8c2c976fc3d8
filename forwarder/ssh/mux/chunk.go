package mux

import (
	"slices"
	"sync"
)

// chunk is a pooled buffer of received bytes. An idle stream holds none.
type chunk struct{ bytes []byte }

// chunkSizes are the capacities of chunks. The largest are for bytes that arrive faster than they are read, so that each write to
// the client is worth its system call.
var chunkSizes = [...]int{4 << 10, maxPacketSize, 4 * maxPacketSize}

var chunkPools [len(chunkSizes)]sync.Pool

// getChunk returns an empty chunk with room for n bytes, and for more if the stream already has chunks queued.
func getChunk(n int, isQueued bool) *chunk {
	class := 0
	switch {
	case isQueued && n > chunkSizes[0]:
		class = 2
	case n > chunkSizes[0]:
		class = 1
	}
	if c, ok := chunkPools[class].Get().(*chunk); ok {
		return c
	}
	return &chunk{bytes: make([]byte, 0, chunkSizes[class])}
}

func (c *chunk) canFit(n int) bool { return len(c.bytes)+n <= cap(c.bytes) }

func (c *chunk) release() {
	c.bytes = c.bytes[:0]
	chunkPools[slices.Index(chunkSizes[:], cap(c.bytes))].Put(c)
}
