package relay

import (
	"errors"
	"sync"

	"golang.org/x/sys/unix"
)

// copyInKernel splices until nothing is left to read at the moment. It returns outcomeContinue, to go on with buffers, if there
// is no pipe or these two sockets cannot be spliced.
func (c *copier) copyInKernel() outcome {
	p := pipes.get()
	if p == nil {
		c.fullReads = 0 // ask for a pipe again after the next full reads
		return outcomeContinue
	}
	o := c.splice(p)
	pipes.put(p)
	return o
}

// splice copies through a pipe. After a pause in a bulk transfer, one full read is enough to splice again.
func (c *copier) splice(p *pipe) outcome {
	for {
		n, err := p.fill(c)
		switch {
		case errors.Is(err, unix.EAGAIN):
			c.fullReads = minFullReads - 1
			return outcomeContinue
		case errors.Is(err, unix.EINVAL):
			c.cannotSplice = true
			return outcomeContinue
		case err != nil:
			return readOutcome(err)
		case n == 0:
			return c.endOutcome()
		}
		c.onBytes(n)
		if err := p.drain(c); err != nil {
			return writeOutcome(err)
		}
	}
}

// pipe is a pipe that the kernel copies through.
type pipe struct {
	r, w     int
	size     int
	buffered int // bytes in the pipe
}

const (
	pipeSize      = 256 << 10 // a larger pipe is not faster
	maxPipesInUse = 16        // with pipeSize each, a sixteenth of the pages that an unprivileged user may have in pipes (pipe(7))
	maxIdlePipes  = 4         // kept open for later
	spliceFlags   = unix.SPLICE_F_MOVE | unix.SPLICE_F_NONBLOCK
	pipeFlags     = unix.O_CLOEXEC | unix.O_NONBLOCK
)

// fill moves bytes from the source into the pipe, without waiting. n is 0 at the end of the stream.
func (p *pipe) fill(c *copier) (n int, err error) {
	readErr := c.rawSrc.Read(func(fd uintptr) bool {
		n, err = spliceOnce(int(fd), p.w, p.size)
		return true
	})
	if readErr != nil {
		return 0, readErr
	}
	p.buffered = n
	return n, err
}

// drain moves all bytes of the pipe to the destination, and waits while that takes none.
func (p *pipe) drain(c *copier) error {
	var err error
	writeErr := c.rawDst.Write(func(fd uintptr) bool {
		for p.buffered > 0 {
			var n int
			n, err = spliceOnce(p.r, int(fd), p.buffered)
			if errors.Is(err, unix.EAGAIN) {
				err = nil
				return false
			}
			if err != nil {
				return true
			}
			p.buffered -= n
		}
		return true
	})
	if writeErr != nil {
		return writeErr
	}
	return err
}

func spliceOnce(from, to, size int) (int, error) {
	for {
		n, err := unix.Splice(from, nil, to, nil, size, spliceFlags)
		if !errors.Is(err, unix.EINTR) {
			return max(0, int(n)), err
		}
	}
}

func (p *pipe) close() {
	_ = unix.Close(p.r)
	_ = unix.Close(p.w)
}

// pipes is shared by all relays of the process: its limits are per user.
var pipes pipePool

type pipePool struct {
	mu    sync.Mutex
	idle  []*pipe
	inUse int
}

// get returns nil if maxPipesInUse are in use, or the system has none.
func (pool *pipePool) get() *pipe {
	pool.mu.Lock()
	defer pool.mu.Unlock()
	if pool.inUse == maxPipesInUse {
		return nil
	}
	p := pool.popIdle()
	if p == nil {
		p = newPipe()
	}
	if p != nil {
		pool.inUse++
	}
	return p
}

func (pool *pipePool) popIdle() *pipe {
	if len(pool.idle) == 0 {
		return nil
	}
	last := len(pool.idle) - 1
	p := pool.idle[last]
	pool.idle = pool.idle[:last]
	return p
}

func newPipe() *pipe {
	var ends [2]int
	if err := unix.Pipe2(ends[:], pipeFlags); err != nil {
		return nil
	}
	p := &pipe{r: ends[0], w: ends[1], size: 64 << 10}
	if size, err := unix.FcntlInt(uintptr(p.w), unix.F_SETPIPE_SZ, pipeSize); err == nil {
		p.size = size
	}
	return p
}

// put takes a pipe back. A pipe that still holds bytes, of a connection that broke, is closed.
func (pool *pipePool) put(p *pipe) {
	pool.mu.Lock()
	defer pool.mu.Unlock()
	pool.inUse--
	if p.buffered > 0 || len(pool.idle) == maxIdlePipes {
		p.close()
		return
	}
	pool.idle = append(pool.idle, p)
}
