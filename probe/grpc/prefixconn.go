package grpc

import (
	"net"
	"sync"
)

// prefixConn keeps the first bytes received on a connection. The transport's error for a server without
// HTTP/2 is not always the same.
type prefixConn struct {
	net.Conn
	mu     sync.Mutex
	prefix []byte
}

// frameHeadLength is the length of a frame's head up to its type, the last of these bytes (RFC 9113, 4.1).
const frameHeadLength = 4

func (c *prefixConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	if missing := frameHeadLength - len(c.prefix); missing > 0 {
		c.prefix = append(c.prefix, p[:min(n, missing)]...)
	}
	return n, err
}

// isHTTP2 reports whether the received bytes begin with a SETTINGS frame (RFC 9113, 3.4). It returns true if too few
// bytes were received to tell.
func (c *prefixConn) isHTTP2() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	const settings = 4
	return len(c.prefix) < frameHeadLength || c.prefix[frameHeadLength-1] == settings
}
