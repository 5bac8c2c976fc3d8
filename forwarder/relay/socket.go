package relay

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/socketcall"
)

// socket is a connection with a file descriptor of its own: *net.TCPConn or *net.UnixConn.
type socket interface {
	net.Conn
	syscall.Conn
	CloseWrite() error
}

// halfCloseConn is a connection whose sending side can be closed alone: a socket or a forwarder.Stream.
type halfCloseConn interface {
	net.Conn
	CloseWrite() error
}

// asUpstream returns the connection that a tunnel's Dial returned, and its descriptor if it is a socket.
func asUpstream(conn net.Conn) (halfCloseConn, syscall.RawConn, error) {
	if s, ok := conn.(forwarder.Stream); ok {
		return s, nil, nil
	}
	s, ok := conn.(socket)
	if !ok {
		return nil, nil, fmt.Errorf("the tunnel returned a %T, which is neither a socket nor a stream", conn)
	}
	rawConn, err := s.SyscallConn()
	return s, rawConn, err
}

// resetConn closes a TCP connection by a reset; unsent bytes are dropped. Unix sockets and streams have no reset: their
// peer sees the end of the stream.
func resetConn(conn halfCloseConn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	conn.Close()
}

// pastDeadline is a deadline in the past, which makes a blocked read return at once.
var pastDeadline = time.Unix(1, 0)

// awaitSocketError waits until the socket has an error, such as its peer's reset, and returns it. It reads nothing and does
// not return for bytes or a half-close. A read deadline (os.ErrDeadlineExceeded) or a close (net.ErrClosed) ends it too.
//
// A reset that follows bytes that were not read shows only in SO_ERROR: a read, or a peek, returns the bytes first.
func awaitSocketError(rawConn syscall.RawConn) error { return awaitError(rawConn, readSocketError) }

// awaitError calls check at each event of the socket until it returns an error, which awaitError returns.
func awaitError(rawConn syscall.RawConn, check func(fd uintptr) error) error {
	var checkErr error
	err := rawConn.Read(func(fd uintptr) bool {
		checkErr = check(fd)
		return checkErr != nil
	})
	return cmp.Or(err, checkErr)
}

// errPeerClosed is returned when the peer has closed its socket in both directions, which a unix socket reports and TCP
// does not.
var errPeerClosed = errors.New("closed by the peer")

// awaitPeerClose is awaitSocketError for a socket at the end of its stream: it also returns errPeerClosed.
func awaitPeerClose(rawConn syscall.RawConn) error {
	return awaitError(rawConn, func(fd uintptr) error {
		// In this order: a reset between the two system calls would otherwise be taken for a proper end.
		isClosed := hasHungUp(fd)
		if err := readSocketError(fd); err != nil || !isClosed {
			return err
		}
		return errPeerClosed
	})
}

func hasHungUp(fd uintptr) bool {
	fds := []unix.PollFd{{Fd: int32(fd)}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0 && fds[0].Revents&unix.POLLHUP != 0
}

func readSocketError(fd uintptr) error {
	errno, err := socketcall.TakeError(fd)
	if err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	if errno != 0 {
		return errno
	}
	return nil
}

func closeConn(conn halfCloseConn, byReset bool) {
	if byReset {
		resetConn(conn)
		return
	}
	conn.Close()
}

// closeWrite closes the sending side of a connection; rawConn is nil for a stream.
func closeWrite(conn halfCloseConn, rawConn syscall.RawConn) {
	if rawConn == nil {
		_ = conn.CloseWrite()
		return
	}
	_ = rawConn.Control(socketcall.ShutdownWrite)
}
