package grpc

import (
	"net"
	"sync"
)

// prefixConn keeps the first bytes that come back over a connection. What the transport makes of a far end that does not
// speak HTTP/2 differs from time to time.
type prefixConn struct {
	net.Conn
	mu     sync.Mutex
	prefix []byte
}

// frameHeadLength is as much of a frame as tells its type, which is the last of these bytes (RFC 9113, 4.1).
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

// isHTTP2 reports whether what came begins as HTTP/2 does, with a SETTINGS frame (RFC 9113, 3.4). Of nothing it cannot
// be told.
func (o *prefixConn) isHTTP2() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	const settings = 4
	return len(o.prefix) < frameHeadLength || o.prefix[frameHeadLength-1] == settings
}
