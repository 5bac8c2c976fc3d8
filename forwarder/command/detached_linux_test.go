package command

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/testdata/ports"
)

// adoptOrphans makes this process what a supervisor is, for a test.
func adoptOrphans(t *testing.T) {
	t.Helper()
	for _, program := range []string{"setsid", "socat"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is missing", program)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := process.AdoptOrphans(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
}

const echoServer = "socat TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork EXEC:cat"

// newDetachedRun returns a run whose id no other test has.
func newDetachedRun(t *testing.T) forwarder.Run {
	t.Helper()
	run := newRun(t, "")
	run.ID = t.Name() + strconv.Itoa(ports.FreePort(t))
	run.SocketDir = t.TempDir()
	return run
}

func TestTunnel_DetachedServerWithAnEmptyEnvironmentEndsWithItsTunnelOnly(t *testing.T) {
	adoptOrphans(t)
	for name, script := range map[string]string{
		"child":     `env -i PATH="$PATH" setsid ` + echoServer + ` & exec sleep 1000`,
		"orphan":    `env -i PATH="$PATH" setsid -f ` + echoServer + ` >/dev/null 2>&1; exec sleep 1000`,
		"own group": `set -m; env -i PATH="$PATH" ` + echoServer + ` & exec sleep 1000`,
	} {
		t.Run(name, func(t *testing.T) {
			other := openTunnel(t, newDetachedRun(t), "sh", "-c", script)
			tunnel := openTunnel(t, newDetachedRun(t), "sh", "-c", script)
			requireEcho(t, tunnel)
			if err := tunnel.Close(); err != nil {
				t.Fatal(err)
			}
			if conn, err := tunnel.Dial(t.Context()); err == nil {
				conn.Close()
				t.Error("the server still listens")
			}
			requireEcho(t, other)
		})
	}
}

func TestDriver_OpenEndsWhatAProgramHasPutIntoTheBackground(t *testing.T) {
	adoptOrphans(t)
	for name, script := range map[string]string{
		"marked":            `setsid -f ` + echoServer,
		"empty environment": `exec env -i PATH="$PATH" setsid -f ` + echoServer,
		"silent":            `exec env -i PATH="$PATH" setsid -f ` + echoServer + ` >/dev/null 2>&1`,
		"slow and silent":   `exec env -i PATH="$PATH" setsid -f sh -c 'sleep 2; exec ` + echoServer + `' >/dev/null 2>&1`,
	} {
		t.Run(name, func(t *testing.T) {
			portCh := make(chan string, 1)
			run := newDetachedRun(t)
			run.Log = &logBuffer{onLine: func(line string) { portCh <- line }}
			tunnel, err := driver{}.Open(t.Context(), newService("sh", "-c", "echo {port}; "+script), run)
			if err == nil {
				_ = tunnel.Close()
				t.Fatal("opened")
			}
			addr := "127.0.0.1:" + <-portCh
			if conn, err := net.Dial("tcp", addr); err == nil {
				conn.Close()
				t.Error("the server still listens")
			}
			failure, ok := errors.AsType[*forwarder.Failure](err)
			if !ok || !strings.Contains(failure.Reason, "exited: exit status 0") {
				t.Fatalf("got %+v", err)
			}
			if !strings.Contains(failure.Hint, "in the foreground") {
				t.Errorf("got %+v", failure)
			}
		})
	}
}

// A process of another program that listens on the port is left alone, also if it is younger than the attempt.
func TestTunnel_CloseLeavesTheListenerOfAnotherProgram(t *testing.T) {
	adoptOrphans(t)
	var server *process.Child
	run := newDetachedRun(t)
	run.Log = &logBuffer{onLine: func(port string) {
		var err error
		server, err = process.Start(process.Command{Argv: strings.Fields(strings.ReplaceAll(echoServer, "{port}", port)), Env: run.Env})
		if err != nil {
			t.Error(err)
		}
	}}
	tunnel := openTunnel(t, run, "sh", "-c", "echo {port}; exec sleep 1000")
	requireEcho(t, tunnel)
	if err := tunnel.Close(); err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	requireEcho(t, tunnel)
	if fmt.Sprint(tunnel.Err()) != "<nil>" {
		t.Error(tunnel.Err())
	}
}
