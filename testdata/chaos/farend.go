package chaos

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"sync"
)

// farEnd is where the services of a project lead to: a server that counts the records of each client and acknowledges
// them. It refuses a record that is not the next one of its client, whichever connection it comes through: one that was
// acknowledged must never come again.
type farEnd struct {
	addr string
	fail func(format string, args ...any)

	mu       sync.Mutex
	listener net.Listener // nil while it is gone
	conns    map[net.Conn]bool
	last     map[string]int // by client
	serving  sync.WaitGroup
}

func newFarEnd(fail func(string, ...any)) (*farEnd, error) {
	f := &farEnd{fail: fail, addr: "127.0.0.1:0", conns: map[net.Conn]bool{}, last: map[string]int{}}
	if err := f.begin(); err != nil {
		return nil, err
	}
	f.addr = f.listener.Addr().String()
	return f, nil
}

// begin listens, again at the same address.
func (f *farEnd) begin() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.listener != nil {
		return nil
	}
	l, err := net.Listen("tcp", f.addr)
	if err != nil {
		return fmt.Errorf("listen for the far end: %w", err)
	}
	f.listener = l
	f.serving.Go(func() { f.accept(l) })
	return nil
}

// end closes the listener and resets all connections.
func (f *farEnd) end() {
	f.mu.Lock()
	if f.listener != nil {
		f.listener.Close()
		f.listener = nil
	}
	for conn := range f.conns {
		_ = conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}
	f.mu.Unlock()
	f.serving.Wait()
}

func (f *farEnd) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		f.mu.Lock()
		gone := f.listener != l
		if !gone {
			f.conns[conn] = true
		}
		f.mu.Unlock()
		if gone {
			conn.Close()
			continue
		}
		f.serving.Go(func() {
			f.serve(conn)
			f.mu.Lock()
			delete(f.conns, conn)
			f.mu.Unlock()
			conn.Close()
		})
	}
}

func (f *farEnd) serve(conn net.Conn) {
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		var client string
		var number int
		if _, err := fmt.Sscanf(lines.Text(), "%s %d", &client, &number); err != nil {
			f.fail("the far end got %q, which no client sent", lines.Text())
			return
		}
		f.mu.Lock()
		last, known := f.last[client]
		f.last[client] = number
		f.mu.Unlock()
		if number != last+1 || !known && number != 1 {
			f.fail("record %d of client %s came after record %d, which was acknowledged", number, client, last)
			return
		}
		if _, err := fmt.Fprintf(conn, "%s %d%s\n", client, number, padding); err != nil {
			return
		}
	}
}

// padding makes an acknowledgement long enough that a part of it could be lost.
var padding = strings.Repeat(".", 200)
