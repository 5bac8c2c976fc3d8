package chaos

import (
	"math/rand/v2"
	"os"
	"slices"
	"syscall"
	"time"
)

func enterEvent(p *project, r *rand.Rand) bool {
	s := p.chooseShell(r, false)
	if s == nil {
		if s = p.chooseShell(r, true); s == nil {
			return false
		}
		p.allowEndByLastUser()
		p.leave(s)
	}
	p.markInUse()
	p.enter(s)
	return true
}

// markInUse records that somebody is about to use the project. A stop that runs meanwhile may take effect before or after that.
func (p *project) markInUse() {
	p.isDown = false
	p.isOutcomeUnknown = p.isOutcomeUnknown || p.isStopping
}

func leaveEvent(p *project, r *rand.Rand) bool {
	s := p.chooseShell(r, true)
	if s == nil {
		return false
	}
	p.allowEndByLastUser()
	p.leave(s)
	return true
}

func newShellEvent(p *project, r *rand.Rand) bool {
	for i := range p.shells {
		s := p.shells[i]
		if s == p.busyShell || s.isInside {
			continue
		}
		s.close()
		p.shells[i] = p.startShell(s.kind, p.dir)
		p.logf("new %s %d", s.kind, p.shells[i].PID())
		p.markInUse()
		return true
	}
	if s := p.chooseShell(r, true); s != nil {
		p.allowEndByLastUser()
		p.leave(s)
		return newShellEvent(p, r)
	}
	return false
}

func killShellEvent(p *project, r *rand.Rand) bool {
	s := p.chooseShell(r, true)
	if s == nil {
		return false
	}
	p.allowEndByLastUser()
	p.kill(s)
	return true
}

func freezeShellEvent(p *project, r *rand.Rand) bool {
	s := p.chooseShell(r, true)
	if s == nil {
		return false
	}
	p.logf("STOP of %s %d", s.kind, s.PID())
	s.isFrozen = signalProcess(s.PID(), syscall.SIGSTOP)
	p.addUndo(func() {
		if s.isFrozen && !s.isDead {
			signalProcess(s.PID(), syscall.SIGCONT)
			s.isFrozen = false
		}
	})
	return s.isFrozen
}

// otherEnvironment are values of variables that a tunnel may use, and with which none could be opened.
var otherEnvironment = map[string]string{
	"HTTP_PROXY": "http://127.0.0.1:1", "HTTPS_PROXY": "http://127.0.0.1:1", "ALL_PROXY": "socks5://127.0.0.1:1", "NO_PROXY": "none.example",
	"SSH_AUTH_SOCK": "/nonexistent/agent", "KUBECONFIG": "/nonexistent/kubeconfig",
}

// changeEnvironmentEvent gives a shell another PATH, proxies, agent and kubeconfig until the event ends. One that is outside enters with them.
// No tunnel may end.
func changeEnvironmentEvent(p *project, r *rand.Rand) bool {
	isOutside := r.IntN(2) == 0
	s := p.chooseShell(r, !isOutside)
	if s == nil {
		isOutside = !isOutside
		if s = p.chooseShell(r, !isOutside); s == nil {
			return false
		}
	}
	if endsNothing := []string{"", "status", "prompt", "enter", "exec"}; (p.act.State == Up || p.act.State == Busy) && slices.Contains(endsNothing, p.act.Meanwhile) {
		p.tunnelsToKeep = p.listLastingTunnels()
	}
	p.logf("%s %d has another environment", s.kind, s.PID())
	path := os.Getenv("PATH")
	p.run(s, s.setVariable("PATH", "/nonexistent:"+path+":/nonexistent/too"))
	for name, value := range otherEnvironment {
		p.run(s, s.setVariable(name, value))
	}
	p.addUndo(func() {
		p.background.Wait() // a command may run in the shell
		p.run(s, s.setVariable("PATH", path))
		for name := range otherEnvironment {
			p.run(s, s.unsetVariable(name))
		}
		if p.agent == nil {
			return
		}
		p.run(s, s.setVariable("SSH_AUTH_SOCK", p.agent.socketPath()))
		if s.isInside && p.tunnelsToKeep == nil { // the supervisor may have been started with the other agent, and learns of one from who enters
			p.allowEndByLastUser()
			p.leave(s)
			p.markInUse()
			p.enter(s)
		}
	})
	if isOutside {
		p.markInUse()
		p.enter(s)
	}
	return true
}

func execEvent(p *project, _ *rand.Rand) bool {
	p.markInUse()
	p.startExec()
	return true
}

func endExecEvent(p *project, r *rand.Rand) bool {
	if len(p.execs) == 0 {
		return false
	}
	p.allowEndByLastUser()
	last := p.execs[len(p.execs)-1]
	// An exec that has not begun its command may end before it has started the project, or after.
	p.isOutcomeUnknown = p.isOutcomeUnknown || p.act.State == Starting && !p.hasBegunCommand(last)
	p.endExec(last, []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL}[r.IntN(2)])
	return true
}

func startEvent(p *project, _ *rand.Rand) bool {
	if p.act.State == Stopping {
		p.isOutcomeUnknown = true
	}
	p.isDown, p.hasStartLease = false, true
	return p.runOrRepeatLater("start", "--no-wait") || true
}

func stopEvent(p *project, _ *rand.Rand) bool {
	p.allowInterruption(nil, true)
	p.isOutcomeUnknown = p.isOutcomeUnknown || p.act.State == Starting
	p.isDown, p.hasStartLease = true, false
	return p.runOrRepeatLater("stop") || true
}

// withDependents returns a service and those that depend on it.
func (p *project) withDependents(name string) []string {
	names := []string{name}
	for _, dependent := range map[string][]string{"web": {"stubborn"}, "base": {"middle"}}[name] {
		if slices.Contains(p.services(), dependent) {
			names = append(names, dependent)
		}
	}
	return names
}

// serviceCommandEvent stops, starts or restarts a random service. In a project that is down it restarts the project, which starts it.
func serviceCommandEvent(p *project, r *rand.Rand) bool {
	if p.act.State == Down {
		p.hasStartLease, p.isDown = true, false
		p.mustRun("restart", "--no-wait")
		return true
	}
	name := p.services()[r.IntN(len(p.services()))]
	names := p.withDependents(name)
	action := []string{"stop", "restart", "start"}[r.IntN(3)]
	p.allowInterruption(names, action == "stop")
	args := []string{action, name}
	if action != "stop" {
		args = append(args, "--no-wait")
	}
	result := p.runLocalport(args...)
	p.logf("%s", result)
	if p.isInTransition() {
		p.isOutcomeUnknown = true // if the project is down at this moment, the command may start it
		return true
	}
	if result.exitCode != 0 {
		p.fail("%s", result)
		return true
	}
	switch action {
	case "stop":
		p.stoppedServices = append(p.stoppedServices, names...)
	case "start":
		p.hasStartLease = true
	}
	return true
}

func daemonRestartEvent(p *project, _ *rand.Rand) bool {
	if p.act.State == Down {
		p.hasStartLease, p.isDown = true, false
	}
	if p.isInTransition() { // if the project is down at this moment, the command starts it and takes a start lease
		p.isOutcomeUnknown = true
		p.logf("%s", p.runLocalport("daemon", "restart"))
		return true
	}
	p.mustRun("daemon", "restart")
	return true
}

// awaitProcess returns the process that find finds. While the project starts, it waits up to 2 s for it.
func (p *project) awaitProcess(find func() (process, bool)) (process, bool) {
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
