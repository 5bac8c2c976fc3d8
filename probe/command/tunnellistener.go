package command

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"

	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/probe"
)

// tunnelListener is a private listener that forwards through the tunnel during one check: the service's own listener
// accepts even if nothing is behind it, and would count the check as a client.
type tunnelListener struct {
	ln     net.Listener
	dialer probe.Dialer
	doneCh <-chan struct{} // closed when the check is over
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	dialErr error // why the last connection could not be carried
}

func openListener(ctx context.Context, dialer probe.Dialer) (*tunnelListener, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the check: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	l := &tunnelListener{ln: ln, dialer: dialer, doneCh: ctx.Done(), cancel: cancel}
	l.wg.Go(func() { l.accept(ctx) })
	return l, nil
}

func (l *tunnelListener) addr() (host, port string) {
	addr := l.ln.Addr().(*net.TCPAddr)
	return addr.IP.String(), strconv.Itoa(addr.Port)
}

// close closes every connection and waits for their goroutines.
func (l *tunnelListener) close() {
	l.cancel()
	l.ln.Close()
	l.wg.Wait()
}

// explainError returns the error of a check. If a dial failed, that is the cause, and not a bad answer of the service.
func (l *tunnelListener) explainError(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dialErr == nil || wait.IsClosed(l.doneCh) {
		return err
	}
	return fmt.Errorf("%w (%s)", l.dialErr, err.Error())
}

func (l *tunnelListener) accept(ctx context.Context) {
	for {
		conn, err := l.ln.Accept()
		if err != nil {
			return
		}
		l.wg.Go(func() { l.forward(ctx, conn) })
	}
}

func (l *tunnelListener) forward(ctx context.Context, client net.Conn) {
	defer client.Close()
	upstream, err := l.dialer.Dial(ctx)
	if err != nil {
		l.mu.Lock()
		l.dialErr = err
		l.mu.Unlock()
		if tcp, ok := client.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // so that the program sees a reset, not an empty answer
		}
		return
	}
	defer upstream.Close()
	stop := context.AfterFunc(ctx, func() { client.Close(); upstream.Close() })
	defer stop()
	var sending sync.WaitGroup
	sending.Go(func() { copyHalf(upstream, client) })
	copyHalf(client, upstream)
	sending.Wait()
}

// copyHalf copies until EOF, then half-closes to if it can, else closes it.
func copyHalf(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	if halfCloser, ok := to.(interface{ CloseWrite() error }); ok {
		_ = halfCloser.CloseWrite()
		return
	}
	to.Close()
}
