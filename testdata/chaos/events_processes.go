package chaos

import (
	"math/rand/v2"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// findAnySupervisor returns the project's supervisor; while the project starts or stops, any that runs.
func (p *project) findAnySupervisor() (process, bool) {
	if p.isInTransition() {
		all := supervisorsOf(listProcesses(), p.configPath)
		if len(all) == 0 {
			return process{}, false
		}
		return all[0], true
	}
	return p.findSupervisor()
}

// findKeeper returns the supervisor's keeper, which is its child or its parent.
func (p *project) findKeeper() (process, bool) {
	supervisor, ok := p.findAnySupervisor()
	if !ok {
		return process{}, false
	}
	for _, candidate := range listProcesses() {
		if len(candidate.args) == 2 && candidate.args[1] == "keep" && (candidate.parent == supervisor.pid || supervisor.parent == candidate.pid) {
			return candidate, true
		}
	}
	return process{}, false
}

// listTunnels returns the supervisor's children, without its keeper and login helpers.
func (p *project) listTunnels() []process {
	supervisor, ok := p.findAnySupervisor()
	if !ok {
		return nil
	}
	return slices.DeleteFunc(childrenOf(listProcesses(), supervisor.pid), func(child process) bool {
		return filepath.Base(child.args[0]) == filepath.Base(p.world.binary) || child.program(p.world.self) == loginHelperProgram
	})
}

// listLastingTunnels returns the tunnels that stay open while nobody uses them.
func (p *project) listLastingTunnels() []process {
	return slices.DeleteFunc(p.listTunnels(), func(tunnel process) bool {
		return p.template.name == "lazy" && tunnel.program(p.world.self) == "forward" // the on-demand service of this template
	})
}

func killSupervisorEvent(p *project, _ *rand.Rand) bool {
	supervisor, ok := p.awaitProcess(p.findAnySupervisor)
	if !ok {
		return false
	}
	p.allowInterruption(nil, false)
	if p.isInTransition() {
		p.mayBeDownUnnoticed = true // it may have had no keeper yet
	}
	p.logf("KILL to supervisor %d", supervisor.pid)
	return signalProcess(supervisor.pid, syscall.SIGKILL)
}

func termSupervisorEvent(p *project, _ *rand.Rand) bool {
	// If the successor of a supervisor that got a SIGTERM gets one as well within 10 s, the project ends as after a stop.
	const secondTermTime = 12 * time.Second
	supervisor, ok := p.awaitProcess(p.findAnySupervisor)
	if !ok {
		return false
	}
	p.isOutcomeUnknown = p.isOutcomeUnknown || p.isInTransition() || time.Since(p.lastTermAt) < secondTermTime
	p.allowInterruption(nil, p.isOutcomeUnknown)
	p.lastTermAt = time.Now()
	p.addUndo(func() { p.awaitExit(supervisor) }) // when it ends, it resets the clients that it still has
	p.logf("TERM to supervisor %d", supervisor.pid)
	return signalProcess(supervisor.pid, syscall.SIGTERM)
}

// awaitExit reports whether a process ends within recoveryLimit.
func (p *project) awaitExit(target process) bool { return p.awaitExitWithin(recoveryLimit, target) }

func (p *project) awaitExitWithin(limit time.Duration, target process) bool {
	return p.world.awaitNoProblem(limit, func() string {
		if isAlive(target.pid) {
			return "it has not ended"
		}
		return ""
	}) == ""
}

// freeze sends SIGSTOP to a process, and SIGCONT when the event ends.
func (p *project) freeze(role string, pid int) bool {
	p.logf("STOP to %s %d", role, pid)
	p.addUndo(func() {
		p.logf("CONT to %s %d", role, pid)
		signalProcess(pid, syscall.SIGCONT)
	})
	return signalProcess(pid, syscall.SIGSTOP)
}

func freezeSupervisorEvent(p *project, _ *rand.Rand) bool {
	target, ok := p.awaitProcess(p.findAnySupervisor)
	return ok && p.freeze("supervisor", target.pid)
}

func killKeeperEvent(p *project, r *rand.Rand) bool {
	target, ok := p.awaitProcess(p.findKeeper)
	if !ok {
		return false
	}
	signal := []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM}[r.IntN(2)]
	p.logf("%v to keeper %d", signal, target.pid)
	return signalProcess(target.pid, signal)
}

func freezeKeeperEvent(p *project, _ *rand.Rand) bool {
	target, ok := p.awaitProcess(p.findKeeper)
	return ok && p.freeze("keeper", target.pid)
}

// servicesWithProcesses returns the services whose tunnels are processes: all but tcp services and those in a cluster.
func (p *project) servicesWithProcesses() []string {
	return slices.DeleteFunc(slices.Clone(p.services()), func(name string) bool { return name == "web" || name == "extra" || name == clusterServiceName })
}

// chooseTunnel returns a random tunnel's process, and allows that connections of services with such tunnels end.
func (p *project) chooseTunnel(r *rand.Rand) (process, bool) {
	target, ok := p.awaitProcess(func() (process, bool) {
		all := p.listTunnels()
		if len(all) == 0 {
			return process{}, false
		}
		return all[r.IntN(len(all))], true
	})
	p.allowInterruption(p.servicesWithProcesses(), false)
	return target, ok
}

func killTunnelEvent(p *project, r *rand.Rand) bool {
	target, ok := p.chooseTunnel(r)
	if !ok {
		return false
	}
	signal := []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM}[r.IntN(2)]
	p.logf("%v to tunnel %s", signal, target)
	return signalProcess(target.pid, signal)
}

// stoppedSSHTime is how long a stopped ssh with connections may run: it is set aside after 13 s at most, and ended after 45 s more.
const stoppedSSHTime = 60 * time.Second

// freezeTunnelEvent sends SIGSTOP to a tunnel. In one of two cases it gets no SIGCONT and must be replaced. A tunnel that is being
// opened always gets one: it would be replaced only after more than recoveryLimit.
func freezeTunnelEvent(p *project, r *rand.Rand) bool {
	target, ok := p.chooseTunnel(r)
	switch {
	case !ok:
		return false
	case p.act.State == Starting || r.IntN(2) == 0:
		return p.freeze("tunnel", target.pid)
	}
	p.logf("STOP to tunnel %s, without CONT", target)
	p.addUndo(func() {
		limit := recoveryLimit
		if p.act.State == Busy && filepath.Base(target.args[0]) == "ssh" {
			limit += stoppedSSHTime
		}
		if !p.awaitExitWithin(limit, target) {
			p.fail("a tunnel's process is stopped, and %v later it was not replaced: %s", limit, target)
		}
	})
	return signalProcess(target.pid, syscall.SIGSTOP)
}
