package native

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/kubectl/spdy"
)

// conn is a connection as the relay has it: one end of a pair of sockets, so that it can be half-closed, waited for and
// spliced like any other.
type conn struct {
	*net.UnixConn
	broken atomic.Bool
}

// Broken reports whether the connection's end was none that the far end meant: a client is to see a reset then, which a
// pair of sockets cannot carry.
func (c *conn) Broken() bool { return c.broken.Load() }

// socketPair makes a connection and our end of it.
func socketPair() (c *conn, ours *net.UnixConn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	unix.CloseOnExec(fds[0])
	unix.CloseOnExec(fds[1])
	theirs, err := unixConn(fds[0])
	if err != nil {
		_ = unix.Close(fds[1])
		return nil, nil, err
	}
	if ours, err = unixConn(fds[1]); err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return &conn{UnixConn: theirs}, ours, nil
}

func unixConn(fd int) (*net.UnixConn, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "pair")
	defer file.Close()
	c, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	return c.(*net.UnixConn), nil
}

// flow is a connection on its way between the pair of sockets and the streams.
type flow struct {
	*pair
	tunnel *tunnel
	conn   *conn // as the relay has it
	ours   *net.UnixConn
	raw    syscall.RawConn
}

// carry copies both ways until both ways have ended, and gives the upstream back.
func (f *flow) carry() {
	var near sync.WaitGroup
	near.Go(f.near)
	clean := f.far()
	near.Wait()
	f.abort() // of a stream that has ended properly nothing is said any more
	f.tunnel.give(f.up, clean)
}

// far carries what comes back. It is true if the connection ended in good order, on either side.
func (f *flow) far() bool {
	defer f.ours.Close()
	n, err := f.data.WriteTo(f.ours)
	answered := n > 0 || f.data.Received() > 0
	if ended := f.data.Ended(); ended == nil || err != nil && errors.Is(ended, io.EOF) {
		return false // it is the client who does not want it any more
	}
	if r, refused := refusal(f.why(answered)); refused {
		f.report(r, answered)
		return errors.Is(err, io.EOF) || err == nil
	}
	if err != nil {
		f.conn.broken.Store(true)
		if !answered { // who has sent nothing either loses nothing by another attempt
			f.tunnel.report(forwarder.Refusal{Conn: f.conn, Reason: fmt.Sprintf("the connection to the pod's node broke: %v", err)})
		}
		return false
	}
	_ = f.ours.CloseWrite()
	_, err = f.errs.WriteTo(io.Discard) // until the node lets go of the other direction too
	return err == nil
}

// report says what the node said of a connection: to the relay, which may have it tried anew.
func (f *flow) report(r forwarder.Refusal, answered bool) {
	r.Conn = f.conn
	if r.Connect = r.Connect && !answered; r.Connect {
		f.tunnel.finder.refuse(f.up.uid)
	} else {
		f.conn.broken.Store(true)
	}
	f.tunnel.report(r)
}

// near carries what the client sends.
func (f *flow) near() {
	for {
		room, n, err := f.read()
		if err != nil || n == 0 {
			break
		}
		err = f.data.Send(room, n)
		room.Free()
		if err != nil {
			return // the far side tells
		}
	}
	_ = f.data.CloseWrite()
	f.awaitHangup()
	f.abort()
}

// read waits for bytes and lends room only when there are some.
func (f *flow) read() (room *spdy.Room, n int, err error) {
	waitErr := f.raw.Read(func(fd uintptr) bool {
		room = spdy.NewRoom()
		for {
			n, err = syscall.Read(int(fd), room.Bytes())
			if !errors.Is(err, syscall.EINTR) {
				break
			}
		}
		if err == nil && n > 0 {
			return true
		}
		room.Free()
		room = nil
		return !errors.Is(err, syscall.EAGAIN)
	})
	if waitErr != nil {
		return nil, 0, waitErr
	}
	return room, max(n, 0), err
}

// awaitHangup returns when the client's side is closed altogether, or ours is.
func (f *flow) awaitHangup() {
	_ = f.raw.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd)}}
		n, err := unix.Poll(fds, 0)
		return err == nil && n > 0 && fds[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
	})
}
