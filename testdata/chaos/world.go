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
	"sync/atomic"
	"syscall"
	"time"

	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/shellpty"
)

// Exceeding one of these limits is a violation.
const (
	recoveryLimit       = 20 * time.Second // from the end of an event until all promises are kept
	commandLimit        = 20 * time.Second // for a command that waits for no service
	waitingCommandLimit = 60 * time.Second // for a command that waits for services: its own limit is 40 s
	statusLimit         = 4 * time.Second  // for status of a running project: it takes milliseconds, the rest is for a busy machine
	promptLimit         = 8 * time.Second  // for a prompt: the product's limit is 2 s, the rest is for a busy machine
)

// world is everything that the driver runs: directories, sshd, projects. Nothing of it is visible outside its namespaces.
type world struct {
	dir       string // with a short path, because sockets are made below it
	binary    string // the localport under test
	self      string // this program, which is also the programs of RunProgram
	onLogLine func(line string)
	cancel    context.CancelFunc // ends the run
	ctx       context.Context    // ends with the run
	startedAt time.Time
	projects  []*project

	networkChanges atomic.Int32 // the number of calls of changeNetwork

	sshMu    sync.Mutex   // held while ssh is started or stopped
	sshStops atomic.Int32 // the number of stops of ssh
	ssh      *sshServer
	sshPort  *ports.Port // reserved while the world lasts: two servers or services with one port would be no fault of the product

	mu        sync.Mutex // guards the fields that follow
	violation *violation // nil while every promise has been kept
	history   []string
}

// violation is the first broken promise of a run.
type violation struct {
	project string // "": of no single project
	text    string
	at      time.Duration // since the start of the run
	state   string        // what describeState returned then
}

// setUp makes the directories, starts sshd, and makes the projects, which are allowed and down, with two shells each.
func (w *world) setUp(projects int) error {
	for _, dir := range []string{"o", "p", "t", "h/config", "h/data", "h/state", "h/cache"} {
		if err := os.MkdirAll(filepath.Join(w.dir, dir), 0o700); err != nil {
			return err
		}
	}
	if err := os.Setenv("TMPDIR", filepath.Join(w.dir, "t")); err != nil {
		return err
	}
	var err error
	if w.sshPort, err = ports.Reserve(); err != nil {
		return err
	}
	if w.ssh, err = newSSHServer(filepath.Join(w.dir, "ssh"), w.sshPort.Number, w.environment()); err != nil {
		return err
	}
	for i := range projects {
		p, err := newProject(w, i)
		if err != nil {
			return err
		}
		w.projects = append(w.projects, p)
	}
	w.forEachProject(func(p *project) {
		p.writeFiles()
		p.mustRun("allow")
		if s, err := parseStatus(p.runLocalport("status", "--json").stdout); err == nil {
			p.updateFromStatus(s)
		}
		for _, kind := range p.template.shells {
			p.shells = append(p.shells, p.startShell(kind, w.outsideDir()))
		}
	})
	return nil
}

// technologies returns the technologies of each project's services.
func (w *world) technologies() [][]string {
	var all [][]string
	for _, p := range w.projects {
		all = append(all, p.template.technologies)
	}
	return all
}

// forEachProject calls fn for all projects at the same time, and returns when all calls have returned.
func (w *world) forEachProject(fn func(*project)) {
	var calls sync.WaitGroup
	for _, p := range w.projects {
		calls.Go(func() {
			if w.ctx.Err() == nil {
				fn(p)
			}
		})
	}
	calls.Wait()
}

func (w *world) homeDir() string    { return filepath.Join(w.dir, "h") }
func (w *world) outsideDir() string { return filepath.Join(w.dir, "o") }
func (w *world) runtimeDir() string { return filepath.Join(w.homeDir(), "runtime") }

// logf adds a line to the history, which is printed with a violation.
func (w *world) logf(project, format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	line := fmt.Sprintf("%8.3fs %-5s %s", time.Since(w.startedAt).Seconds(), project, fmt.Sprintf(format, args...))
	w.history = append(w.history, line)
	w.onLogLine(line)
}

// hasViolation reports whether a promise was broken.
func (w *world) hasViolation() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.violation != nil
}

// fail records a violation with the current state of everything, and ends the run. Only the first violation is kept.
func (w *world) fail(project, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.mu.Lock()
	if w.violation != nil {
		w.mu.Unlock()
		return
	}
	v := &violation{project: project, text: text, at: time.Since(w.startedAt)}
	w.violation = v
	w.mu.Unlock()
	w.logf(project, "VIOLATION: %s", text)
	v.state = w.describeState(project)
	w.cancel()
}

// environment is that of everything that the driver starts, but for shells, whose terminal has an environment of its own.
func (w *world) environment() []string {
	env := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + w.homeDir(), "TMPDIR=" + filepath.Join(w.dir, "t"), "TERM=dumb", "LANG=C.UTF-8",
		"USER=root", "XDG_RUNTIME_DIR=" + w.runtimeDir(), markerVariable + "=1", "GOCOVERDIR=" + shellpty.CoverDir(),
	}
	for _, kind := range []string{"CONFIG", "DATA", "STATE", "CACHE"} {
		env = append(env, "XDG_"+kind+"_HOME="+filepath.Join(w.homeDir(), strings.ToLower(kind)))
	}
	if limit := os.Getenv("LOCALPORT_LIMIT"); limit != "" {
		env = append(env, "LOCALPORT_LIMIT="+limit)
	}
	return env
}

// commandResult is how a run of localport ended.
type commandResult struct {
	args           []string
	exitCode       int
	stdout, stderr string
	duration       time.Duration
}

func (r commandResult) String() string {
	return fmt.Sprintf("localport %s: exit %d after %v: %s", strings.Join(r.args, " "), r.exitCode, r.duration.Round(time.Millisecond),
		strings.TrimSpace(r.stderr))
}

// runLocalport runs localport in a directory, with an environment, and returns when it has ended. It is a violation if that takes longer than
// limit.
func (w *world) runLocalport(project, dir string, env []string, limit time.Duration, args ...string) commandResult {
	startedAt := time.Now()
	cmd := exec.Command(w.binary, args...)
	cmd.Dir, cmd.Env = dir, append(env, "PWD="+dir)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = time.Second // do not wait longer for a process that inherited the output
	r := commandResult{args: args}
	if err := cmd.Start(); err != nil {
		r.exitCode, r.stderr = 1, err.Error()
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
	r.exitCode, r.duration, r.stdout, r.stderr = cmd.ProcessState.ExitCode(), time.Since(startedAt), out.String(), errs.String()
	return r
}

// pause returns after d, or at the end of the run.
func (w *world) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-w.ctx.Done():
	}
}

// awaitNoProblem calls find until it returns "", and returns the problem that is left at the limit; "" also when the run ends. It polls,
// because there is no event to wait for: it observes other programs from outside.
func (w *world) awaitNoProblem(limit time.Duration, find func() string) (problem string) {
	deadline := time.Now().Add(limit)
	for interval := 20 * time.Millisecond; ; interval = min(interval*3/2, 400*time.Millisecond) {
		problem := find()
		if problem == "" || w.ctx.Err() != nil {
			return ""
		}
		if time.Now().After(deadline) {
			return problem
		}
		w.pause(interval)
	}
}

// close ends all shells, servers and processes of the namespace but this one and the first.
func (w *world) close() {
	for _, p := range w.projects {
		p.close()
	}
	if w.ssh != nil {
		w.ssh.stop()
		w.sshPort.Release()
	}
	own := os.Getpid()
	for _, p := range listProcesses() {
		if p.pid != 1 && p.pid != own {
			_ = syscall.Kill(p.pid, syscall.SIGKILL)
		}
	}
}

// lastActOf returns the last act of a project, in parentheses; "" if there is no such project.
func (w *world) lastActOf(name string) string {
	for _, p := range w.projects {
		if p.name == name {
			return fmt.Sprintf(" (%s)", p.act)
		}
	}
	return ""
}

// describeState returns what may explain a violation: all processes, and state, status and log of a project, or of all if name is "".
func (w *world) describeState(name string) string {
	var b strings.Builder
	fmt.Fprintln(&b, "processes:")
	for _, p := range listProcesses() {
		fmt.Fprintln(&b, " ", p)
	}
	for _, p := range w.projects {
		if p.name != name && name != "" {
			continue
		}
		if text, err := os.ReadFile(p.stateFile("state.json")); err == nil {
			fmt.Fprintf(&b, "%s, state.json: %s\n", p.name, text)
		}
		if p.cluster != nil {
			fmt.Fprintf(&b, "%s, API server: %s\n", p.name, p.cluster)
		}
		fmt.Fprintf(&b, "%s, status: %s\n", p.name, p.runLocalport("status", "--json").stdout)
		if text, err := os.ReadFile(p.stateFile("log/supervisor.log")); err == nil {
			lines := strings.Split(strings.TrimSpace(string(text)), "\n")
			const tail = 40
			fmt.Fprintf(&b, "%s, supervisor.log:\n%s\n", p.name, strings.Join(lines[max(0, len(lines)-tail):], "\n"))
		}
		for _, s := range p.shells {
			if s.Shell != nil && !s.isDead {
				fmt.Fprintf(&b, "%s %d\n", s.kind, s.PID())
			}
		}
	}
	return b.String()
}
