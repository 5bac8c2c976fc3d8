package server

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// rightsListener accepts connections of this user and root, which keep a file that is sent with a request.
type rightsListener struct{ net.Listener }

// Accept closes connections of other users: the modes of the socket and its directory keep them out, unless somebody has changed those.
func (l rightsListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		unixConn, ok := conn.(*net.UnixConn)
		if !ok {
			return conn, err
		}
		if uid, err := peerUID(unixConn); err == nil && (uid == os.Getuid() || uid == 0) {
			return &rightsConn{UnixConn: unixConn}, nil
		}
		conn.Close()
	}
}

// rightsConn is a connection of which Read keeps the last file that was received (SCM_RIGHTS in unix(7)).
type rightsConn struct {
	*net.UnixConn

	mu   sync.Mutex // guards file
	file *os.File
}

func (c *rightsConn) Read(b []byte) (int, error) {
	var buffer [64]byte // holds one descriptor; the kernel closes those that do not fit
	oob := buffer[:unix.CmsgSpace(4)]
	n, oobn, _, _, err := c.ReadMsgUnix(b, oob)
	if oobn > 0 {
		c.keepFile(oob[:oobn])
	}
	if errors.Is(err, io.EOF) {
		err = io.EOF // net/http compares it
	}
	return n, err
}

// keepFile keeps the last descriptor of a control message.
func (c *rightsConn) keepFile(oob []byte) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return
	}
	for _, message := range messages {
		fds, err := unix.ParseUnixRights(&message)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			_ = unix.SetNonblock(fd, true) // so that it can be waited for without a thread
			c.replaceFile(os.NewFile(uintptr(fd), "received file"))
		}
	}
}

func (c *rightsConn) replaceFile(file *os.File) {
	if previous := c.takeFile(); previous != nil {
		previous.Close()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.file = file
}

// takeFile returns the file, which the caller closes; nil if there is none.
func (c *rightsConn) takeFile() *os.File {
	c.mu.Lock()
	defer c.mu.Unlock()
	file := c.file
	c.file = nil
	return file
}

// Close closes the connection, and the file if nobody has taken it.
func (c *rightsConn) Close() error {
	c.replaceFile(nil)
	return c.UnixConn.Close()
}
