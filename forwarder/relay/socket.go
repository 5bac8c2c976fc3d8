package relay

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/forwarder"
)

// socket is what the relay needs of a connection. *net.TCPConn and *net.UnixConn are sockets.
type socket interface {
	net.Conn
	syscall.Conn
	CloseWrite() error
}

// way is a connection through a tunnel: a socket, or a forwarder.Stream.
type way interface {
	net.Conn
	CloseWrite() error
}

// wayOf is the connection that a tunnel gave, and its descriptor if it is a socket.
func wayOf(conn net.Conn) (way, syscall.RawConn, error) {
	if s, ok := conn.(forwarder.Stream); ok {
		return s, nil, nil
	}
	s, ok := conn.(socket)
	if !ok {
		return nil, nil, fmt.Errorf("the tunnel gave a %T, which is neither a socket nor a stream", conn)
	}
	raw, err := s.SyscallConn()
	return s, raw, err
}

// reset closes a socket so that its peer sees a reset, and what was not sent yet is dropped. Other ways have no
// reset: their peer sees an end of file.
func reset(s way) {
	if tcp, ok := s.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	s.Close()
}

// past is a deadline that has been missed, which wakes whoever reads.
var past = time.Unix(1, 0)

// watch parks until the socket is broken by its peer, and returns why. It consumes nothing and sees neither bytes nor
// their end; a deadline (os.ErrDeadlineExceeded) or a close (net.ErrClosed) ends it as well.
//
// A reset behind bytes that nobody has read shows only in the socket's error: to read, or to peek, is to see the bytes.
func watch(raw syscall.RawConn) error {
	var broken error
	err := raw.Read(func(fd uintptr) bool {
		broken = pending(fd)
		return broken != nil
	})
	if err != nil {
		return err
	}
	return broken
}

// errHungUp says that the peer has closed its socket altogether, which a unix socket tells and TCP does not.
var errHungUp = errors.New("hung up")

// watchEnd is watch for a socket whose bytes have ended: it also returns, with errHungUp, when the peer has gone.
func watchEnd(raw syscall.RawConn) error {
	var broken error
	err := raw.Read(func(fd uintptr) bool {
		// In this order: a reset between the two looks would be taken for a proper end.
		gone := hungUp(fd)
		if broken = pending(fd); broken == nil && gone {
			broken = errHungUp
		}
		return broken != nil
	})
	if err != nil {
		return err
	}
	return broken
}

func hungUp(fd uintptr) bool {
	fds := []unix.PollFd{{Fd: int32(fd)}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0 && fds[0].Revents&unix.POLLHUP != 0
}

func pending(fd uintptr) error {
	errno, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ERROR)
	if err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	if errno != 0 {
		return syscall.Errno(errno)
	}
	return nil
}

// shut closes a socket, by a reset where the connection is broken.
func shut(s way, broken bool) {
	if broken {
		reset(s)
		return
	}
	s.Close()
}
