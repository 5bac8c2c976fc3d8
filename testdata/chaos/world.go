package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/localport-sh/localport/testdata/shellpty"
)

// Limits of what the driver waits for.
const (
	quietLimit   = 20 * time.Second // until everything is as it must be after an event
	commandLimit = 20 * time.Second // a command that is to answer at once
	waitingLimit = 60 * time.Second // a command that waits for services, by itself at most 40 s
	statusLimit  = 4 * time.Second  // a status of what runs: some milliseconds, the rest for a busy machine
	promptLimit  = 8 * time.Second  // a prompt: two seconds by promise, the rest for a busy machine
)

// world is everything that the driver runs: the directories, the far side, the projects. Nothing of it is seen outside.
type world struct {
	dir      string // short: sockets lie in it
	binary   string // the localport under test
	self     string // this program, which plays small programs too
	log      func(format string, args ...any)
	ssh      *sshServer
	projects []*project
	sshMu    sync.Mutex // of ssh

	mu        sync.Mutex
	violation *violation
	stop      context.CancelFunc // ends the run
	ctx       context.Context
	began     time.Time
	history   []string
}

// violation is the first thing that was not as it must be.
type violation struct {
	project string
	text    string
	at      time.Duration
	state   string // of everything, at that moment
}

func (w *world) home() string    { return filepath.Join(w.dir, "h") }
func (w *world) outside() string { return filepath.Join(w.dir, "o") }
func (w *world) runtime() string { return filepath.Join(w.home(), "runtime") }

// note adds a line to the history that a violation is reported with.
func (w *world) note(project, format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	line := fmt.Sprintf("%8.3fs %-5s %s", time.Since(w.began).Seconds(), project, fmt.Sprintf(format, args...))
	w.history = append(w.history, line)
	w.log("%s", line)
}

// failed reports whether something was violated.
func (w *world) failed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.violation != nil
}

// fail records a violation, with the state of everything now, and ends the run. The first one counts.
func (w *world) fail(project, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.mu.Lock()
	if w.violation != nil {
		w.mu.Unlock()
		return
	}
	v := &violation{project: project, text: text, at: time.Since(w.began)}
	w.violation = v
	w.mu.Unlock()
	w.note(project, "VIOLATION: %s", text)
	v.state = w.describe(project)
	w.stop()
}

// environ is that of everything that the driver starts, but for shells, whose terminal has an environment of its own.
func (w *world) environ() []string {
	env := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + w.home(), "TMPDIR=" + filepath.Join(w.dir, "t"), "TERM=dumb", "LANG=C.UTF-8",
		"USER=root", "XDG_RUNTIME_DIR=" + w.runtime(), marker + "=1", "GOCOVERDIR=" + shellpty.CoverDir(),
	}
	for _, kind := range []string{"CONFIG", "DATA", "STATE", "CACHE"} {
		env = append(env, "XDG_"+kind+"_HOME="+filepath.Join(w.home(), strings.ToLower(kind)))
	}
	if limit := os.Getenv("LOCALPORT_LIMIT"); limit != "" {
		env = append(env, "LOCALPORT_LIMIT="+limit)
	}
	return env
}

// result is what came of a command.
type result struct {
	args        []string
	code        int
	out, errors string
	took        time.Duration
}

func (r result) String() string {
	return fmt.Sprintf("localport %s: exit %d after %v: %s", strings.Join(r.args, " "), r.code, r.took.Round(time.Millisecond),
		strings.TrimSpace(r.errors))
}

// localport runs a command in a directory. One that does not end in time is a violation, whatever it is about.
func (w *world) localport(project, dir string, limit time.Duration, args ...string) result {
	began := time.Now()
	cmd := exec.Command(w.binary, args...)
	cmd.Dir, cmd.Env = dir, append(w.environ(), "PWD="+dir)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = time.Second // a process that inherited the output does not hold the driver up
	r := result{args: args}
	if err := cmd.Start(); err != nil {
		r.code, r.errors = 1, err.Error()
		return r
	}
	timer := time.AfterFunc(limit, func() {
		w.fail(project, "localport %s has not ended after %v", strings.Join(args, " "), limit)
		_ = cmd.Process.Kill()
	})
	err := cmd.Wait()
	timer.Stop()
	if errors.Is(err, exec.ErrWaitDelay) {
		w.fail(project, "localport %s has ended, and left its output open to a process that it started", strings.Join(args, " "))
	}
	r.code, r.took, r.out, r.errors = cmd.ProcessState.ExitCode(), time.Since(began), out.String(), errs.String()
	return r
}

// pause waits for d or the end of the run.
func (w *world) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-w.ctx.Done():
	}
}

// eventually asks again and again until there is nothing to complain of, and returns the complaint that was left at the
// limit. There is no event to wait for: what is looked at is another program, from outside.
func (w *world) eventually(limit time.Duration, complaint func() string) string {
	deadline := time.Now().Add(limit)
	for pace := 20 * time.Millisecond; ; pace = min(pace*3/2, 400*time.Millisecond) {
		text := complaint()
		if text == "" || w.ctx.Err() != nil {
			return ""
		}
		if time.Now().After(deadline) {
			return text
		}
		w.pause(pace)
	}
}

// end ends what the driver itself started.
func (w *world) end() {
	for _, p := range w.projects {
		p.end()
	}
	if w.ssh != nil {
		w.ssh.stop()
	}
	own := os.Getpid()
	for _, p := range processes() { // what is left, all of it in this namespace
		if p.pid != 1 && p.pid != own {
			_ = syscall.Kill(p.pid, syscall.SIGKILL)
		}
	}
}
