package supervisor

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/forwarder/server"
)

// controlSocket is where clients reach the supervisor. Its path may vanish while it lives, and is bound again then.
type controlSocket struct {
	backend    *Supervisor
	listenerCh chan *net.UnixListener // a listener that is to be served

	mu       sync.Mutex // guards the fields below
	listener *net.UnixListener
	file     socketFile
	serveErr error // of serving
	isClosed bool
}

// socketFile tells a socket in the file system from another one at the same path.
type socketFile struct {
	Path string `json:"path"`
	Dev  uint64 `json:"dev"`
	Ino  uint64 `json:"ino"`
}

// statSocket is the file that lies at a path now.
func statSocket(path string) (socketFile, error) {
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		return socketFile{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return socketFile{path, uint64(stat.Dev), stat.Ino}, nil //nolint:unconvert // Dev is narrower on other systems
}

func newControlSocket(s *Supervisor) *controlSocket {
	return &controlSocket{backend: s, listenerCh: make(chan *net.UnixListener, 1)}
}

// listen binds a new socket at a path, or takes over one that was handed over: file is where that was bound. One that cannot be
// reached there any more is given up.
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
	listener.SetUnlinkOnClose(false) // by close, which looks whose file it is
	c.setListener(listener, file)
	return nil
}

// inheritSocket is the listener that was handed over; nil if there is none, or if its path leads elsewhere by now.
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
		return nil, errors.New("take over the control socket: it is a " + l.Addr().Network())
	}
	return listener, nil
}

// setListener makes a listener the one that clients are served on.
func (c *controlSocket) setListener(listener *net.UnixListener, file socketFile) {
	c.mu.Lock()
	before := c.listener
	c.listener, c.file = listener, file
	closed := c.isClosed
	c.mu.Unlock()
	if before != nil {
		before.Close() // its file is gone, or another's
	}
	if closed {
		listener.Close()
		return
	}
	c.listenerCh <- listener
}

// serve answers clients until ctx ends.
func (c *controlSocket) serve(ctx context.Context) {
	var serving sync.WaitGroup
	defer serving.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case listener := <-c.listenerCh:
			serving.Go(func() {
				if err := server.Serve(ctx, listener, c.backend, c.backend.log); err != nil {
					c.mu.Lock()
					c.serveErr = err
					c.mu.Unlock()
				}
			})
		}
	}
}

// rebind binds the socket again if its path does not lead to it any more, and reports whether it did. path is where it belongs.
func (c *controlSocket) rebind(path string) (bool, error) {
	c.mu.Lock()
	file, closed := c.file, c.isClosed
	c.mu.Unlock()
	if now, err := statSocket(file.Path); closed || err == nil && now == file {
		return false, nil
	}
	if now, err := statSocket(path); err == nil && !isDeadSocket(now.Path) {
		return false, errors.New(path + " is another process's socket")
	}
	if err := c.listen(path, nil, socketFile{}); err != nil {
		return false, err
	}
	return true, nil
}

// isDeadSocket reports whether nobody listens at a path.
func isDeadSocket(path string) bool {
	conn, err := net.Dial("unix", path)
	if err == nil {
		conn.Close()
		return false
	}
	return errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTSOCK)
}

// copyListener are copies of the listener, for the caller to close.
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

// boundFile is where the socket was bound last.
func (c *controlSocket) boundFile() socketFile {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.file
}

// close ends the listening and removes the socket's file, if that is still this one.
func (c *controlSocket) close() {
	file := c.closeListener()
	if now, err := statSocket(file.Path); err == nil && now == file {
		_ = os.Remove(file.Path)
	}
}

// closeListener ends the listening here and leaves the file to a successor.
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
