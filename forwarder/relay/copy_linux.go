package relay

import (
	"errors"
	"sync"

	"golang.org/x/sys/unix"
)

// bulk lets the kernel copy until the stream runs dry. It goes on with buffers where there is no pipe, or none to be
// used between these two sockets.
func (f *flow) bulk() outcome {
	p := pipes.take()
	if p == nil {
		f.full = 0 // ask again when it is worth it
		return more
	}
	o := f.splice(p)
	pipes.give(p)
	return o
}

// splice copies through a pipe. A stream that runs dry is bulky still if the next buffer is full again.
func (f *flow) splice(p *pipe) outcome {
	for {
		n, err := p.fill(f)
		switch {
		case errors.Is(err, unix.EAGAIN):
			f.full = bulky - 1
			return more
		case errors.Is(err, unix.EINVAL):
			f.unbulky = true
			return more
		case err != nil:
			return sourceless(err)
		case n == 0:
			return drained
		}
		f.count(n)
		if err := p.drain(f); err != nil {
			return destinationless(err)
		}
	}
}

// pipe is where bytes are while the kernel copies them.
type pipe struct {
	r, w int
	size int
	held int // bytes in it
}

const (
	wanted   = 256 << 10 // bytes a pipe: beyond that nothing is gained
	lent     = 16        // pipes at once: a sixteenth of the pages that an ordinary user may have in pipes
	kept     = 4         // pipes that nobody uses
	flags    = unix.SPLICE_F_MOVE | unix.SPLICE_F_NONBLOCK
	openPipe = unix.O_CLOEXEC | unix.O_NONBLOCK
)

// fill takes what the source has, without waiting.
func (p *pipe) fill(f *flow) (n int, err error) {
	readErr := f.in.Read(func(fd uintptr) bool {
		n, err = splice(int(fd), p.w, p.size)
		return true
	})
	if readErr != nil {
		return 0, readErr
	}
	p.held = n
	return n, err
}

// drain writes all of it to the destination, waiting where that is slow.
func (p *pipe) drain(f *flow) error {
	var err error
	writeErr := f.out.Write(func(fd uintptr) bool {
		for p.held > 0 {
			var n int
			n, err = splice(p.r, int(fd), p.held)
			if errors.Is(err, unix.EAGAIN) {
				err = nil
				return false
			}
			if err != nil {
				return true
			}
			p.held -= n
		}
		return true
	})
	if writeErr != nil {
		return writeErr
	}
	return err
}

func splice(from, to, size int) (int, error) {
	for {
		n, err := unix.Splice(from, nil, to, nil, size, flags)
		if !errors.Is(err, unix.EINTR) {
			return max(0, int(n)), err
		}
	}
}

func (p *pipe) close() {
	_ = unix.Close(p.r)
	_ = unix.Close(p.w)
}

// pipes are the pipes of all relays of the process.
var pipes stock

type stock struct {
	mu   sync.Mutex
	idle []*pipe
	out  int
}

// take is nil when enough pipes are lent, or the system has none.
func (s *stock) take() *pipe {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.out == lent {
		return nil
	}
	p := s.pop()
	if p == nil {
		p = newPipe()
	}
	if p != nil {
		s.out++
	}
	return p
}

func (s *stock) pop() *pipe {
	if len(s.idle) == 0 {
		return nil
	}
	last := len(s.idle) - 1
	p := s.idle[last]
	s.idle = s.idle[:last]
	return p
}

func newPipe() *pipe {
	var ends [2]int
	if err := unix.Pipe2(ends[:], openPipe); err != nil {
		return nil
	}
	p := &pipe{r: ends[0], w: ends[1], size: 64 << 10}
	if size, err := unix.FcntlInt(uintptr(p.w), unix.F_SETPIPE_SZ, wanted); err == nil {
		p.size = size
	}
	return p
}

// give takes a pipe back. One with bytes in it, of a stream that broke, is of no further use.
func (s *stock) give(p *pipe) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out--
	if p.held > 0 || len(s.idle) == kept {
		p.close()
		return
	}
	s.idle = append(s.idle, p)
}
