package grpc

import (
	"net"
	"sync"
)

// prefixConn keeps the first bytes received on a connection. The transport's error for a server that does not
// speak HTTP/2 is not always the same.
type prefixConn struct {
	net.Conn
	mu     sync.Mutex
	prefix []byte
}

// frameHeadLength is the length of a frame's head up to its type, the last of these bytes (RFC 9113, 4.1).
const frameHeadLength = 4

func (o *prefixConn) Read(p []byte) (int, error) {
	n, err := o.Conn.Read(p)
	o.mu.Lock()
	defer o.mu.Unlock()
	if missing := frameHeadLength - len(o.prefix); missing > 0 {
		o.prefix = append(o.prefix, p[:min(n, missing)]...)
	}
	return n, err
}

// isHTTP2 reports whether the received bytes begin with a SETTINGS frame (RFC 9113, 3.4). It returns true if too few
// bytes were received to tell.
func (o *prefixConn) isHTTP2() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	const settings = 4
	return len(o.prefix) < frameHeadLength || o.prefix[frameHeadLength-1] == settings
}
