package chaos

import (
	"syscall"
	"time"

	"github.com/localport-sh/localport/testdata/shellpty"
)

// shell is an interactive shell with the hook loaded. It is for one goroutine at a time.
type shell struct {
	*shellpty.Shell
	kind   string
	tb     *helperTB
	inside bool // it is in the project's directory
	frozen bool
	dead   bool
}

// startShell starts a shell in a directory.
func (p *project) startShell(kind, dir string) *shell {
	hook := `eval "$(` + p.w.binary + ` hook ` + kind + `)"`
	if kind == "fish" {
		hook = p.w.binary + ` hook fish | source`
	}
	s := &shell{kind: kind, tb: &helperTB{}, inside: dir == p.dir}
	began := time.Now()
	env := p.w.environ() // TMPDIR, the marker and the limit are to be the same everywhere
	err := guard(func() {
		s.Shell = shellpty.Start(s.tb, shellpty.Config{Shell: kind, RC: hook, Dir: dir, Home: p.w.home(), Env: env})
	})
	p.checkPrompt(s, "start", began, err)
	return s
}

// run has a shell run a line and returns its exit status. A prompt that comes late, or never, is a violation.
func (p *project) run(s *shell, line string) (status int) {
	if s.dead || s.frozen {
		return -1
	}
	began := time.Now()
	err := guard(func() { status = s.Run(line) })
	p.checkPrompt(s, line, began, err)
	return status
}

func (p *project) checkPrompt(s *shell, line string, began time.Time, err error) {
	took := time.Since(began)
	switch {
	case err != nil:
		s.dead = true
		p.fail("%s: %q: %v", s.kind, line, err)
	case took > promptLimit:
		screen := ""
		_ = guard(func() { screen = s.Screen() })
		p.fail("%s: the prompt after %q came after %v; on the screen:\n%s", s.kind, line, took, screen)
	}
}

func (p *project) enter(s *shell) {
	if s.dead || s.frozen {
		return
	}
	p.note("%s %d enters", s.kind, s.PID())
	s.inside = p.run(s, "cd "+p.dir) == 0
}

func (p *project) leave(s *shell) {
	if s.dead || s.frozen {
		return
	}
	p.note("%s %d leaves", s.kind, s.PID())
	p.run(s, "cd "+p.w.outside())
	s.inside = false
}

func (p *project) kill(s *shell) {
	if s.dead {
		return
	}
	p.note("kill -9 of %s %d", s.kind, s.PID())
	s.close()
}

// close ends a shell and everything that was made for it.
func (s *shell) close() {
	if s.frozen {
		_ = syscall.Kill(s.PID(), syscall.SIGCONT)
	}
	s.dead, s.inside, s.frozen = true, false, false
	s.tb.end()
}
