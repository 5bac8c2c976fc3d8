package chaos

import (
	"math/rand/v2"
	"slices"
	"syscall"
	"time"
)

func enterEvent(p *project, r *rand.Rand) bool {
	s := p.liveShell(r, false)
	if s == nil {
		if s = p.liveShell(r, true); s == nil {
			return false
		}
		p.excuseIfLast()
		p.leave(s)
	}
	p.comeBack()
	p.enter(s)
	return true
}

// comeBack is what it means for a project that somebody comes. A stop at the same time may come before or after.
func (p *project) comeBack() {
	p.down = false
	p.unsure = p.unsure || p.stopping
}

func leaveEvent(p *project, r *rand.Rand) bool {
	s := p.liveShell(r, true)
	if s == nil {
		return false
	}
	p.excuseIfLast()
	p.leave(s)
	return true
}

func newShellEvent(p *project, r *rand.Rand) bool {
	for i := range p.shells {
		s := p.shells[i]
		if s == p.occupied || s.inside {
			continue
		}
		s.close()
		p.shells[i] = p.startShell(s.kind, p.dir)
		p.note("new %s %d", s.kind, p.shells[i].PID())
		p.comeBack()
		return true
	}
	if s := p.liveShell(r, true); s != nil {
		p.excuseIfLast()
		p.leave(s)
		return newShellEvent(p, r)
	}
	return false
}

func killShellEvent(p *project, r *rand.Rand) bool {
	s := p.liveShell(r, true)
	if s == nil {
		return false
	}
	p.excuseIfLast()
	p.kill(s)
	return true
}

func freezeShellEvent(p *project, r *rand.Rand) bool {
	s := p.liveShell(r, true)
	if s == nil {
		return false
	}
	p.note("STOP of %s %d", s.kind, s.PID())
	s.frozen = signalProcess(s.PID(), syscall.SIGSTOP)
	p.undo(func() {
		if s.frozen && !s.dead {
			signalProcess(s.PID(), syscall.SIGCONT)
			s.frozen = false
		}
	})
	return s.frozen
}

func execEvent(p *project, _ *rand.Rand) bool {
	p.comeBack()
	p.startExec()
	return true
}

func endExecEvent(p *project, r *rand.Rand) bool {
	if len(p.execs) == 0 {
		return false
	}
	p.excuseIfLast()
	last := p.execs[len(p.execs)-1]
	// One that is only starting ends before it has brought the project up, or after.
	p.unsure = p.unsure || p.act.State == Starting && !p.isIdle(last)
	p.endExec(last, []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL}[r.IntN(2)])
	return true
}

func startEvent(p *project, _ *rand.Rand) bool {
	if p.act.State == Stopping {
		p.unsure = true
	}
	p.down, p.started = false, true
	return p.try("start", "--no-wait") || true
}

func stopEvent(p *project, _ *rand.Rand) bool {
	p.excuse(nil, true)
	p.unsure = p.unsure || p.act.State == Starting
	p.down, p.started = true, false
	return p.try("stop") || true
}

// withDependents are a service and those that the project declares to depend on it.
func (p *project) withDependents(name string) []string {
	names := []string{name}
	for _, one := range map[string][]string{"web": {"stubborn"}, "base": {"middle"}}[name] {
		if slices.Contains(p.services(), one) {
			names = append(names, one)
		}
	}
	return names
}

// serviceEvent stops, starts or restarts a service; in a project that is down it restarts all, which is a start.
func serviceEvent(p *project, r *rand.Rand) bool {
	if p.act.State == Down {
		p.started, p.down = true, false
		p.mustRun("restart", "--no-wait")
		return true
	}
	name := p.services()[r.IntN(len(p.services()))]
	names := p.withDependents(name)
	action := []string{"stop", "restart", "start"}[r.IntN(3)]
	p.excuse(names, action == "stop")
	args := []string{action, name}
	if action != "stop" {
		args = append(args, "--no-wait")
	}
	got := p.localport(args...)
	p.note("%s", got)
	if p.overlaps() {
		p.unsure = true // a project that is down is started by it
		return true
	}
	if got.code != 0 {
		p.fail("%s", got)
		return true
	}
	switch action {
	case "stop":
		p.stopped = append(p.stopped, names...)
	case "start":
		p.started = true
	}
	return true
}

func daemonRestartEvent(p *project, _ *rand.Rand) bool {
	if p.act.State == Down {
		p.started, p.down = true, false
	}
	if p.overlaps() { // whether it is up just then decides whether it is a start
		p.unsure = true
		p.note("%s", p.localport("daemon", "restart"))
		return true
	}
	p.mustRun("daemon", "restart")
	return true
}

// target waits a little for a process that is about to exist.
func (p *project) target(find func() (process, bool)) (process, bool) {
	deadline := time.Now().Add(2 * time.Second)
	for {
		if found, ok := find(); ok {
			return found, true
		}
		if p.act.State != Starting || time.Now().After(deadline) {
			return process{}, false
		}
		time.Sleep(time.Millisecond)
	}
}
