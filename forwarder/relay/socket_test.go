package relay

import (
	"errors"
	"io"
	"net"
	"testing"
)

func TestAResetIsNoHangUpWheneverItComes(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for range 3000 {
		conn, err := net.Dial("tcp4", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		far, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		near := conn.(*net.TCPConn)
		raw, err := near.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		_ = far.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, near)
		watching, over := make(chan struct{}), make(chan error)
		go func() {
			close(watching)
			over <- watchEnd(raw)
		}()
		<-watching
		reset(far.(*net.TCPConn))
		if err := <-over; errors.Is(err, errHungUp) {
			t.Fatal("a reset was taken for a proper end")
		}
		near.Close()
	}
}
