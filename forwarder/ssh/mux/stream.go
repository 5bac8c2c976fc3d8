package mux

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder/wait"
)

// Stream is a channel opened by Conn. It implements forwarder.Stream.
type Stream struct {
	conn         *Conn
	id           uint32
	openResultCh chan struct{} // closed when the server has confirmed or refused the channel, or the connection has ended

	mu   sync.Mutex
	cond sync.Cond

	// Receiving.
	queue             []*chunk
	lentChunk         *chunk // lent to the caller of Next
	unread            []byte // rest of lentChunk, for Read
	receiveWindow     int    // bytes that the server may still send
	receiveWindowSize int    // what receiveWindow is refilled to
	consumed          int    // bytes returned by Next and not yet acknowledged
	hasRemoteEOF      bool   // the server has sent EOF
	isRemoteClosed    bool   // the server has closed the channel, or the connection has ended
	err               error  // why the channel was not opened, or broke

	// Sending.
	isConfirmed   bool   // the server has opened the channel
	remoteID      uint32 // the server's number of the channel
	sendWindow    int    // bytes that the server allows us to send
	maxPacket     int    // bytes of data in one message
	congestion    congestionWindow
	isEOFSent     bool // guarded by conn.writeMu, as is isCloseSent
	isCloseSent   bool
	isWriteClosed bool // by CloseWrite, Close, or the server's close
	isClosed      bool // Close was called
	isBroken      bool // Break was called
	isClosing     bool // the close message has been sent or is about to be

	readDeadline wait.Deadline
}

func newStream(c *Conn) *Stream {
	s := &Stream{conn: c, openResultCh: make(chan struct{}), receiveWindow: initialWindow, receiveWindowSize: initialWindow, congestion: congestionWindow{limit: initialCongestionWindow}}
	s.cond.L = &s.mu
	return s
}

// hasOpenResult reports whether openResultCh is closed. s.mu is held.
func (s *Stream) hasOpenResult() bool { return wait.IsClosed(s.openResultCh) }

// openResult returns the stream if the server has opened the channel, even if that has ended by now: the stream's reader sees how.
func (s *Stream) openResult() (*Stream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.isConfirmed {
		return nil, s.err
	}
	return s, nil
}

func (s *Stream) loadRemoteID() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.remoteID
}

// sendMessage sends a message whose body follows the channel number.
func (s *Stream) sendMessage(kind byte, body []byte) error {
	return s.conn.send(s, kind, net.Buffers{encodeMessage(kind, append(appendUint32(nil, s.loadRemoteID()), body...))})
}

// confirmOpen records that the server has connected. The stream may have been closed meanwhile.
func (s *Stream) confirmOpen(remoteID uint32, sendWindow, maxPacket int) {
	s.mu.Lock()
	if s.hasOpenResult() {
		s.mu.Unlock()
		return
	}
	s.isConfirmed = true
	s.remoteID, s.sendWindow, s.maxPacket = remoteID, sendWindow, max(1, min(maxPacket, maxPacketSize))
	close(s.openResultCh)
	s.mu.Unlock()
	s.sendCloseIfDue()
}

func (s *Stream) refuseOpen(err *OpenChannelError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hasOpenResult() {
		return
	}
	s.err = err
	close(s.openResultCh)
	s.conn.removeStream(s)
}

// closeWithError ends the stream because its connection has ended.
func (s *Stream) closeWithError(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
	if !s.hasOpenResult() {
		close(s.openResultCh)
	}
	s.isRemoteClosed = true
	s.cond.Broadcast()
}

// enqueue copies received bytes. The error is a violation of the protocol by the server.
func (s *Stream) enqueue(data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.receiveWindow -= len(data); s.receiveWindow < 0 {
		return errors.New("the server exceeded the channel's window")
	}
	if s.isClosed || s.isBroken || s.hasRemoteEOF || len(data) == 0 {
		return nil
	}
	last := len(s.queue) - 1
	if last < 0 || !s.queue[last].canFit(len(data)) {
		s.queue = append(s.queue, getChunk(len(data), last >= 0))
		last++
	}
	s.queue[last].bytes = append(s.queue[last].bytes, data...)
	s.cond.Broadcast()
	return nil
}

func (s *Stream) growSendWindow(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sendWindow += n
	s.congestion.addAcked(n, time.Now())
	s.cond.Broadcast()
}

func (s *Stream) handleEOF() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hasRemoteEOF = true
	s.cond.Broadcast()
}

// handleClose records that the server has closed the channel in both directions.
func (s *Stream) handleClose() {
	s.mu.Lock()
	if !s.hasRemoteEOF && s.err == nil {
		s.err = io.ErrUnexpectedEOF
	}
	s.isRemoteClosed, s.isWriteClosed = true, true
	s.cond.Broadcast()
	s.mu.Unlock()
	s.sendCloseIfDue()
}

// sendCloseIfDue sends the close message once, when the channel is open and either side has ended it, and forgets a stream that
// both have closed.
func (s *Stream) sendCloseIfDue() {
	s.mu.Lock()
	isDue := (s.isClosed || s.isBroken || s.isRemoteClosed) && s.hasOpenResult() && !s.isClosing && !errors.Is(s.err, ErrMasterEnded)
	s.isClosing = s.isClosing || isDue
	isFinished := s.isClosing && s.isRemoteClosed
	s.mu.Unlock()
	if isDue {
		_ = s.sendMessage(messageClose, nil)
	}
	if isFinished {
		s.conn.removeStream(s)
	}
}

// Next waits for bytes and lends them until the next call. It returns io.EOF at their end and net.ErrClosed after Close.
func (s *Stream) Next() ([]byte, error) {
	s.mu.Lock()
	s.releaseLentChunk()
	for len(s.queue) == 0 && !s.hasRemoteEOF && !s.isEnded() && !s.readDeadline.HasPassed() {
		s.cond.Wait()
	}
	err := s.readError()
	var data []byte
	if err == nil {
		s.lentChunk, s.queue[0], s.queue = s.queue[0], nil, s.queue[1:]
		data = s.lentChunk.bytes
		s.consumed += len(data)
	}
	increment := s.growReceiveWindow()
	s.mu.Unlock()
	if increment > 0 {
		_ = s.sendMessage(messageWindowAdjust, appendUint32(nil, uint32(increment))) //nolint:gosec // at most twice maxWindow
	}
	return data, err
}

// readError returns why no bytes can be read, nil if some can. A reader sees io.EOF however the stream ended: IsBroken tells
// whether that was an error. s.mu is held.
func (s *Stream) readError() error {
	switch {
	case s.isClosed:
		return net.ErrClosed
	case len(s.queue) > 0:
		return nil
	case s.hasRemoteEOF, s.isEnded():
		return io.EOF
	}
	return os.ErrDeadlineExceeded
}

// growReceiveWindow refills the window once half of it is consumed, and returns the increment that the server is to be sent; 0:
// none. s.mu is held.
func (s *Stream) growReceiveWindow() int {
	if s.consumed < s.receiveWindowSize/2 || s.isRemoteClosed || s.hasRemoteEOF {
		return 0
	}
	share := s.conn.windowBudget.streamShare(s, time.Now())
	increment := s.consumed
	switch {
	case s.receiveWindowSize < share && len(s.queue) == 0:
		increment += min(s.receiveWindowSize, share-s.receiveWindowSize)
	case s.receiveWindowSize > share:
		increment -= min(s.consumed, s.receiveWindowSize-share)
	}
	s.receiveWindowSize += increment - s.consumed
	s.consumed = 0
	s.receiveWindow += increment
	return increment
}

// releaseLentChunk returns the chunk that Next lent to its pool. s.mu is held.
func (s *Stream) releaseLentChunk() {
	if s.lentChunk != nil {
		s.lentChunk.release()
		s.lentChunk, s.unread = nil, nil
	}
}

func (s *Stream) Read(p []byte) (int, error) {
	if len(s.unread) == 0 {
		data, err := s.Next()
		if err != nil {
			return 0, err
		}
		s.unread = data
	}
	n := copy(p, s.unread)
	s.unread = s.unread[n:]
	return n, nil
}

// IsBroken reports, after the end, that the stream did not end with the server's EOF.
func (s *Stream) IsBroken() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err != nil && !s.hasRemoteEOF
}

// WaitEnd returns nil when the server has closed the channel or the connection has ended, and net.ErrClosed after Close.
func (s *Stream) WaitEnd() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.isEnded() {
		s.cond.Wait()
	}
	if s.isClosed {
		return net.ErrClosed
	}
	return nil
}

// Break ends the stream like a reset by the server: IsBroken returns true. The caller still calls Close.
func (s *Stream) Break() {
	s.mu.Lock()
	if s.err == nil {
		s.err = ErrClosed
	}
	s.isBroken = true
	s.cond.Broadcast()
	s.mu.Unlock()
	s.sendCloseIfDue()
}

// isEnded reports whether the stream has ended in both directions. s.mu is held.
func (s *Stream) isEnded() bool { return s.isRemoteClosed || s.isClosed || s.isBroken }

// Close ends the stream in both directions and drops what was received and not read. The error is always nil.
func (s *Stream) Close() error {
	s.mu.Lock()
	s.isClosed, s.isWriteClosed = true, true
	for _, queued := range s.queue {
		queued.release()
	}
	s.queue = nil
	s.readDeadline.Stop()
	s.cond.Broadcast()
	s.mu.Unlock()
	s.sendCloseIfDue()
	return nil
}

// SetDeadline is SetReadDeadline: writes have no deadline. They wait for the server's window, or until Close.
func (s *Stream) SetDeadline(t time.Time) error { return s.SetReadDeadline(t) }

// SetReadDeadline makes Read and Next return os.ErrDeadlineExceeded at a time; zero: never.
func (s *Stream) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readDeadline.Set(t, &s.cond)
	return nil
}

// SetWriteDeadline does nothing and returns nil.
func (s *Stream) SetWriteDeadline(time.Time) error { return nil }

// streamAddr is the net.Addr of a stream, which has no address of its own.
type streamAddr string

func (streamAddr) Network() string  { return "ssh" }
func (a streamAddr) String() string { return string(a) }

// LocalAddr returns a placeholder.
func (s *Stream) LocalAddr() net.Addr { return streamAddr("localport") }

// RemoteAddr returns a placeholder.
func (s *Stream) RemoteAddr() net.Addr { return streamAddr("ssh") }
