package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// backend answers as its functions say.
type backend struct {
	Backend
	status func(context.Context) (api.Status, error)
	end    func() error
	watch  func(ctx context.Context, on func(api.Status) error) error
	join   func(api.JoinRequest) error
}

func (b backend) Join(_ context.Context, r api.JoinRequest) (api.ProjectView, error) {
	return api.ProjectView{}, b.join(r)
}

func (b backend) Status(ctx context.Context) (api.Status, error) { return b.status(ctx) }
func (b backend) End(context.Context) error                      { return b.end() }
func (b backend) Watch(ctx context.Context, on func(api.Status) error) error {
	return b.watch(ctx, on)
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	dir, err := os.MkdirTemp("", "lp") //nolint:usetesting // t.TempDir is too long for the path of a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	ln, err := Listen(filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func serve(t *testing.T, ln net.Listener, b Backend) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, ln, b, slog.New(slog.NewTextHandler(io.Discard, nil))) }()
	return func() error { cancel(); return <-served }
}

func TestServe_ClientTimesOutOnStuckSupervisor(t *testing.T) {
	ln := listen(t)
	stop := serve(t, ln, backend{status: func(ctx context.Context) (api.Status, error) {
		<-ctx.Done()
		return api.Status{}, ctx.Err()
	}})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := client.Client{Socket: ln.Addr().String()}.Status(ctx)
	lost := &client.UnreachableError{}
	if !errors.As(err, &lost) || !strings.Contains(err.Error(), "no answer in time") {
		t.Errorf("got %v", err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestServe_AnswersRequestThatClosesTheSocket(t *testing.T) {
	ln := listen(t)
	stop := serve(t, ln, backend{end: func() error { return ln.Close() }})
	if err := (client.Client{Socket: ln.Addr().String()}).End(t.Context()); err != nil {
		t.Error(err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestServe_PassesErrorTextUnchanged(t *testing.T) {
	ln := listen(t)
	stop := serve(t, ln, backend{status: func(context.Context) (api.Status, error) {
		return api.Status{}, errors.New(`no service "db" in the active config`)
	}})
	if _, err := (client.Client{Socket: ln.Addr().String()}).Status(t.Context()); err == nil || err.Error() != `no service "db" in the active config` {
		t.Errorf("got %v", err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestClient_NoSupervisorIsUnreachableError(t *testing.T) {
	_, err := client.Client{Socket: filepath.Join(t.TempDir(), "none")}.Status(t.Context())
	lost := &client.UnreachableError{}
	if !errors.As(err, &lost) {
		t.Errorf("got %v", err)
	}
}

func TestListen_SocketIsPrivateAndReplacesDeadOne(t *testing.T) {
	ln := listen(t)
	path := ln.Addr().String()
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	ln.Close()
	again, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

// pipeListener accepts one connection, made of net.Pipe.
type pipeListener struct {
	connCh   chan net.Conn
	closedCh chan struct{}
}

func (l pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.connCh:
		return conn, nil
	case <-l.closedCh:
		return nil, net.ErrClosed
	}
}
func (l pipeListener) Close() error   { close(l.closedCh); return nil }
func (l pipeListener) Addr() net.Addr { return &net.UnixAddr{} }

func TestWatch_DisconnectsStoppedReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := pipeListener{make(chan net.Conn, 1), make(chan struct{})}
		watchErrCh := make(chan error, 1)
		stop := serve(t, ln, backend{watch: func(_ context.Context, on func(api.Status) error) error {
			var err error
			for err == nil {
				err = on(api.Status{})
			}
			watchErrCh <- err
			return err
		}})
		theirs, ours := net.Pipe()
		defer ours.Close()
		ln.connCh <- theirs
		startTime := time.Now()
		if _, err := io.WriteString(ours, "GET /v1/watch HTTP/1.1\r\nHost: localport\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(ours, make([]byte, 10)); err != nil { // the first bytes, and no more
			t.Fatal(err)
		}
		if err := <-watchErrCh; !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(startTime) != watchWriteTimeout {
			t.Errorf("after %v: %v", time.Since(startTime), err)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// A client in another PID namespace sends a pidfd.
func TestServe_ReceivesAFileWithAJoin(t *testing.T) {
	ln := listen(t)
	stop := serve(t, ln, backend{
		join: func(r api.JoinRequest) error {
			if r.PIDFD == nil {
				return errors.New("no file")
			}
			defer r.PIDFD.Close()
			_, err := r.PIDFD.WriteString(r.Holder.Dir)
			return err
		},
		status: func(context.Context) (api.Status, error) { return api.Status{}, nil },
	})
	defer func() { _ = stop() }()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	c := client.Client{Socket: ln.Addr().String()}
	long := strings.Repeat("x", 1000)
	if _, err := c.Join(t.Context(), api.JoinRequest{Holder: &api.Lease{Dir: "hello"}, PIDFD: writer, Path: long}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Join(t.Context(), api.JoinRequest{}); err == nil || err.Error() != "no file" {
		t.Errorf("a join without a file: %v", err)
	}

	// A file that nobody asked for is closed with the connection.
	conn, err := net.Dial("unix", c.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, _, err := conn.(*net.UnixConn).WriteMsgUnix([]byte("GET /v1/status HTTP/1.0\r\nHost: localport\r\n\r\n"), unix.UnixRights(int(writer.Fd())), nil); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.0 200") {
		t.Errorf("%q, %v", answer, err)
	}
	writer.Close()
	if got, err := io.ReadAll(reader); string(got) != "hello" || err != nil { // to the end of file: every copy is closed
		t.Errorf("through the file: %q, %v", got, err)
	}
}
