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
	if _, err := exec.LookPath("setsid"); err != nil {
		t.Skip("setsid is missing")
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

// echoServer returns the command of an echo server, with the prefix before its path.
func echoServer(t *testing.T, prefix string) string {
	t.Helper()
	return prefix + " " + process.QuoteWord(testBinary(t)) + " {port}"
}

// unmarked runs a program with an environment that has nothing of LocalPort's, but makes this binary an echo server.
const unmarked = "env -i " + roleVariable + "=echo "

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
		"child":     echoServer(t, unmarked+"setsid") + ` & exec sleep 1000`,
		"orphan":    echoServer(t, unmarked+"setsid -f") + ` >/dev/null 2>&1; exec sleep 1000`,
		"own group": `set -m; ` + echoServer(t, unmarked) + ` & exec sleep 1000`,
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
		"marked":            echoServer(t, `exec env `+roleVariable+`=echo setsid -f`),
		"empty environment": echoServer(t, "exec "+unmarked+"setsid -f"),
		"silent":            echoServer(t, "exec "+unmarked+"setsid -f") + ` >/dev/null 2>&1`,
		"slow and silent":   `exec ` + unmarked + `setsid -f sh -c 'sleep 2; exec "$0" "$@"' ` + echoServer(t, "") + ` >/dev/null 2>&1`,
	} {
		t.Run(name, func(t *testing.T) {
			portCh := make(chan string, 1)
			run := newDetachedRun(t)
			run.Log = &logBuffer{onLine: func(line string) {
				select {
				case portCh <- line:
				default: // the server prints too
				}
			}}
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
			if !strings.Contains(failure.Hint, "into the background") {
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
		server, err = process.Start(process.Command{Argv: []string{testBinary(t), port}, Env: []string{roleVariable + "=echo"}})
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
