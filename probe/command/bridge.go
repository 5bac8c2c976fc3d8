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
	ctx    context.Context
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
	b := &bridge{ln: ln, path: path}
	b.ctx, b.cancel = context.WithCancel(ctx)
	b.all.Go(b.accept)
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
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed == nil || b.ctx.Err() != nil {
		return err
	}
	return fmt.Errorf("%w (%s)", b.failed, err.Error())
}

func (b *bridge) accept() {
	for {
		conn, err := b.ln.Accept()
		if err != nil {
			return
		}
		b.all.Go(func() { b.carry(conn) })
	}
}

func (b *bridge) carry(near net.Conn) {
	defer near.Close()
	far, err := b.path.Dial(b.ctx)
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
	stop := context.AfterFunc(b.ctx, func() { near.Close(); far.Close() })
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
