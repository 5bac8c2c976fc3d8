package probe

import (
	"errors"
	"net"
)

// MaxAnswer is how many bytes a server may send during one check where the protocol's library sets no limit: without one, a server could make
// the supervisor allocate whatever it likes.
const MaxAnswer = 16 << 20

// errAnswerTooLong ends a connection whose server has sent more than MaxAnswer.
var errAnswerTooLong = errors.New("the server sent more than 16 MB")

// LimitAnswer returns conn, from which at most MaxAnswer bytes can be read. It passes an error on, as Dialer.Dial returns it.
func LimitAnswer(conn net.Conn, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	return &limitedConn{conn, MaxAnswer}, nil
}

type limitedConn struct {
	net.Conn
	left int
}

// Read implements net.Conn. It is not called concurrently.
func (c *limitedConn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errAnswerTooLong
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}
