package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/probe"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/testdata/executable"
	"github.com/localport-sh/localport/testdata/tcpserver"
)

// TestMain is also the program that some of these checks run.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "ask" {
		if err := requestUppercase(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// requestUppercase sends hello to an address, half-closes, and expects HELLO.
func requestUppercase(addr string) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("hello")); err != nil {
		return err
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	if got, err := io.ReadAll(conn); string(got) != "HELLO" {
		return fmt.Errorf("got %q, %w", got, err)
	}
	return nil
}

// directDialer dials an address directly, and has a directory and an environment for checks.
type directDialer struct {
	addr string
	dir  string
	env  []string
}

func (d directDialer) Dial(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", d.addr)
}
func (p directDialer) Acknowledges() bool { return true }
func (d directDialer) Dir() string        { return d.dir }
func (d directDialer) Environ() []string  { return d.env }

// dialerOnly hides the ProcessContext of a path.
type dialerOnly struct{ probe.Dialer }

func runCheck(ctx context.Context, dialer probe.Dialer, argv ...string) error {
	check, err := Type.New(project.Settings{"command": argv})
	if err != nil {
		return err
	}
	return check(ctx, dialer)
}

// startUppercaseServer starts a server that answers each connection with what it received, in upper case.
func startUppercaseServer(t *testing.T) directDialer {
	t.Helper()
	addr := tcpserver.Start(t, func(conn *net.TCPConn) {
		text, _ := io.ReadAll(conn)
		_, _ = conn.Write([]byte(strings.ToUpper(string(text))))
	})
	return directDialer{addr: addr.String(), dir: t.TempDir(), env: os.Environ()}
}

func TestCheck_SucceedsOnExitZero(t *testing.T) {
	if err := runCheck(t.Context(), startUppercaseServer(t), "sh", "-c", "exit 0"); err != nil {
		t.Error(err)
	}
}

func TestCheck_ConnectsThroughTheTunnel(t *testing.T) {
	p := startUppercaseServer(t)
	me, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, argv := range [][]string{
		{me, "ask", "{addr}"},
		{me, "ask", "{host}:{port}"},
		{"sh", "-c", `exec "$0" ask "$LOCALPORT_CHECK_HOST:$LOCALPORT_CHECK_PORT"`, me},
	} {
		if err := runCheck(t.Context(), p, argv...); err != nil {
			t.Errorf("%q: %v", argv, err)
		}
	}
}

func TestCheck_ReportsExitStatusAndLastLine(t *testing.T) {
	p := startUppercaseServer(t)
	for script, want := range map[string]string{
		"echo first >&2; echo it is broken >&2; echo >&2; echo out; exit 3": "sh: exit status 3: it is broken",
		"echo no answer; exit 1": "sh: exit status 1: no answer",
		"exit 2":                 "sh: exit status 2",
		"kill -9 $$":             "sh: signal: killed",
	} {
		err := runCheck(t.Context(), p, "sh", "-c", script)
		failure, ok := errors.AsType[*probe.Failure](err)
		if !ok || failure.Reason != want {
			t.Errorf("%s: %v; want %s", script, err, want)
		}
	}
}

func TestCheck_RunsInTheProjectWithItsEnvironment(t *testing.T) {
	p := startUppercaseServer(t)
	p.env = []string{"PATH=" + p.dir + ":" + os.Getenv("PATH"), "OWN=project"}
	script := "#!/bin/sh\n[ \"$OWN\" = project ] && [ \"$HOME\" = '' ] && [ -e file ]\n"
	for name, text := range map[string]string{"own-check": script, "file": ""} {
		if err := executable.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, argv := range []string{"own-check", "./own-check"} {
		if err := runCheck(t.Context(), p, argv); err != nil {
			t.Errorf("%s: %v", argv, err)
		}
	}
	t.Setenv("OWN", "test")
	if err := runCheck(t.Context(), dialerOnly{p}, "sh", "-c", `[ "$OWN" = test ]`); err != nil {
		t.Errorf("a dialer without a ProcessContext: %v", err)
	}
}

func TestCheck_NamesAMissingProgram(t *testing.T) {
	p := startUppercaseServer(t)
	p.env = []string{"PATH=/nowhere"}
	err := runCheck(t.Context(), p, "no-such-check")
	if failure, ok := errors.AsType[*probe.Failure](err); !ok ||
		failure.Reason != "no-such-check: not found in PATH (/nowhere)" || failure.Hint == "" {
		t.Errorf("got %v", err)
	}
}

// refusingDialer fails every dial.
type refusingDialer struct{ directDialer }

var errGone = errors.New("the tunnel is gone")

func (refusingDialer) Dial(context.Context) (net.Conn, error) { return nil, errGone }

func TestCheck_TunnelErrorIsNotAServiceFailure(t *testing.T) {
	me, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	err = runCheck(t.Context(), refusingDialer{startUppercaseServer(t)}, me, "ask", "{addr}")
	if _, answered := errors.AsType[*probe.Failure](err); answered || !errors.Is(err, errGone) || !strings.Contains(err.Error(), "exit status 1") {
		t.Errorf("got %v", err)
	}
}

func TestCheck_EndsTheProcessGroupWhenCancelled(t *testing.T) {
	p := startUppercaseServer(t)
	started := filepath.Join(p.dir, "started")
	if err := syscall.Mkfifo(started, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- runCheck(ctx, p, "sh", "-c", `trap '' TERM; sleep 1000 & echo $! >started; wait`) }()
	left := readProcess(t, started)
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	waitForExit(t, left)
}

func TestCheck_EndsProcessesLeftBehind(t *testing.T) {
	p := startUppercaseServer(t)
	left := filepath.Join(p.dir, "left")
	if err := syscall.Mkfifo(left, 0o600); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- runCheck(t.Context(), p, "sh", "-c", `sleep 1000 & echo $! >left; read x <left`) }()
	sleeper := readProcess(t, left)
	if err := os.WriteFile(left, []byte("go\n"), 0); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	waitForExit(t, sleeper)
}

// readProcess returns the process whose pid is written to a pipe.
func readProcess(t *testing.T, pipe string) lockstate.Process {
	t.Helper()
	text, err := os.ReadFile(pipe)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	p, ok := lockstate.FindProcess(pid)
	if !ok {
		t.Fatalf("there is no process %d", pid)
	}
	return p
}

// waitForExit waits for the end of a process that has been killed.
func waitForExit(t *testing.T, p lockstate.Process) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := lockstate.WaitExit(ctx, p); err != nil {
		t.Errorf("%d is still there: %v", p.PID, err)
	}
}
