package relay

import (
	"errors"
	"io"
	"net"
	"testing"
)

func TestAwaitPeerClose_NeverTakesResetForClose(t *testing.T) {
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
		peer, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		socket := conn.(*net.TCPConn)
		rawConn, err := socket.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		_ = peer.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, socket)
		startedCh, resultCh := make(chan struct{}), make(chan error)
		go func() {
			close(startedCh)
			resultCh <- awaitPeerClose(rawConn)
		}()
		<-startedCh
		resetConn(peer.(*net.TCPConn))
		if err := <-resultCh; errors.Is(err, errPeerClosed) {
			t.Fatal("a reset was taken for a close")
		}
		socket.Close()
	}
}
