package mux

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/localport-sh/localport/forwarder/socketcall"
	"github.com/localport-sh/localport/forwarder/wait"
)

// Errors that end a connection or a stream.
var (
	ErrClosed      = errors.New("closed")
	ErrMasterEnded = errors.New("the ssh master has ended")
)

// OpenChannelError is the server's refusal to open a channel.
type OpenChannelError struct {
	Reason  uint32 // RFC 4254, section 5.1
	Message string // the server's description
}

// The reasons of an OpenChannelError.
const (
	Prohibited         = 1
	ConnectionFailed   = 2
	UnknownChannelType = 3
	ResourceShortage   = 4
)

// Error returns the text that ssh itself prints for the refusal.
func (e *OpenChannelError) Error() string {
	text := "unknown reason"
	switch e.Reason {
	case Prohibited:
		text = "administratively prohibited"
	case ConnectionFailed:
		text = "connect failed"
	case UnknownChannelType:
		text = "unknown channel type"
	case ResourceShortage:
		text = "resource shortage"
	}
	if e.Message != "" {
		text += ": " + e.Message
	}
	return "open failed: " + text
}

// Conn opens channels over a master's connection to its server. Its methods may be called concurrently.
type Conn struct {
	socket       net.Conn
	windowBudget windowBudget
	refusalCount atomic.Int64
	lastReceived atomic.Int64 // Unix nanoseconds
	sendCount    atomic.Int64 // how often messages were sent

	writeMu sync.Mutex // held while a message is written; guards writer, and isEOFSent and isCloseSent of every stream
	writer  *socketcall.Writer

	mu           sync.Mutex
	streams      map[uint32]*Stream
	nextID       uint32
	err          error
	doneCh       chan struct{}
	readerDoneCh chan struct{} // closed when readLoop has returned
}

func newConn(socket net.Conn) *Conn {
	c := &Conn{
		socket: socket, writer: socketcall.NewWriter(socket), streams: make(map[uint32]*Stream), doneCh: make(chan struct{}), readerDoneCh: make(chan struct{}),
	}
	c.lastReceived.Store(time.Now().UnixNano())
	go c.readLoop()
	return c
}

// Done is closed when the connection has ended.
func (c *Conn) Done() <-chan struct{} { return c.doneCh }

// Err returns why the connection ended: ErrClosed after Close, ErrMasterEnded when the master ended. Valid after Done.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the connection and all its streams, and returns when its goroutine has ended. A master some of whose channels
// were refused exits at that.
func (c *Conn) Close() error {
	c.closeWithError(ErrClosed)
	<-c.readerDoneCh
	return nil
}

// StreamCount returns the number of channels, including those that are being opened.
func (c *Conn) StreamCount() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.streams)
}

// LastReceived returns when the last message arrived; at first, when the connection was made.
func (c *Conn) LastReceived() time.Time { return time.Unix(0, c.lastReceived.Load()) }

// RefusalCount returns how many channels the server has refused. The master keeps some memory for each.
func (c *Conn) RefusalCount() int { return int(c.refusalCount.Load()) }

func (c *Conn) closeWithError(err error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = err
	streams := c.streams
	c.streams = nil
	close(c.doneCh)
	c.mu.Unlock()
	for _, s := range streams {
		s.closeWithError(err)
	}
	_ = c.socket.Close()
}

// Open opens a channel to an address as the server resolves it, and returns when the server has connected. The error is an
// *OpenChannelError, the context's, or that of Err.
func (c *Conn) Open(ctx context.Context, host string, port int) (*Stream, error) {
	// The originator, a placeholder here, only appears in the server's log.
	address := appendUint32(appendString(nil, host), uint32(port)) //nolint:gosec // a port
	return c.openChannel(ctx, "direct-tcpip", appendUint32(appendString(address, "127.0.0.1"), 0))
}

// Ping returns when the server has answered. It requests a channel of a type that no server knows, which every server must
// refuse without connecting anywhere.
func (c *Conn) Ping(ctx context.Context) error {
	s, err := c.openChannel(ctx, "ping@localport.sh", nil)
	if err == nil {
		return s.Close()
	}
	if _, isRefused := errors.AsType[*OpenChannelError](err); isRefused {
		return nil
	}
	return err
}

func (c *Conn) openChannel(ctx context.Context, channelType string, typeData []byte) (*Stream, error) {
	s := newStream(c)
	if err := c.addStream(s); err != nil {
		return nil, err
	}
	sentAt := time.Now()
	body := appendUint32(appendUint32(appendUint32(appendString(nil, channelType), s.id), initialWindow), maxPacketSize)
	if err := c.send(s, messageChannelOpen, net.Buffers{encodeMessage(messageChannelOpen, append(body, typeData...))}); err != nil {
		return nil, err
	}
	delays := wait.Backoff{First: c.windowBudget.minimumRTT() + acknowledgeDelay, Max: time.Second, Factor: 4}
	timer := time.NewTimer(delays.Next())
	defer timer.Stop()
	for sendCount, n := c.sendCount.Load(), 0; ; {
		select {
		case <-s.openResultCh:
			c.windowBudget.addRTT(time.Since(sentAt))
			result, err := s.openResult()
			if err == nil {
				c.acknowledgeSoon()
			}
			return result, err
		case <-ctx.Done():
			_ = s.Close()
			return nil, ctx.Err()
		case <-timer.C:
			now := c.sendCount.Load()
			if now == sendCount { // nothing was sent since
				go c.acknowledge(now) // a write may block for as long as the master does not read
				now++
			}
			sendCount = now
			if n++; n < maxAcknowledgements {
				timer.Reset(delays.Next())
			}
		}
	}
}

func (c *Conn) addStream(s *Stream) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	for c.streams[c.nextID] != nil {
		c.nextID++
	}
	s.id = c.nextID
	c.nextID++
	c.streams[s.id] = s
	return nil
}

func (c *Conn) removeStream(s *Stream) {
	c.windowBudget.removeStream(s)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.streams, s.id)
}

func (c *Conn) findStream(id uint32) *Stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.streams[id]
}

// send writes messages of one stream. After its close message nothing is sent: the server may have given the channel's number
// to another channel.
func (c *Conn) send(s *Stream, kind byte, messages net.Buffers) error {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	if s.isCloseSent || s.isEOFSent && kind == messageData {
		return net.ErrClosed
	}
	s.isCloseSent = kind == messageClose
	s.isEOFSent = s.isEOFSent || kind == messageEOF
	return c.write(messages)
}

// write writes messages. writeMu is held.
func (c *Conn) write(messages net.Buffers) error {
	c.sendCount.Add(1)
	if err := c.writer.WriteBuffers(messages); err != nil {
		c.closeWithError(ErrMasterEnded)
		return c.Err()
	}
	return nil
}

// sshd does not send a small segment while another one is not acknowledged (Nagle's algorithm, RFC 9293, section 3.7.4), and a system without
// anything to send waits 40 ms before it acknowledges. That happens where only the server speaks: the confirmation of the first channel
// waits for the acknowledgement of what sshd announces after a login, and the first data of the far end for that of the confirmation. A message
// that every server ignores makes the system acknowledge at once.
const (
	acknowledgeDelay    = time.Millisecond // how long to wait for something else to be sent
	maxAcknowledgements = 3                // while a channel is being opened
)

// acknowledgeSoon makes the system acknowledge what has arrived, if nothing else is sent.
func (c *Conn) acknowledgeSoon() {
	sendCount := c.sendCount.Load()
	time.AfterFunc(acknowledgeDelay, func() { c.acknowledge(sendCount) })
}

// acknowledge sends a message that the server ignores, unless something was sent since c.sendCount had the value sendCount, or is being sent.
func (c *Conn) acknowledge(sendCount int64) {
	if !c.writeMu.TryLock() {
		return
	}
	defer c.writeMu.Unlock()
	if c.sendCount.Load() == sendCount && !wait.IsClosed(c.doneCh) {
		_ = c.write(net.Buffers{encodeMessage(messageIgnore, appendString(nil, ""))}) // fails only if the master has ended
	}
}

// readLoop reads and handles messages until the connection ends.
func (c *Conn) readLoop() {
	defer close(c.readerDoneCh)
	defer func() {
		if panicValue := recover(); panicValue != nil { // a bug costs this connection alone
			c.closeWithError(fmt.Errorf("panic while reading: %v", panicValue))
		}
	}()
	in := bufio.NewReaderSize(socketcall.NewReader(c.socket), readBufferSize)
	for {
		if err := c.readMessage(in); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) {
				err = ErrMasterEnded
			}
			if _, isNetError := errors.AsType[net.Error](err); isNetError {
				err = ErrMasterEnded
			}
			c.closeWithError(err)
			return
		}
	}
}

// readMessage reads and handles one message.
func (c *Conn) readMessage(in *bufio.Reader) error {
	var header [messageHeaderSize]byte
	if _, err := io.ReadFull(in, header[:]); err != nil {
		return err
	}
	c.lastReceived.Store(time.Now().UnixNano())
	n, kind := int(binary.BigEndian.Uint32(header[:]))-2, header[5]
	if n < 4 || n > maxMessageSize {
		return fmt.Errorf("the ssh master sent a message with an invalid length of %d bytes", n)
	}
	if kind == messageData {
		return c.readData(in, n)
	}
	message := make([]byte, n)
	if _, err := io.ReadFull(in, message); err != nil {
		return err
	}
	return c.handleMessage(kind, &messageReader{unread: message})
}

// readData hands data to its stream. All of it is buffered first, so that a stream's lock is never held while waiting for the
// master.
func (c *Conn) readData(in *bufio.Reader, n int) error {
	if n < 8 || n > 8+maxPacketSize {
		return fmt.Errorf("the ssh master sent a data message with an invalid length of %d bytes", n)
	}
	message, err := in.Peek(n)
	if err != nil {
		return err
	}
	if int(binary.BigEndian.Uint32(message[4:])) != n-8 {
		return errors.New("the ssh master sent a data message whose two lengths differ")
	}
	if s := c.findStream(binary.BigEndian.Uint32(message)); s != nil {
		err = s.enqueue(message[8:])
	}
	_, _ = in.Discard(n)
	return err
}

// handleMessage applies a channel message. One for an unknown channel is ignored: it may be late.
func (c *Conn) handleMessage(kind byte, r *messageReader) error {
	s := c.findStream(r.readUint32())
	if s == nil {
		return nil
	}
	switch kind {
	case messageOpenConfirmation:
		s.confirmOpen(r.readUint32(), int(r.readUint32()), int(r.readUint32()))
	case messageOpenFailure:
		c.refusalCount.Add(1)
		s.refuseOpen(&OpenChannelError{Reason: r.readUint32(), Message: string(r.readString())})
	case messageWindowAdjust:
		s.growSendWindow(int(r.readUint32()))
	case messageEOF:
		s.handleEOF()
	case messageClose:
		s.handleClose()
	case messageRequest:
		r.readString()
		if r.readBool() {
			_ = s.sendMessage(messageFailure, nil) // fails only if the stream is closed
		}
		return nil
	case messageExtendedData: // only sessions have extended data, and none is opened here
		return errors.New("the ssh master sent unrequested extended data")
	}
	if r.isTruncated {
		return fmt.Errorf("the ssh master sent a truncated message of type %d", kind)
	}
	return nil
}
