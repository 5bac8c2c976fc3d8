package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/forwarder/server"
)

// controlSocket is the unix socket that serves the control API. It can be rebound if its file is deleted. It is safe for concurrent use.
type controlSocket struct {
	backend    server.Backend
	log        *slog.Logger
	listenerCh chan *net.UnixListener // listeners for serve

	mu       sync.Mutex // guards the fields below
	listener *net.UnixListener
	file     socketFile
	serveErr error // of server.Serve
	isClosed bool
}

// socketFile identifies a socket file; another one at the same path is not equal.
type socketFile struct {
	Path string `json:"path"`
	Dev  uint64 `json:"dev"`
	Ino  uint64 `json:"ino"`
}

// statSocket identifies the file at a path.
func statSocket(path string) (socketFile, error) {
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		return socketFile{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return socketFile{path, uint64(stat.Dev), stat.Ino}, nil //nolint:unconvert // Dev is narrower on other systems
}

func newControlSocket(backend server.Backend, log *slog.Logger) *controlSocket {
	return &controlSocket{backend: backend, log: log, listenerCh: make(chan *net.UnixListener, 1)}
}

// listen uses an inherited socket if it is still reachable at file, where it was bound. Otherwise it binds a new one at path.
func (c *controlSocket) listen(path string, inherited []*os.File, file socketFile) error {
	defer closeFiles(inherited)
	listener, err := inheritSocket(inherited, file)
	if listener == nil && err == nil {
		if listener, err = server.Listen(path); err == nil {
			file, err = statSocket(path)
		}
	}
	if err != nil {
		return err
	}
	listener.SetUnlinkOnClose(false) // close does it, if the file is still this socket's
	c.setListener(listener, file)
	return nil
}

// inheritSocket returns the inherited listener; nil if there is none or its path has been removed or replaced.
func inheritSocket(inherited []*os.File, file socketFile) (*net.UnixListener, error) {
	if len(inherited) == 0 {
		return nil, nil
	}
	if now, err := statSocket(file.Path); file.Path != "" && (err != nil || now != file) {
		return nil, nil
	}
	l, err := net.FileListener(inherited[0])
	if err != nil {
		return nil, err
	}
	listener, ok := l.(*net.UnixListener)
	if !ok {
		l.Close()
		return nil, fmt.Errorf("take over the control socket: the keeper handed over a %s listener, not a unix socket", l.Addr().Network())
	}
	return listener, nil
}

// setListener replaces the listener.
func (c *controlSocket) setListener(listener *net.UnixListener, file socketFile) {
	c.mu.Lock()
	before := c.listener
	c.listener, c.file = listener, file
	closed := c.isClosed
	c.mu.Unlock()
	if before != nil {
		before.Close() // its file is gone or belongs to another socket
	}
	if closed {
		listener.Close()
		return
	}
	c.listenerCh <- listener
}

// serve serves every listener until ctx ends.
func (c *controlSocket) serve(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	receiveEach(ctx, c.listenerCh, func(listener *net.UnixListener) {
		wg.Go(func() {
			if err := server.Serve(ctx, listener, c.backend, c.log); err != nil {
				c.mu.Lock()
				defer c.mu.Unlock()
				c.serveErr = err
			}
		})
	})
}

// isReachable reports whether the socket's file is where it was bound, or the socket is closed for good.
func (c *controlSocket) isReachable() bool {
	c.mu.Lock()
	file, closed := c.file, c.isClosed
	c.mu.Unlock()
	if closed {
		return true
	}
	now, err := statSocket(file.Path)
	return err == nil && now == file
}

// rebind binds a new socket at path if the file of the old one no longer leads to it, and reports whether it did.
func (c *controlSocket) rebind(path string) (bool, error) {
	if c.isReachable() {
		return false, nil
	}
	if now, err := statSocket(path); err == nil && !isDeadSocket(now.Path) {
		return false, fmt.Errorf("another process listens at %s", path)
	}
	err := c.listen(path, nil, socketFile{})
	return err == nil, err
}

// isDeadSocket reports whether no process listens at a path.
func isDeadSocket(path string) bool {
	conn, err := net.Dial("unix", path)
	if err == nil {
		conn.Close()
		return false
	}
	return errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTSOCK)
}

// copyListener returns a copy of the listener, which the caller closes.
func (c *controlSocket) copyListener() ([]*os.File, error) {
	c.mu.Lock()
	listener := c.listener
	c.mu.Unlock()
	file, err := listener.File()
	if err != nil {
		return nil, err
	}
	return []*os.File{file}, nil
}

func (c *controlSocket) path() string { return c.boundFile().Path }

// boundFile is the file of the current listener.
func (c *controlSocket) boundFile() socketFile {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.file
}

// close closes the listener and removes its file, if that still belongs to it.
func (c *controlSocket) close() {
	file := c.closeListener()
	if now, err := statSocket(file.Path); err == nil && now == file {
		_ = os.Remove(file.Path)
	}
}

// closeListener closes the listener and leaves its file to a successor.
func (c *controlSocket) closeListener() socketFile {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isClosed = true
	if c.listener != nil {
		c.listener.Close()
	}
	return c.file
}

func (c *controlSocket) err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.serveErr
}
