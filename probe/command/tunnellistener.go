package command

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"

	"github.com/localport-sh/localport/probe"
)

// tunnelListener is a private listener that forwards through the tunnel during one check: the service's own listener
// accepts even if nothing is behind it, and would count the check as a client.
type tunnelListener struct {
	ln          net.Listener
	path        probe.Dialer
	doneCh      <-chan struct{} // closed when the check is over
	cancel      context.CancelFunc
	connections sync.WaitGroup

	mu      sync.Mutex
	dialErr error // why the last connection could not be carried
}

func openListener(ctx context.Context, path probe.Dialer) (*tunnelListener, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the check: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	b := &tunnelListener{ln: ln, path: path, doneCh: ctx.Done(), cancel: cancel}
	b.connections.Go(func() { b.accept(ctx) })
	return b, nil
}

func (b *tunnelListener) addr() (host, port string) {
	addr := b.ln.Addr().(*net.TCPAddr)
	return addr.IP.String(), strconv.Itoa(addr.Port)
}

// close closes every connection and waits for their goroutines.
func (b *tunnelListener) close() {
	b.cancel()
	b.ln.Close()
	b.connections.Wait()
}

// explainError returns the error of a check. If a dial failed, that is the cause, and not a bad answer of the service.
func (b *tunnelListener) explainError(err error) error {
	select {
	case <-b.doneCh:
		return err
	default:
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.dialErr == nil {
		return err
	}
	return fmt.Errorf("%w (%s)", b.dialErr, err.Error())
}

func (b *tunnelListener) accept(ctx context.Context) {
	for {
		conn, err := b.ln.Accept()
		if err != nil {
			return
		}
		b.connections.Go(func() { b.forward(ctx, conn) })
	}
}

func (b *tunnelListener) forward(ctx context.Context, client net.Conn) {
	defer client.Close()
	upstream, err := b.path.Dial(ctx)
	if err != nil {
		b.mu.Lock()
		b.dialErr = err
		b.mu.Unlock()
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
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
		return
	}
	to.Close()
}
