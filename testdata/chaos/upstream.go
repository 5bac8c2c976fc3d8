package chaos

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"sync"

	"github.com/localport-sh/localport/testdata/ports"
)

// upstreamServer is the server that all services of a project lead to. It acknowledges the records of each client. A record that
// does not follow the client's last one is a violation, on whichever connection it comes: an acknowledged one must never come again.
type upstreamServer struct {
	addr string
	port *ports.Port // of addr, reserved while the server is stopped too
	fail func(format string, args ...any)

	mu         sync.Mutex   // guards the fields that follow
	listener   net.Listener // nil while it is stopped
	conns      map[net.Conn]bool
	lastRecord map[string]int // by client name
	goroutines sync.WaitGroup
}

func startUpstreamServer(fail func(string, ...any)) (*upstreamServer, error) {
	port, err := ports.Reserve()
	if err != nil {
		return nil, err
	}
	s := &upstreamServer{fail: fail, port: port, addr: fmt.Sprintf("127.0.0.1:%d", port.Number), conns: map[net.Conn]bool{}, lastRecord: map[string]int{}}
	return s, s.start()
}

// start listens at the address that the server had before, unless it listens already.
func (s *upstreamServer) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener != nil {
		return nil
	}
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		return fmt.Errorf("listen for the upstream: %w", err)
	}
	s.listener = l
	s.goroutines.Go(func() { s.acceptConns(l) })
	return nil
}

// stop closes the listener and resets all connections.
func (s *upstreamServer) stop() {
	s.mu.Lock()
	if s.listener != nil {
		s.listener.Close()
		s.listener = nil
	}
	for conn := range s.conns {
		_ = conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}
	s.mu.Unlock()
	s.goroutines.Wait()
}

func (s *upstreamServer) acceptConns(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		isStopped := s.listener != l
		if !isStopped {
			s.conns[conn] = true
		}
		s.mu.Unlock()
		if isStopped {
			conn.Close()
			continue
		}
		s.goroutines.Go(func() {
			s.acknowledgeRecords(conn)
			s.mu.Lock()
			delete(s.conns, conn)
			s.mu.Unlock()
			conn.Close()
		})
	}
}

func (s *upstreamServer) acknowledgeRecords(conn net.Conn) {
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		var client string
		var number int
		if _, err := fmt.Sscanf(lines.Text(), "%s %d", &client, &number); err != nil {
			s.fail("the upstream received %q, which no client sent", lines.Text())
			return
		}
		s.mu.Lock()
		last := s.lastRecord[client]
		s.lastRecord[client] = number
		s.mu.Unlock()
		if number != last+1 {
			s.fail("record %d of client %s came after record %d, which was acknowledged", number, client, last)
			return
		}
		if _, err := fmt.Fprintf(conn, "%s %d%s\n", client, number, padding); err != nil {
			return
		}
	}
}

// padding makes an acknowledgement long enough that it can arrive in part.
var padding = strings.Repeat(".", 200)
