package relay

import (
	"io"

	"golang.org/x/sys/unix"
)

const (
	// pipeSize is what a pipe is asked to hold; the kernel may give less, down to a page for a user with many.
	pipeSize = 256 << 10
	// pipesAtOnce bounds the pipes in use, well below the share of an ordinary user (pipe-user-pages-soft): a
	// receiver that reads slowly keeps its pipe until it has taken all of it.
	pipesAtOnce = 32
)

// pipe is the kernel's buffer between two sockets.
type pipe struct{ r, w int }

// pipes are those in use and those waiting for it: a place holds nil until a pipe is made for it.
var pipes = func() chan *pipe {
	c := make(chan *pipe, pipesAtOnce)
	for range pipesAtOnce {
		c <- nil
	}
	return c
}()

// getPipe is nil where all are in use, or none can be made.
func getPipe() *pipe {
	select {
	case p := <-pipes:
		if p != nil {
			return p
		}
	default:
		return nil
	}
	var fds [2]int
	if unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK) != nil {
		pipes <- nil
		return nil
	}
	_, _ = unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, pipeSize)
	return &pipe{fds[0], fds[1]}
}

// put gives an empty pipe back; one that is not empty is closed.
func (p *pipe) put(empty bool) {
	if empty {
		pipes <- p
		return
	}
	_ = unix.Close(p.r)
	_ = unix.Close(p.w)
	pipes <- nil
}

// splice moves what from has, without a copy, until it runs dry; then it returns nil. It also does where there is no
// pipe to be had: the caller copies.
func splice(to, from *stream, count func(int)) error {
	p := getPipe()
	if p == nil {
		return nil
	}
	empty := true
	defer func() { p.put(empty) }()
	for {
		n, err := p.fill(from)
		switch {
		case err == unix.EAGAIN || err == unix.EINVAL:
			return nil
		case err != nil:
			return err
		case n == 0:
			return io.EOF
		}
		empty = false
		if err := p.pour(to, n, count); err != nil {
			return err
		}
		empty = true
	}
}

const spliceFlags = unix.SPLICE_F_MOVE | unix.SPLICE_F_NONBLOCK

// fill takes what is there; EAGAIN if nothing is.
func (p *pipe) fill(from *stream) (n int, err error) {
	rerr := from.raw.Read(func(fd uintptr) bool {
		n, err = retry(func() (int, error) {
			n, err := unix.Splice(int(fd), nil, p.w, nil, pipeSize, spliceFlags)
			return int(n), err
		})
		return true
	})
	if rerr != nil {
		return 0, rerr
	}
	return n, err
}

// pour waits until the receiver has taken all n bytes.
func (p *pipe) pour(to *stream, n int, count func(int)) error {
	for n > 0 {
		var moved int
		var err error
		werr := to.raw.Write(func(fd uintptr) bool {
			moved, err = retry(func() (int, error) {
				m, err := unix.Splice(p.r, nil, int(fd), nil, n, spliceFlags)
				return int(m), err
			})
			return err != unix.EAGAIN
		})
		if werr != nil {
			return &writeError{werr}
		}
		if err != nil {
			return &writeError{err}
		}
		n -= moved
		count(moved)
	}
	return nil
}
