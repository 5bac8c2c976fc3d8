package chaos

import (
	"syscall"
	"time"

	"github.com/localport-sh/localport/testdata/shellpty"
)

// shell is an interactive shell with the hook loaded. Only one goroutine may use it at a time.
type shell struct {
	*shellpty.Shell
	kind     string // "bash", "zsh" or "fish"
	tb       *helperTB
	isInside bool // its working directory is the project's
	isFrozen bool // it got a SIGSTOP
	isDead   bool
}

// startShell starts a shell in a directory.
func (p *project) startShell(kind, dir string) *shell {
	hook := `eval "$(` + p.world.binary + ` hook ` + kind + `)"`
	if kind == "fish" {
		hook = p.world.binary + ` hook fish | source`
	}
	s := &shell{kind: kind, tb: &helperTB{}, isInside: dir == p.dir}
	startedAt := time.Now()
	env := p.environment() // for TMPDIR, the marker, LOCALPORT_LIMIT and the agent
	err := catchHelperError(func() {
		s.Shell = shellpty.Start(s.tb, shellpty.Config{Shell: kind, RC: hook, Dir: dir, Home: p.world.homeDir(), Env: env})
	})
	p.checkPrompt(s, "start", startedAt, err)
	return s
}

// run types a line into a shell and returns its exit status, -1 if the shell is dead or frozen. A prompt that comes late, or never,
// is a violation.
func (p *project) run(s *shell, line string) (status int) {
	if s.isDead || s.isFrozen {
		return -1
	}
	startedAt := time.Now()
	err := catchHelperError(func() { status = s.Run(line) })
	p.checkPrompt(s, line, startedAt, err)
	return status
}

func (p *project) checkPrompt(s *shell, line string, startedAt time.Time, err error) {
	elapsed := time.Since(startedAt)
	switch {
	case err != nil:
		s.isDead = true
		p.fail("%s: %q: %v", s.kind, line, err)
	case elapsed > promptLimit:
		screen := ""
		_ = catchHelperError(func() { screen = s.Screen() })
		p.fail("%s: the prompt after %q took %v; on the screen:\n%s", s.kind, line, elapsed, screen)
	}
}

// setVariable returns the line that exports a variable with a value, which has no quotation mark.
func (s *shell) setVariable(name, value string) string {
	if s.kind == "fish" && name == "PATH" {
		return "set -gx PATH (string split : '" + value + "')"
	}
	if s.kind == "fish" {
		return "set -gx " + name + " '" + value + "'"
	}
	return "export " + name + "='" + value + "'"
}

func (s *shell) unsetVariable(name string) string {
	if s.kind == "fish" {
		return "set -e " + name
	}
	return "unset " + name
}

func (p *project) enter(s *shell) {
	if s.isDead || s.isFrozen {
		return
	}
	p.logf("%s %d enters", s.kind, s.PID())
	s.isInside = p.run(s, "cd "+p.dir) == 0
}

func (p *project) leave(s *shell) {
	if s.isDead || s.isFrozen {
		return
	}
	p.logf("%s %d leaves", s.kind, s.PID())
	p.run(s, "cd "+p.world.outsideDir())
	s.isInside = false
}

func (p *project) kill(s *shell) {
	if s.isDead {
		return
	}
	p.logf("kill -9 of %s %d", s.kind, s.PID())
	s.close()
}

// close kills a shell and removes its files.
func (s *shell) close() {
	if s.isFrozen {
		_ = syscall.Kill(s.PID(), syscall.SIGCONT)
	}
	s.isDead, s.isInside, s.isFrozen = true, false, false
	s.tb.runCleanups()
}
