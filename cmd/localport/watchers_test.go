package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/syncbuf"
)

// startWatchers has n clients watch a supervisor until end. It returns when each has received a status or was refused.
func startWatchers(t *testing.T, socket string, n int) (watching, refused int, end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	firstResultCh := make(chan error, n)
	for range n {
		clients.Go(func() {
			seen := false
			err := client.Client{Socket: socket}.Watch(ctx, func(api.Status) bool {
				if !seen {
					seen = true
					firstResultCh <- nil
				}
				return true
			})
			if !seen {
				firstResultCh <- err
			}
		})
	}
	for range n {
		switch err := <-firstResultCh; {
		case err == nil:
			watching++
		case errors.Is(err, api.ErrTooManyWatchers):
			refused++
		default:
			t.Errorf("a watcher: %v", err)
		}
	}
	return watching, refused, func() { cancel(); clients.Wait() }
}

func TestManyWatchers_LeaveRoomForCommandsAndPrompts(t *testing.T) {
	t.Parallel()
	const fewest, watchers = 137, 100
	w := newTestEnv(t)
	port := ports.FreePort(t)
	root := w.allowedProject(tcpConfig("web", port, serve(t, "127.0.0.1:0")))
	if o := w.runWithFileLimit(fewest, root, "start"); o.code != 0 {
		t.Fatalf("exit %d: %s%s", o.code, o.stdout, o.stderr)
	}
	w.waitKeeper(root)
	watching, refused, end := startWatchers(t, w.state(root).Supervisor.Socket, watchers)
	defer end()
	if watching != api.MaxWatchers || refused != watchers-watching {
		t.Errorf("%d watch and %d were refused", watching, refused)
	}

	sh := w.shell("bash", root)
	if env := sh.Environ(); env["WEB_PORT"] != fmt.Sprint(port) {
		t.Errorf("WEB_PORT=%q; the shell shows %q", env["WEB_PORT"], sh.Screen())
	}
	w.mustRun(root, "exec", "--", "true")
	// Commands that usually watch the status poll it now.
	var seen syncbuf.Buffer
	c, err := process.Start(process.Command{
		Argv: []string{w.exe, "status", "--watch"}, Dir: root, Env: w.env,
		OnLine: func(_ process.Stream, line string) { fmt.Fprintln(&seen, line) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Kill(); <-c.Done() })
	await := func(state forwarder.State) {
		line := fmt.Sprintf("web %s 127.0.0.1:%d\n", state, port)
		eventually(t, "it prints "+line, func() bool { return strings.HasSuffix(seen.String(), line) })
	}
	await(forwarder.Healthy)
	w.mustRun(root, "stop", "web")
	await(forwarder.Stopped)
	if out := w.mustRun(root, "start", "web"); !strings.Contains(out, string(forwarder.Healthy)) {
		t.Errorf("start printed\n%s", out)
	}
	await(forwarder.Healthy)
	_ = syscall.Kill(c.Pid(), syscall.SIGINT)
	<-c.Done()
	if strings.Contains(seen.String(), "localport:") {
		t.Errorf("it printed %q", seen.String())
	}

	// After one watcher has ended, another one may watch.
	end()
	eventually(t, "there is room for another watcher", func() bool {
		watching, _, end := startWatchers(t, w.state(root).Supervisor.Socket, 1)
		end()
		return watching == 1
	})
	sh.Kill()
	w.stopProject(root)
}

// The status cannot be watched then. It is polled, until the services have started.
func TestManyWatchers_LoginWaitsForServicesThatAreStarting(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	dir := w.installProxy(t, "aws", "sso login", "the token has expired", "up")
	pipe := filepath.Join(dir, "pipe")
	w.holdProxy(t, dir, "aws", pipe)
	root := w.allowedProject(proxyConfig("aws", ports.FreePort(t)))
	w.mustRun(root, "start", "--no-wait")
	opened := openWhenRead(t, pipe)
	_, _, end := startWatchers(t, w.state(root).Supervisor.Socket, api.MaxWatchers)
	defer end()
	session := w.startOnTerminal(root, "login")
	session.answer("waiting for db to start", "")
	if err := errors.Join(os.Remove(pipe), opened.Close()); err != nil {
		t.Fatal(err)
	}
	if code := <-session.done; code != 0 || !strings.Contains(session.screen.String(), "healthy") {
		t.Errorf("login: exit %d\n%s", code, session.screen.String())
	}
}
