// Package mux is a client of an ssh master, the process behind "ssh -M". A Control sends it requests; a Conn opens channels
// over its connection and carries their bytes, as "ssh -O proxy" does. The protocols are PROTOCOL.mux of OpenSSH's sources and
// RFC 4254.
package mux

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Messages of PROTOCOL.mux.
const (
	messageHello          = 0x00000001
	requestOpenForward    = 0x10000006
	requestCloseForward   = 0x10000007
	requestStopListening  = 0x10000009
	requestProxy          = 0x1000000f
	replyOK               = 0x80000001
	replyPermissionDenied = 0x80000002
	replyFailure          = 0x80000003
	replyRemotePort       = 0x80000007
	replyProxy            = 0x8000000f
)

const (
	protocolVersion   = 4
	forwardTypeRemote = 2
	maxReplySize      = 64 << 10 // bytes; replies are far shorter
)

// Control is a connection to a master's control socket. Its methods may be called concurrently.
type Control struct {
	mu            sync.Mutex // held from a request to its reply; guards lastRequestID
	socket        *net.UnixConn
	lastRequestID uint32
}

// Dial connects to the master that listens at path. The caller closes the Control.
func Dial(ctx context.Context, path string) (*Control, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	c := &Control{socket: conn.(*net.UnixConn)}
	if err := c.runWithContext(ctx, c.exchangeHello); err != nil {
		conn.Close()
		return nil, fmt.Errorf("handshake with the ssh master: %w", err)
	}
	return c, nil
}

// Close closes the connection. The forwards that it opened stay open.
func (c *Control) Close() error { return c.socket.Close() }

// exchangeHello sends our hello message and reads the master's. Each side sends its own unasked.
func (c *Control) exchangeHello() error {
	if err := c.writePacket(appendUint32(appendUint32(nil, messageHello), protocolVersion)); err != nil {
		return err
	}
	reply, err := c.readPacket()
	if err != nil {
		return err
	}
	if kind, version := reply.readUint32(), reply.readUint32(); reply.isTruncated || kind != messageHello || version != protocolVersion {
		return fmt.Errorf("unsupported protocol: message %#x, version %d; want message %#x, version %d", kind, version, messageHello, protocolVersion)
	}
	return nil
}

// runWithContext calls f and aborts its reads and writes when ctx ends.
func (c *Control) runWithContext(ctx context.Context, f func() error) error {
	stop := context.AfterFunc(ctx, func() { _ = c.socket.SetDeadline(time.Unix(1, 0)) })
	err := f()
	if !stop() {
		_ = c.socket.SetDeadline(time.Time{})
		if err != nil {
			return ctx.Err()
		}
	}
	return err
}

// sendRequest sends a request and returns the type and the body of its reply. The error is the master's own text, or that of the
// connection.
func (c *Control) sendRequest(ctx context.Context, kind uint32, body []byte) (replyKind uint32, reply *messageReader, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastRequestID++
	err = c.runWithContext(ctx, func() error {
		if err := c.writePacket(append(appendUint32(appendUint32(nil, kind), c.lastRequestID), body...)); err != nil {
			return err
		}
		for {
			if reply, err = c.readPacket(); err != nil {
				return err
			}
			replyKind = reply.readUint32()
			switch id := reply.readUint32(); {
			case reply.isTruncated || id > c.lastRequestID:
				return fmt.Errorf("the ssh master answered request %d; the last one was %d", id, c.lastRequestID)
			case id == c.lastRequestID:
				return nil
			} // else a late reply to a request whose context has ended
		}
	})
	if err != nil {
		return 0, nil, err
	}
	if replyKind == replyFailure || replyKind == replyPermissionDenied {
		return 0, nil, errors.New(string(reply.readString()))
	}
	return replyKind, reply, nil
}

// StopListening makes the master close its control socket and remove the file, so that nobody else connects. The master then
// exits with the last of its connections.
func (c *Control) StopListening(ctx context.Context) error {
	_, _, err := c.sendRequest(ctx, requestStopListening, nil)
	return err
}

// RemoteForward is a listener on the server whose connections ssh makes from this machine (ssh -R).
type RemoteForward struct {
	ListenHost string // an address of the server; empty: the server's default, usually localhost
	ListenPort int
	DialHost   string // seen from this machine
	DialPort   int
}

func (f RemoteForward) encode() []byte {
	b := appendString(appendUint32(nil, forwardTypeRemote), f.ListenHost)
	b = appendString(appendUint32(b, uint32(f.ListenPort)), f.DialHost) //nolint:gosec // a port
	return appendUint32(b, uint32(f.DialPort))                          //nolint:gosec // a port
}

// OpenForward makes the server listen. The error is the server's refusal in ssh's own text.
func (c *Control) OpenForward(ctx context.Context, f RemoteForward) error {
	_, _, err := c.sendRequest(ctx, requestOpenForward, f.encode())
	return err
}

// OpenForwardAnywhere makes the server listen on a port of its choice, and returns that. ListenPort must be 0, here and for CloseForward.
func (c *Control) OpenForwardAnywhere(ctx context.Context, f RemoteForward) (port int, err error) {
	kind, reply, err := c.sendRequest(ctx, requestOpenForward, f.encode())
	if err != nil {
		return 0, err
	}
	if port = int(reply.readUint32()); kind != replyRemotePort || reply.isTruncated {
		return 0, fmt.Errorf("unexpected reply %#x to a request to listen", kind)
	}
	return port, nil
}

// CloseForward closes the listener; its connections stay open.
func (c *Control) CloseForward(ctx context.Context, f RemoteForward) error {
	_, _, err := c.sendRequest(ctx, requestCloseForward, f.encode())
	return err
}

// OpenProxy turns the control connection into a Conn, which the caller closes. The Control is of no further use, and closed after
// an error.
func (c *Control) OpenProxy(ctx context.Context) (*Conn, error) {
	replyKind, _, err := c.sendRequest(ctx, requestProxy, nil)
	if err == nil && replyKind != replyProxy {
		err = fmt.Errorf("unexpected reply %#x", replyKind)
	}
	if err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("request proxy mode: %w", err)
	}
	_ = c.socket.SetWriteBuffer(1 << 20) // best effort: a large buffer saves wake-ups of bulk writers
	return newConn(c.socket), nil
}

// writePacket writes a packet: its length, its body.
func (c *Control) writePacket(body []byte) error {
	_, err := c.socket.Write(append(appendUint32(nil, uint32(len(body))), body...)) //nolint:gosec // a body is short
	return err
}

func (c *Control) readPacket() (*messageReader, error) {
	var head [4]byte
	if _, err := io.ReadFull(c.socket, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxReplySize {
		return nil, fmt.Errorf("the ssh master sent a reply of %d bytes", n)
	}
	body := make([]byte, n)
	_, err := io.ReadFull(c.socket, body)
	return &messageReader{unread: body}, err
}
