package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/testdata/ports"
)

// role makes the test binary play the program of a tunnel.
const role = "LOCALPORT_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "":
		goleak.VerifyTestMain(m)
	case "echo":
		playEcho("127.0.0.1:" + os.Args[1])
	case "echo6":
		playEcho("[::1]:" + os.Args[1])
	case "quitter":
		playQuitter()
	case "late":
		playLate()
	}
}

// playEcho says its arguments and gives back what it gets.
func playEcho(addr string) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(os.Args[1:])
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			_, _ = io.Copy(conn, conn)
			_ = conn.Close()
		}()
	}
}

// playLate listens, and says that it is ready, or that the user must log in, when a client tells it to.
func playLate() {
	l, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		os.Exit(1)
	}
	fmt.Println("listening")
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		word, _ := io.ReadAll(conn)
		fmt.Println(string(word))
		_ = conn.Close()
	}
}

// playQuitter takes one connection, stops listening, says so and stays.
func playQuitter() {
	l, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		os.Exit(1)
	}
	conn, err := l.Accept()
	if err != nil {
		os.Exit(1)
	}
	_ = l.Close()
	_, _ = conn.Write([]byte("closed"))
	_ = conn.Close()
	select {}
}

// logged is a log that can be read while it is written.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
	line func(string)
}

func (l *logged) Write(p []byte) (int, error) {
	if l.line != nil {
		l.line(strings.TrimSpace(string(p)))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func run(t *testing.T, play string) forwarder.Run {
	t.Helper()
	return forwarder.Run{Dir: t.TempDir(), Env: append(os.Environ(), role+"="+play), Log: &logged{}}
}

func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// running is a service that runs a program.
func running(argv ...string) project.Service {
	return project.Service{Connection: project.Connection{Settings: project.Settings{"command": argv}}}
}

func open(t *testing.T, run forwarder.Run, argv ...string) forwarder.Tunnel {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tunnel, err := driver{}.Open(ctx, running(argv...), run)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tunnel.Close() })
	return tunnel
}

// fails opens what cannot be opened.
func fails(t *testing.T, ctx context.Context, run forwarder.Run, argv ...string) *forwarder.Failure {
	t.Helper()
	tunnel, err := driver{}.Open(ctx, running(argv...), run)
	if err == nil {
		_ = tunnel.Close()
		t.Fatal("opened")
	}
	failure, ok := errors.AsType[*forwarder.Failure](err)
	if !ok {
		t.Fatalf("got %v, want a failure", err)
	}
	return failure
}

func echo(t *testing.T, tunnel forwarder.Tunnel) {
	t.Helper()
	conn, err := tunnel.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); err != nil || string(got) != "hello" {
		t.Errorf("got %q, %v", got, err)
	}
}

func ended(t *testing.T, tunnel forwarder.Tunnel) {
	t.Helper()
	select {
	case <-tunnel.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the tunnel did not end")
	}
}

func TestReadyTunnelCarriesBytes(t *testing.T) {
	for _, play := range []string{"echo", "echo6"} {
		t.Run(play, func(t *testing.T) {
			if l, err := net.Listen("tcp6", "[::1]:0"); err != nil && play == "echo6" {
				t.Skipf("IPv6 is missing: %v", err)
			} else if err == nil {
				_ = l.Close()
			}
			echo(t, open(t, run(t, play), self(t), "{port}"))
		})
	}
}

func TestEveryPlaceholderIsReplaced(t *testing.T) {
	said := make(chan string, 1)
	r := run(t, "echo")
	r.Log = &logged{line: func(line string) { said <- line }}
	tunnel := open(t, r, self(t), "{port}", "--at={port}/{port}", "$HOME;`id`").(*tunnel)
	want := strings.ReplaceAll("[P --at=P/P $HOME;`id`]", "P", fmt.Sprint(tunnel.addr.Port()))
	if got := <-said; got != want {
		t.Errorf("arguments %q, want %q", got, want)
	}
}

func TestGrandchildMayListen(t *testing.T) {
	echo(t, open(t, run(t, "echo"), "sh", "-c", `"$0" "$1" & wait`, self(t), "{port}"))
}

func TestStrangersListenerIsNotTheTunnel(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("/proc is missing")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := run(t, "")
	var stranger net.Listener
	r.Log = &logged{line: func(port string) { stranger, _ = net.Listen("tcp", "127.0.0.1:"+port) }}
	deadline, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	f := fails(t, deadline, r, "sh", "-c", `echo "$1"; exec sleep 1000`, "sh", "{port}")
	if stranger == nil {
		t.Fatal("the stranger could not listen")
	}
	defer stranger.Close()
	if !strings.Contains(f.Reason, "does not listen on port") {
		t.Errorf("reason %q", f.Reason)
	}
}

func TestProgramThatEndsEarlySaysWhy(t *testing.T) {
	r := run(t, "")
	f := fails(t, t.Context(), r, "sh", "-c", "echo starting; echo 'no such project: {port}' >&2; exit 3")
	if f.Class != forwarder.Transient || !strings.Contains(f.Reason, "sh ended: exit status 3: ") ||
		!strings.Contains(f.Reason, "no such project: ") {
		t.Errorf("got %+v", f)
	}
	if log := fmt.Sprint(r.Log); !strings.Contains(log, "no such project: ") {
		t.Errorf("the log has %q", log)
	}
	if f := fails(t, t.Context(), r, "sh", "-c", "exit 1"); !strings.Contains(f.Reason, "printed nothing") {
		t.Errorf("got %+v", f)
	}
}

func TestProgramThatIsNotThereNeedsAttention(t *testing.T) {
	r := run(t, "")
	r.Env = append(r.Env, "PATH=/no/where")
	f := fails(t, t.Context(), r, "no-such-proxy", "{port}")
	if f.Class != forwarder.ByAttention || !strings.Contains(f.Reason, "/no/where") || f.Hint == "" {
		t.Errorf("got %+v", f)
	}
	if err := os.WriteFile(filepath.Join(r.Dir, "text"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if f := fails(t, t.Context(), r, "./text", "{port}"); f.Class != forwarder.Permanent {
		t.Errorf("got %+v", f)
	}
}

func TestGivenUpOpenIsTheContexts(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := run(t, "")
	r.Log = &logged{line: func(string) { cancel() }}
	_, err := driver{}.Open(ctx, running("sh", "-c", "echo {port}; exec sleep 1000"), r)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestEndOfTheProgramIsTheEndOfTheTunnel(t *testing.T) {
	tunnel := open(t, run(t, "echo"), self(t), "{port}").(*tunnel)
	if err := syscall.Kill(tunnel.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ended(t, tunnel)
	if f, ok := errors.AsType[*forwarder.Failure](tunnel.Err()); !ok || !strings.Contains(f.Reason, "killed") {
		t.Errorf("got %v", tunnel.Err())
	}
	if _, err := tunnel.Dial(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("dial after the end: %v", err)
	}
	_ = tunnel.Close()
	if tunnel.Err() == nil {
		t.Error("a late close hides the reason")
	}
}

func TestClosedTunnelHasNoError(t *testing.T) {
	tunnel := open(t, run(t, "echo"), self(t), "{port}")
	_ = tunnel.Close()
	ended(t, tunnel)
	if err := tunnel.Err(); err != nil {
		t.Error(err)
	}
}

func TestRefusedWhileTheProgramLivesIsARefusal(t *testing.T) {
	tunnel := open(t, run(t, "quitter"), self(t), "{port}")
	conn, err := tunnel.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(conn); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	_, err = tunnel.Dial(t.Context())
	if r, ok := errors.AsType[*forwarder.Refusal](err); !ok || !r.Connect {
		t.Errorf("got %v, want a refusal", err)
	}
}

func TestTargetKeepsArgumentsToItself(t *testing.T) {
	got := driver{}.Target(running("/opt/bin/proxy", "--token=secret"))
	if got != "command proxy" {
		t.Errorf("got %q", got)
	}
}

// tell has a program say something.
func tell(t *testing.T, port, word string) {
	t.Helper()
	conn, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(word)); err != nil {
		t.Fatal(err)
	}
}

func TestAProgramIsUpWhenItListensAndHasSaidSo(t *testing.T) {
	r := run(t, "late")
	listening := make(chan struct{})
	r.Log = &logged{line: func(line string) {
		if line == "listening" {
			close(listening)
		}
	}}
	port := strconv.Itoa(ports.Free(t))
	svc := running("sh", "-c", `exec "$0" `+port, self(t))
	svc.Name, svc.Connection.Settings["ready"], svc.Connection.Settings["needs_login"] = "db", "^ready .* now$", "expired"
	tunnel := &tunnel{spec: specOf(svc), program: "late", log: r.Log, up: make(chan struct{}), started: make(chan struct{})}
	program, err := process.Start(process.Command{Argv: tunnel.argv, Dir: r.Dir, Env: r.Env, OnLine: tunnel.line})
	if err != nil {
		t.Fatal(err)
	}
	tunnel.Child = program
	close(tunnel.started)
	defer func() { _ = tunnel.Close() }()
	<-listening
	number, _ := strconv.ParseUint(port, 10, 16)
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := tunnel.await(short, uint16(number)); err == nil || !strings.Contains(err.Error(), "has not said that it is ready") {
		t.Errorf("before it has said so: %v", err)
	}
	tell(t, port, "ready for you now")
	if err := tunnel.await(t.Context(), uint16(number)); err != nil {
		t.Fatal(err)
	}
	tell(t, port, "the session has expired")
	ended(t, tunnel)
	f, ok := errors.AsType[*forwarder.Failure](tunnel.Err())
	if !ok || f.Class != forwarder.ByAttention || f.Reason != "late needs a login: the session has expired" || !strings.Contains(f.Hint, "localport restart db") {
		t.Errorf("got %+v", f)
	}
}
