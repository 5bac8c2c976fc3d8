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

// bridge is a private listener that leads through the tunnel for as long as one check takes: the service's own listener
// accepts with nothing behind it, and would count the check among its clients.
type bridge struct {
	ln     net.Listener
	path   probe.Path
	ended  <-chan struct{} // closed when the check is over
	cancel context.CancelFunc
	all    sync.WaitGroup

	mu     sync.Mutex
	failed error // why the last connection could not be carried
}

func open(ctx context.Context, path probe.Path) (*bridge, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("open a way for the check: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	b := &bridge{ln: ln, path: path, ended: ctx.Done(), cancel: cancel}
	b.all.Go(func() { b.accept(ctx) })
	return b, nil
}

func (b *bridge) addr() (host, port string) {
	addr := b.ln.Addr().(*net.TCPAddr)
	return addr.IP.String(), strconv.Itoa(addr.Port)
}

// close ends every connection, and returns when none is left.
func (b *bridge) close() {
	b.cancel()
	b.ln.Close()
	b.all.Wait()
}

// explain is the error of a check. Where the way itself failed, that is why, and it is no bad answer of the service's.
func (b *bridge) explain(err error) error {
	select {
	case <-b.ended:
		return err
	default:
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed == nil {
		return err
	}
	return fmt.Errorf("%w (%s)", b.failed, err.Error())
}

func (b *bridge) accept(ctx context.Context) {
	for {
		conn, err := b.ln.Accept()
		if err != nil {
			return
		}
		b.all.Go(func() { b.carry(ctx, conn) })
	}
}

func (b *bridge) carry(ctx context.Context, near net.Conn) {
	defer near.Close()
	far, err := b.path.Dial(ctx)
	if err != nil {
		b.mu.Lock()
		b.failed = err
		b.mu.Unlock()
		if tcp, ok := near.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // the program is to see a reset, not an empty answer
		}
		return
	}
	defer far.Close()
	stop := context.AfterFunc(ctx, func() { near.Close(); far.Close() })
	defer stop()
	var sending sync.WaitGroup
	sending.Go(func() { pass(far, near) })
	pass(near, far)
	sending.Wait()
}

// pass copies until the end, and passes the end on where that can be done.
func pass(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
		return
	}
	to.Close()
}
