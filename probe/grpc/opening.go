package grpc

import (
	"net"
	"sync"
)

// opening keeps the first bytes that come back over a connection. What the transport makes of a far end that does not
// speak HTTP/2 differs from time to time.
type opening struct {
	net.Conn
	mu    sync.Mutex
	bytes []byte
}

// frameHead is as much of a frame as tells its type, which is the last of these bytes (RFC 9113, 4.1).
const frameHead = 4

func (o *opening) Read(p []byte) (int, error) {
	n, err := o.Conn.Read(p)
	o.mu.Lock()
	defer o.mu.Unlock()
	if missing := frameHead - len(o.bytes); missing > 0 {
		o.bytes = append(o.bytes, p[:min(n, missing)]...)
	}
	return n, err
}

// settings reports whether what came begins as HTTP/2 does, with a SETTINGS frame (RFC 9113, 3.4). Of nothing it cannot
// be told.
func (o *opening) settings() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	const settings = 4
	return len(o.bytes) < frameHead || o.bytes[frameHead-1] == settings
}
