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
	"time"

	"go.uber.org/goleak"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// backend answers as its functions say.
type backend struct {
	Backend
	status func(context.Context) (api.Status, error)
	end    func() error
}

func (b backend) Status(ctx context.Context) (api.Status, error) { return b.status(ctx) }
func (b backend) End(context.Context) error                      { return b.end() }

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
		return api.Status{}, errors.New(`no service "db" in the config that runs`)
	}})
	if _, err := (client.Client{Socket: ln.Addr().String()}).Status(t.Context()); err == nil || err.Error() != `no service "db" in the config that runs` {
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
