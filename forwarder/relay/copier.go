package relay

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/socketcall"
)

// outcome is the result of a read, a write or a copy.
type outcome int

const (
	outcomeContinue    outcome = iota // go on copying
	outcomeEOF                        // the source has ended its stream properly
	outcomeReset                      // the source was reset
	outcomeWriteFailed                // the destination takes no more bytes
	outcomeInterrupted                // the source's read deadline was set to make this goroutine check its state
	outcomeClosed                     // the source or the destination was closed by this process
)

// A copier holds a buffer between a read and a write, never while it waits to read. Large buffers are for bulk transfers
// between connections that cannot be spliced.
const (
	bufferSize      = 32 << 10
	largeBufferSize = 256 << 10
)

var (
	bufferPool      = sync.Pool{New: func() any { return new([bufferSize]byte) }}
	largeBufferPool = sync.Pool{New: func() any { return new([largeBufferSize]byte) }}
)

func getBuffer(isLarge bool) []byte {
	if isLarge {
		return largeBufferPool.Get().(*[largeBufferSize]byte)[:]
	}
	return bufferPool.Get().(*[bufferSize]byte)[:]
}

func putBuffer(buf []byte) {
	if len(buf) == largeBufferSize {
		largeBufferPool.Put((*[largeBufferSize]byte)(buf))
		return
	}
	bufferPool.Put((*[bufferSize]byte)(buf))
}

// copier copies one direction of a connection. While it waits to read, it holds its sockets and nothing else.
type copier struct {
	stream  forwarder.Stream // the source, if it is a stream; nil: a socket
	dst     halfCloseConn
	rawSrc  syscall.RawConn // nil for a stream
	rawDst  syscall.RawConn // nil for a stream
	onBytes func(int)       // called with the number of bytes after each read
	// isWriteClosed is set before the source's sending side is closed.
	isWriteClosed *atomic.Bool

	buf          []byte             // of the pool, between a read from a socket and the write, else nil
	unsent       []byte             // what was read and not written yet: a part of buf, or bytes that the stream owns
	ioErr        error              // of the last Receive or Send
	readFunc     func(uintptr) bool // readAvailable, allocated once
	writeFunc    func(uintptr) bool // writeUnsent, allocated once
	fullReads    int                // how many of the last reads filled a buffer
	cannotSplice bool               // the kernel cannot copy between these two
	isTCP        bool               // the source is a TCP connection
}

func newCopier(src halfCloseConn, rawSrc syscall.RawConn, isWriteClosed *atomic.Bool, dst halfCloseConn, rawDst syscall.RawConn, onBytes func(int)) *copier {
	c := &copier{
		rawSrc: rawSrc, isWriteClosed: isWriteClosed, dst: dst, rawDst: rawDst, onBytes: onBytes, cannotSplice: rawSrc == nil || rawDst == nil,
	}
	c.stream, _ = src.(forwarder.Stream)
	_, c.isTCP = src.(*net.TCPConn)
	c.readFunc, c.writeFunc = c.readAvailable, c.writeUnsent
	return c
}

// run copies until there is an outcome other than outcomeContinue.
func (c *copier) run() outcome {
	for {
		if o := c.read(); o != outcomeContinue {
			return o
		}
		if o := c.write(); o != outcomeContinue {
			return o
		}
		if c.fullReads >= minFullReads && !c.cannotSplice {
			if o := c.copyInKernel(); o != outcomeContinue {
				return o
			}
		}
	}
}

// minFullReads is how many reads in a row must fill a buffer before the transfer counts as bulk.
const minFullReads = 2

// read waits for bytes and reads at most one buffer, which write or releaseBuffer gives back.
func (c *copier) read() outcome {
	if c.stream != nil {
		return c.readStream()
	}
	if err := c.rawSrc.Read(c.readFunc); err != nil {
		return readOutcome(err)
	}
	switch {
	case len(c.unsent) > 0:
		c.onBytes(len(c.unsent))
		return outcomeContinue
	case c.ioErr == nil:
		c.releaseBuffer()
		return c.endOutcome()
	}
	c.releaseBuffer()
	return readOutcome(c.ioErr)
}

// endOutcome is the outcome of a read that returned no bytes. The kernel reports a reset once: if the other direction's write got the
// error, a read gets what looks like a proper end. After a proper end the connection is open for sending (CLOSE_WAIT in RFC 9293)
// until this process closes that side too.
func (c *copier) endOutcome() outcome {
	if c.isTCP && isTCPClosed(c.rawSrc) && !c.isWriteClosed.Load() { // in this order: closing it may complete meanwhile
		return outcomeReset
	}
	return outcomeEOF
}

// readStream is read for a stream, whose bytes are valid until the next read.
func (c *copier) readStream() outcome {
	var err error
	if c.unsent, err = c.stream.Next(); err != nil {
		return readOutcome(err)
	}
	c.onBytes(len(c.unsent))
	return outcomeContinue
}

// readAvailable reads without waiting, and keeps the buffer unless there was nothing to read. It has the form that
// syscall.RawConn.Read takes: false means to wait until the socket is readable.
func (c *copier) readAvailable(fd uintptr) bool {
	buf := getBuffer(c.fullReads >= minFullReads && c.cannotSplice)
	var n int
	n, c.ioErr = socketcall.Receive(fd, buf)
	if errors.Is(c.ioErr, syscall.EAGAIN) {
		putBuffer(buf)
		return false
	}
	c.buf, c.unsent = buf, buf[:n]
	if n < bufferSize {
		c.fullReads = 0
	} else {
		c.fullReads++
	}
	return true
}

// write writes what read has read.
func (c *copier) write() outcome {
	var err error
	if c.rawDst == nil {
		_, err = c.dst.Write(c.unsent)
	} else if err = c.rawDst.Write(c.writeFunc); err == nil {
		err = c.ioErr
	}
	c.releaseBuffer()
	return writeOutcome(err)
}

// writeUnsent writes without waiting. It has the form that syscall.RawConn.Write takes: false means to wait until the socket is writable.
func (c *copier) writeUnsent(fd uintptr) bool {
	c.unsent, c.ioErr = socketcall.SendAll(fd, c.unsent)
	return !errors.Is(c.ioErr, syscall.EAGAIN)
}

// releaseBuffer gives the buffer back, if there is one.
func (c *copier) releaseBuffer() {
	if c.buf != nil {
		putBuffer(c.buf)
	}
	c.buf, c.unsent = nil, nil
}

func readOutcome(err error) outcome {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return outcomeInterrupted
	case errors.Is(err, net.ErrClosed):
		return outcomeClosed
	case errors.Is(err, io.EOF):
		return outcomeEOF
	}
	return outcomeReset
}

func writeOutcome(err error) outcome {
	switch {
	case err == nil:
		return outcomeContinue
	case errors.Is(err, net.ErrClosed):
		return outcomeClosed
	}
	return outcomeWriteFailed
}
