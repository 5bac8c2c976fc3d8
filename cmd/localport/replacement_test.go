package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/localport-sh/localport/testdata/executable"
	"github.com/localport-sh/localport/testdata/ports"
)

// delayedReplacement is a project whose supervisor is being replaced. The successor waits for the program of the service db, which the test holds up.
type delayedReplacement struct {
	w        *testEnv
	dir      string // of the program
	root     string
	addr     string // of db
	pipe     *os.File
	resultCh chan commandResult // of daemon restart
}

// startDelayedReplacement starts the project, logs in for db, and returns when the successor has started db's program. more is further config; env are
// further variables of the shell that asks for the replacement.
func startDelayedReplacement(t *testing.T, w *testEnv, more string, env ...string) *delayedReplacement {
	t.Helper()
	port := ports.FreePort(t)
	r := &delayedReplacement{
		w: w, dir: w.installProxy(t, "aws", "sso login", "the token has expired", "up"), addr: fmt.Sprintf("127.0.0.1:%d", port), resultCh: make(chan commandResult, 1),
	}
	r.root = w.allowedProject(proxyConfig("aws", port) + more)
	w.localport(r.root, "start")
	w.mustRun(r.root, "login", "db")
	pipe := filepath.Join(r.dir, "pipe")
	w.holdProxy(t, r.dir, "aws", pipe)
	asking := w.withEnv(env...)
	go func() { r.resultCh <- asking.localport(r.root, "daemon", "restart") }()
	r.pipe = openWhenRead(t, pipe)
	return r
}

// openWhenRead opens a named pipe for writing when a program reads it.
func openWhenRead(t *testing.T, path string) (pipe *os.File) {
	t.Helper()
	eventually(t, "a program reads "+path, func() bool {
		var err error
		pipe, err = os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		return err == nil
	})
	return pipe
}

// release lets the program go on, and returns the result of daemon restart.
func (r *delayedReplacement) release() commandResult {
	r.w.t.Helper()
	if err := errors.Join(os.Remove(r.pipe.Name()), r.pipe.Close()); err != nil {
		r.w.t.Fatal(err)
	}
	return <-r.resultCh
}

func TestStop_DuringAReplacementEndsTheSuccessorToo(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	r := startDelayedReplacement(t, w, "")
	sh := w.shell("bash", r.root)
	stopCh := make(chan commandResult, 1)
	go func() { stopCh <- w.localport(r.root, "stop") }()
	eventually(t, "the stop is recorded", func() bool { return w.state(r.root).Down })
	r.release()
	if o := <-stopCh; o.code != 0 {
		t.Errorf("stop: exit %d\n%s", o.code, o.stderr)
	}
	eventually(t, "only the shell is left", func() bool { return len(w.processes()) == 1 })
	sh.Run("true")
	if env := sh.Environ(); hasVariable(env, "DB_PORT") || len(w.processes()) != 1 {
		t.Errorf("the next prompt has DB_PORT=%q; processes: %v", env["DB_PORT"], w.processes())
	}
	if !w.state(r.root).Down {
		t.Error("the project is not down")
	}
	if listens(r.addr) {
		t.Error("the port is still open")
	}
}

// The shell that asks for a replacement has other variables. What connects before that has succeeded still gets those of the running supervisor.
func TestReplacement_ThatFailsChangesNoEnvironment(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	w.env = append(w.env, "TARGET=ours")
	port, dir := ports.FreePort(t), t.TempDir()
	program, target := filepath.Join(dir, "tunnel"), filepath.Join(dir, "target")
	script := strings.NewReplacer("TARGET_FILE", target, "MAIN", mainVariable, "SERVER", upstreamVariable, "SELF", ownExecutable(t)).
		Replace("#!/bin/sh\necho \"$TARGET\" >TARGET_FILE\nexec env -u MAIN SERVER=1 SELF \"$1\"\n")
	if err := executable.WriteFile(program, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	r := startDelayedReplacement(t, w, fmt.Sprintf("[services.later]\ntechnology = \"command\"\ncommand = [%q, \"{port}\"]\nlocal_port = %d\nstart = \"on-demand\"\n", program, port),
		"TARGET=theirs")
	checkServed(t, fmt.Sprintf("127.0.0.1:%d", port))
	if got, err := os.ReadFile(target); string(got) != "ours\n" {
		t.Errorf("a tunnel that was opened meanwhile has TARGET=%q (error: %v)", got, err)
	}
	if err := os.Remove(filepath.Join(r.dir, "logins")); err != nil { // the successor would need another login
		t.Fatal(err)
	}
	if o := r.release(); o.code != 1 || !strings.Contains(o.stderr, "a new supervisor would need another login for db") || strings.Contains(o.stderr, "was replaced") {
		t.Errorf("daemon restart: exit %d\n%s", o.code, o.stderr)
	}
	w.stopProject(r.root)
}
