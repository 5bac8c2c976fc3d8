package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/testdata/executable"
	"github.com/localport-sh/localport/testdata/manualdeadline"
	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/syncbuf"
)

// roleVariable makes the test binary play the program of a tunnel.
const roleVariable = "LOCALPORT_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "":
		goleak.VerifyTestMain(m)
	case "echo":
		playEcho("127.0.0.1:" + os.Args[1])
	case "detached echo":
		startDetachedEcho()
	case "echo6":
		playEcho("[::1]:" + os.Args[1])
	case "single connection":
		playSingleConnection()
	case "on request":
		playOnRequest()
	}
}

// startDetachedEcho starts an echo server in another session, as a program that runs a daemon does, and waits for a signal.
func startDetachedEcho() {
	server := exec.Command(os.Args[0], os.Args[1])
	server.Env = append(os.Environ(), roleVariable+"=echo")
	server.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := server.Start(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	<-signals
}

// playEcho prints its arguments and echoes.
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

// playOnRequest listens and prints what clients send: that it is ready, that the user must log in.
func playOnRequest() {
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
		line, _ := io.ReadAll(conn)
		fmt.Println(string(line))
		_ = conn.Close()
	}
}

// playSingleConnection accepts one connection, stops listening, tells the client so and keeps running.
func playSingleConnection() {
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

// logBuffer is a log that calls onLine, if it is set, for each line.
type logBuffer struct {
	syncbuf.Buffer
	onLine func(string)
}

func (l *logBuffer) Write(p []byte) (int, error) {
	if l.onLine != nil {
		l.onLine(strings.TrimSpace(string(p)))
	}
	return l.Buffer.Write(p)
}

func newRun(t *testing.T, role string) forwarder.Run {
	t.Helper()
	return forwarder.Run{Dir: t.TempDir(), Env: append(os.Environ(), roleVariable+"="+role), Log: &logBuffer{}}
}

func testBinary(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// newService returns a service that runs a program.
func newService(argv ...string) project.Service {
	return project.Service{Connection: project.Connection{Settings: project.Settings{"command": argv}}}
}

func openTunnel(t *testing.T, run forwarder.Run, argv ...string) forwarder.Tunnel {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tunnel, err := driver{}.Open(ctx, newService(argv...), run)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tunnel.Close() })
	return tunnel
}

// openFailure returns the failure of an open that must fail.
func openFailure(t *testing.T, ctx context.Context, run forwarder.Run, argv ...string) *forwarder.Failure {
	t.Helper()
	tunnel, err := driver{}.Open(ctx, newService(argv...), run)
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

func TestTunnel_ListenerInAnotherSessionIsAcceptedAndEnded(t *testing.T) {
	run := newRun(t, "detached echo")
	run.ID = "detached." + strconv.Itoa(os.Getpid())
	tunnel := openTunnel(t, run, testBinary(t), "{port}")
	requireEcho(t, tunnel)
	if err := tunnel.Close(); err != nil {
		t.Fatal(err)
	}
	if conn, err := tunnel.Dial(t.Context()); err == nil {
		_ = conn.Close()
		t.Error("the server still listens")
	}
}

// A container's proxy runs as root and has nothing to do with the program, which waits for the container.
func TestTunnel_ListenerOfAnUnrelatedProcessIsAcceptedWhileTheProgramRuns(t *testing.T) {
	run := newRun(t, "")
	go func() {
		for {
			select {
			case <-t.Context().Done():
				return
			case <-time.After(time.Millisecond):
			}
			data, _ := os.ReadFile(filepath.Join(run.Dir, "port"))
			port, ok := strings.CutSuffix(string(data), "\n")
			if !ok {
				continue
			}
			l, err := net.Listen("tcp", "127.0.0.1:"+port)
			if err != nil {
				t.Error(err)
				return
			}
			context.AfterFunc(t.Context(), func() { _ = l.Close() })
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}
		}
	}()
	requireEcho(t, openTunnel(t, run, "sh", "-c", "echo {port} > port; exec sleep 1000"))
}

func requireEcho(t *testing.T, tunnel forwarder.Tunnel) {
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

func waitDone(t *testing.T, tunnel forwarder.Tunnel) {
	t.Helper()
	select {
	case <-tunnel.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the tunnel did not end")
	}
}

func TestTunnel_CarriesBytesOverEitherLoopback(t *testing.T) {
	for _, role := range []string{"echo", "echo6"} {
		t.Run(role, func(t *testing.T) {
			if l, err := net.Listen("tcp6", "[::1]:0"); err != nil && role == "echo6" {
				t.Skipf("IPv6 is missing: %v", err)
			} else if err == nil {
				_ = l.Close()
			}
			requireEcho(t, openTunnel(t, newRun(t, role), testBinary(t), "{port}"))
		})
	}
}

func TestDriver_OpenReplacesEveryPlaceholder(t *testing.T) {
	printed := make(chan string, 1)
	r := newRun(t, "echo")
	r.Log = &logBuffer{onLine: func(line string) { printed <- line }}
	tunnel := openTunnel(t, r, testBinary(t), "{port}", "--at={port}/{port}", "$HOME;`id`").(*tunnel)
	want := strings.ReplaceAll("[P --at=P/P $HOME;`id`]", "P", fmt.Sprint(tunnel.addr.Port()))
	if got := <-printed; got != want {
		t.Errorf("arguments %q, want %q", got, want)
	}
}

func TestDriver_OpenAcceptsListenerOfGrandchild(t *testing.T) {
	requireEcho(t, openTunnel(t, newRun(t, "echo"), "sh", "-c", `"$0" "$1" & wait`, testBinary(t), "{port}"))
}

func TestDriver_OpenIgnoresListenerOfOtherProcess(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("/proc is missing")
	}
	r := newRun(t, "")
	var otherListener net.Listener
	deadline := manualdeadline.New(t.Context())
	r.Log = &logBuffer{onLine: func(port string) {
		otherListener, _ = net.Listen("tcp", "127.0.0.1:"+port)
		time.AfterFunc(detachedDelay/2, func() { close(deadline.DoneCh) }) // before a listener of another session is accepted
	}}
	f := openFailure(t, deadline, r, "sh", "-c", `echo "$1"; exec sleep 1000`, "sh", "{port}")
	if otherListener == nil {
		t.Fatal("the other process could not listen")
	}
	defer otherListener.Close()
	if !strings.Contains(f.Reason, "does not listen on port") {
		t.Errorf("reason %q", f.Reason)
	}
}

func TestDriver_OpenFailureQuotesOutputOfExitedProgram(t *testing.T) {
	r := newRun(t, "")
	f := openFailure(t, t.Context(), r, "sh", "-c", "echo starting; echo 'no such project: {port}' >&2; exit 3")
	if f.Class != forwarder.Transient || !strings.Contains(f.Reason, "sh exited: exit status 3: ") ||
		!strings.Contains(f.Reason, "no such project: ") {
		t.Errorf("got %+v", f)
	}
	if log := fmt.Sprint(r.Log); !strings.Contains(log, "no such project: ") {
		t.Errorf("the log has %q", log)
	}
	if f := openFailure(t, t.Context(), r, "sh", "-c", "exit 1"); !strings.Contains(f.Reason, "printed nothing") {
		t.Errorf("got %+v", f)
	}
}

func TestDriver_MissingProgramNeedsAttention(t *testing.T) {
	r := newRun(t, "")
	r.Env = append(r.Env, "PATH=/no/where")
	f := openFailure(t, t.Context(), r, "no-such-proxy", "{port}")
	if f.Class != forwarder.NeedsUser || !strings.Contains(f.Reason, "/no/where") || f.Hint == "" {
		t.Errorf("got %+v", f)
	}
	if err := os.WriteFile(filepath.Join(r.Dir, "text"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if f := openFailure(t, t.Context(), r, "./text", "{port}"); f.Class != forwarder.Permanent {
		t.Errorf("got %+v", f)
	}
}

func TestDriver_ScriptWithCarriageReturnsIsExplained(t *testing.T) {
	// env exits with 127, or with 126 if a directory of PATH may not be searched.
	for text, want := range map[string]string{"#!/bin/sh\r\nexit 0\r\n": "its lines end with a carriage return", "#!/usr/bin/env bash\r\nexit 0\r\n": "exited: exit status 12"} {
		r := newRun(t, "")
		if err := executable.WriteFile(filepath.Join(r.Dir, "proxy"), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		f := openFailure(t, t.Context(), r, "./proxy", "{port}")
		if !strings.Contains(f.Reason, want) || !strings.HasPrefix(f.Hint, "remove the carriage returns: ") {
			t.Fatalf("%q: got %+v", text, f)
		}
		if out, err := exec.Command("sh", "-c", strings.TrimPrefix(f.Hint, "remove the carriage returns: ")).CombinedOutput(); err != nil { // the hint works
			t.Fatalf("%v: %s", err, out)
		}
		if f := openFailure(t, t.Context(), r, "./proxy", "{port}"); !strings.Contains(f.Reason, "exit status 0") || strings.Contains(f.Hint, "carriage") {
			t.Errorf("after the hint: %+v", f)
		}
	}
}

func TestLogin_SaysWhyItsProgramCannotBeExecuted(t *testing.T) {
	r := newRun(t, "")
	if err := executable.WriteFile(filepath.Join(r.Dir, "sign-in"), []byte("#!/no/such/python\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	svc := newService("proxy", "{port}")
	svc.Connection.Settings["login"] = []string{"./sign-in"}
	_, _, err := newLogin(svc, r.Dir, r.Env).Run(t.Context(), forwarder.Terminal{})
	if f, ok := errors.AsType[*forwarder.Failure](err); !ok || !strings.Contains(f.Reason, "/no/such/python, does not exist") || !strings.Contains(f.Hint, "install python") {
		t.Errorf("got %v", err)
	}
}

func TestDriver_CancelledOpenReturnsContextError(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := newRun(t, "")
	r.Log = &logBuffer{onLine: func(string) { cancel() }}
	_, err := driver{}.Open(ctx, newService("sh", "-c", "echo {port}; exec sleep 1000"), r)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestTunnel_EndsWithItsProgram(t *testing.T) {
	tunnel := openTunnel(t, newRun(t, "echo"), testBinary(t), "{port}").(*tunnel)
	if err := syscall.Kill(tunnel.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitDone(t, tunnel)
	if f, ok := errors.AsType[*forwarder.Failure](tunnel.Err()); !ok || !strings.Contains(f.Reason, "killed") {
		t.Errorf("got %v", tunnel.Err())
	}
	if _, err := tunnel.Dial(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("dial after the end: %v", err)
	}
	_ = tunnel.Close()
	if tunnel.Err() == nil {
		t.Error("Close after the end removed the reason")
	}
}

func TestTunnel_CloseLeavesNoError(t *testing.T) {
	tunnel := openTunnel(t, newRun(t, "echo"), testBinary(t), "{port}")
	_ = tunnel.Close()
	waitDone(t, tunnel)
	if err := tunnel.Err(); err != nil {
		t.Error(err)
	}
}

func TestTunnel_RefusedDialIsRefusalWhileProgramRuns(t *testing.T) {
	tunnel := openTunnel(t, newRun(t, "single connection"), testBinary(t), "{port}")
	conn, err := tunnel.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(conn); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	_, err = tunnel.Dial(t.Context())
	if r, ok := errors.AsType[*forwarder.Refusal](err); !ok || !r.IsConnectFailure {
		t.Errorf("got %v, want a refusal", err)
	}
}

func TestDriver_TargetOmitsArguments(t *testing.T) {
	got := driver{}.Target(newService("/opt/bin/proxy", "--token=secret"))
	if got != "command proxy" {
		t.Errorf("got %q", got)
	}
}

// sendLine makes playOnRequest print a line.
func sendLine(t *testing.T, port, line string) {
	t.Helper()
	conn, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(line)); err != nil {
		t.Fatal(err)
	}
}

func TestTunnel_IsReadyAfterListenerAndReadyLine(t *testing.T) {
	r := newRun(t, "on request")
	listening := make(chan struct{})
	r.Log = &logBuffer{onLine: func(line string) {
		if line == "listening" {
			close(listening)
		}
	}}
	port := strconv.Itoa(ports.FreePort(t))
	svc := newService("sh", "-c", `exec "$0" `+port, testBinary(t))
	svc.Name, svc.Connection.Settings["ready"], svc.Connection.Settings["needs_login"] = "db", "^ready .* now$", "expired"
	tunnel := &tunnel{programSpec: newProgramSpec(svc), program: "proxy", log: r.Log, readyCh: make(chan struct{}), startedCh: make(chan struct{})}
	program, err := process.Start(process.Command{Argv: tunnel.argv, Dir: r.Dir, Env: r.Env, OnLines: tunnel.handleLines})
	if err != nil {
		t.Fatal(err)
	}
	tunnel.Child = program
	close(tunnel.startedCh)
	defer func() { _ = tunnel.Close() }()
	<-listening
	number, _ := strconv.ParseUint(port, 10, 16)
	shortCtx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if err := tunnel.waitReady(shortCtx, uint16(number)); err == nil || !strings.Contains(err.Error(), "has printed no line that matches ready") {
		t.Errorf("before the ready line: %v", err)
	}
	sendLine(t, port, "ready for you now")
	if err := tunnel.waitReady(t.Context(), uint16(number)); err != nil {
		t.Fatal(err)
	}
	sendLine(t, port, "the session has expired")
	waitDone(t, tunnel)
	f, ok := errors.AsType[*forwarder.Failure](tunnel.Err())
	if !ok || f.Class != forwarder.NeedsUser || f.Reason != "proxy needs a login: the session has expired" || !strings.Contains(f.Hint, "localport restart db") {
		t.Errorf("got %+v", f)
	}
}
