package control

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
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "play" {
		os.Exit(play(os.Args[2]))
	}
	goleak.VerifyTestMain(m)
}

// play is a supervisor that is being started and comes to some end.
func play(end string) int {
	switch end {
	case "ready":
		Say(Word{Outcome: Ready})
	case "invalid":
		Say(Word{Outcome: Invalid, Error: "x.toml:1:1: wrong"})
	case "dies":
		println("panic: out of cheese")
		return 2
	}
	return 0
}

func spawner(t *testing.T, end string) Spawner {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Spawner{Exe: exe, Args: []string{"play", end}, Env: os.Environ(), Log: filepath.Join(t.TempDir(), "log")}
}

func TestAStartIsToldByItsWordOrItsDeath(t *testing.T) {
	if word, err := spawner(t, "ready").Spawn(t.Context()); err != nil || word.Outcome != Ready {
		t.Errorf("ready: %+v, %v", word, err)
	}
	start := &StartError{}
	if _, err := spawner(t, "invalid").Spawn(t.Context()); !errors.As(err, &start) || start.Outcome != Invalid {
		t.Errorf("invalid: %v", err)
	}
	if _, err := spawner(t, "dies").Spawn(t.Context()); !errors.As(err, &start) || !strings.Contains(err.Error(), "out of cheese") {
		t.Errorf("dies: %v, want the end of its log", err)
	}
}

// backend answers as its functions say.
type backend struct {
	Backend
	status func(context.Context) (Status, error)
	end    func() error
}

func (b backend) Status(ctx context.Context) (Status, error) { return b.status(ctx) }
func (b backend) End(context.Context) error                  { return b.end() }

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

func TestAStuckSupervisorHangsNoClient(t *testing.T) {
	ln := listen(t)
	stop := serve(t, ln, backend{status: func(ctx context.Context) (Status, error) {
		<-ctx.Done()
		return Status{}, ctx.Err()
	}})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := Client{ln.Addr().String()}.Status(ctx)
	lost := &UnreachableError{}
	if !errors.As(err, &lost) || !strings.Contains(err.Error(), "did not answer in time") {
		t.Errorf("got %v", err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestTheLastAnswerIsGivenAlthoughTheSocketIsClosed(t *testing.T) {
	ln := listen(t)
	stop := serve(t, ln, backend{end: func() error { return ln.Close() }})
	if err := (Client{ln.Addr().String()}).End(t.Context()); err != nil {
		t.Error(err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestAnErrorOfTheSupervisorsComesAsItSaidIt(t *testing.T) {
	ln := listen(t)
	stop := serve(t, ln, backend{status: func(context.Context) (Status, error) {
		return Status{}, errors.New(`no service "db" in the config that runs`)
	}})
	if _, err := (Client{ln.Addr().String()}).Status(t.Context()); err == nil || err.Error() != `no service "db" in the config that runs` {
		t.Errorf("got %v", err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestNoSupervisorIsToldFromOneThatRefuses(t *testing.T) {
	_, err := Client{filepath.Join(t.TempDir(), "none")}.Status(t.Context())
	lost := &UnreachableError{}
	if !errors.As(err, &lost) {
		t.Errorf("got %v", err)
	}
}

func TestTheSocketIsForItsUserAloneAndReplacesADeadOne(t *testing.T) {
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
