package relay

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"

	"github.com/localport-sh/localport/forwarder"
)

// outcome is how a step of the copying came out.
type outcome int

const (
	more    outcome = iota // there may be more
	drained                // the source has ended properly
	broken                 // the source was reset
	blocked                // the destination takes nothing any more
	woken                  // somebody wants the goroutine to look around
	closed                 // one of the sockets was closed here
)

// A buffer is lent to a stream while it has bytes in hand, never to one that waits. The large ones are for streams of bulk that
// the kernel cannot copy.
const (
	bufferSize = 32 << 10
	largeSize  = 256 << 10
)

var (
	buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}
	larges  = sync.Pool{New: func() any { return new([largeSize]byte) }}
)

// takeBuffer is a buffer of one of the two sizes.
func takeBuffer(large bool) []byte {
	if large {
		return larges.Get().(*[largeSize]byte)[:]
	}
	return buffers.Get().(*[bufferSize]byte)[:]
}

func giveBuffer(buf []byte) {
	if len(buf) == largeSize {
		larges.Put((*[largeSize]byte)(buf))
		return
	}
	buffers.Put((*[bufferSize]byte)(buf))
}

// flow is one direction of a connection. A flow that waits holds its sockets and nothing else.
type flow struct {
	stream forwarder.Stream // the source, if it is one
	dst    way
	in     syscall.RawConn // of the source; nil for a stream
	out    syscall.RawConn // of dst; nil for a stream
	count  func(int)       // told of bytes as they pass

	buf     []byte // with n bytes in hand; nil between steps
	lent    []byte // by the stream, instead
	n       int
	err     error
	take    func(uintptr) bool // takeFrom as a value, made once
	full    int                // how many reads in a row filled a buffer
	unbulky bool               // the kernel does not copy between these two
}

func newFlow(src way, in syscall.RawConn, dst way, out syscall.RawConn, count func(int)) *flow {
	f := &flow{in: in, dst: dst, out: out, count: count, unbulky: in == nil || out == nil}
	f.stream, _ = src.(forwarder.Stream)
	f.take = f.takeFrom
	return f
}

// run copies until something else than more bytes happens.
func (f *flow) run() outcome {
	for {
		if o := f.read(); o != more {
			return o
		}
		if o := f.write(); o != more {
			return o
		}
		if f.full >= bulky && !f.unbulky {
			if o := f.bulk(); o != more {
				return o
			}
		}
	}
}

// bulky is how many full buffers make a stream one of bulk.
const bulky = 2

// read parks until there are bytes and takes a buffer full at most, which write or drop give back.
func (f *flow) read() outcome {
	if f.stream != nil {
		return f.readStream()
	}
	if err := f.in.Read(f.take); err != nil {
		return sourceless(err)
	}
	switch {
	case f.n > 0:
		f.count(f.n)
		return more
	case f.err == nil:
		f.drop()
		return drained
	}
	f.drop()
	return sourceless(f.err)
}

// readStream waits until a stream lends some bytes.
func (f *flow) readStream() outcome {
	var err error
	if f.lent, err = f.stream.Next(); err != nil {
		return sourceless(err)
	}
	f.count(len(f.lent))
	return more
}

// takeFrom reads without waiting. What it cannot fill it does not keep.
func (f *flow) takeFrom(fd uintptr) bool {
	buf := takeBuffer(f.full >= bulky && f.unbulky)
	for {
		f.n, f.err = syscall.Read(int(fd), buf)
		if !errors.Is(f.err, syscall.EINTR) {
			break
		}
	}
	if errors.Is(f.err, syscall.EAGAIN) {
		giveBuffer(buf)
		return false
	}
	f.buf = buf
	if f.n < bufferSize {
		f.full = 0
	} else {
		f.full++
	}
	return true
}

// write writes what is in hand.
func (f *flow) write() outcome {
	if f.stream != nil {
		_, err := f.dst.Write(f.lent)
		return destinationless(err)
	}
	_, err := f.dst.Write(f.buf[:f.n])
	f.drop()
	return destinationless(err)
}

func (f *flow) drop() {
	giveBuffer(f.buf)
	f.buf = nil
}

func sourceless(err error) outcome {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return woken
	case errors.Is(err, net.ErrClosed):
		return closed
	case errors.Is(err, io.EOF):
		return drained
	}
	return broken
}

func destinationless(err error) outcome {
	switch {
	case err == nil:
		return more
	case errors.Is(err, net.ErrClosed):
		return closed
	}
	return blocked
}
