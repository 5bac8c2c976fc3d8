package chaos

import (
	"math/rand/v2"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// anySupervisor is the project's; while it starts, the one that is there.
func (p *project) anySupervisor() (process, bool) {
	if p.overlaps() {
		all := supervisors(processes(), p.config)
		if len(all) == 0 {
			return process{}, false
		}
		return all[0], true
	}
	return p.supervisor()
}

// keeper is the process that holds copies of the supervisor's listeners: the supervisor's child or parent.
func (p *project) keeper() (process, bool) {
	supervisor, ok := p.anySupervisor()
	if !ok {
		return process{}, false
	}
	for _, one := range processes() {
		if len(one.args) == 2 && one.args[1] == "keep" && (one.parent == supervisor.pid || supervisor.parent == one.pid) {
			return one, true
		}
	}
	return process{}, false
}

// tunnels are what a supervisor runs besides its keeper.
func (p *project) tunnels() []process {
	supervisor, ok := p.anySupervisor()
	if !ok {
		return nil
	}
	return slices.DeleteFunc(children(processes(), supervisor.pid), func(one process) bool {
		return filepath.Base(one.args[0]) == filepath.Base(p.w.binary)
	})
}

// lastingTunnels are the tunnels that end neither by themselves nor because nobody uses them.
func (p *project) lastingTunnels() []process {
	return slices.DeleteFunc(p.tunnels(), func(one process) bool {
		return p.shape.name == "lazy" && one.tool(p.w.self) == "forward" // on demand
	})
}

func killSupervisorEvent(p *project, _ *rand.Rand) bool {
	target, ok := p.target(p.anySupervisor)
	if !ok {
		return false
	}
	p.excuse(nil, false)
	if p.overlaps() {
		p.nudgeLater() // it may have had no keeper yet
	}
	p.note("KILL to supervisor %d", target.pid)
	return signalProcess(target.pid, syscall.SIGKILL)
}

func termSupervisorEvent(p *project, _ *rand.Rand) bool {
	// A second SIGTERM, to the successor of a supervisor that handed over on the first, ends the project as a stop does.
	const meant = 12 * time.Second
	target, ok := p.target(p.anySupervisor)
	if !ok {
		return false
	}
	p.unsure = p.unsure || p.overlaps() || time.Since(p.lastTerm) < meant
	p.excuse(nil, p.unsure)
	p.lastTerm = time.Now()
	p.undo(func() { // it resets the clients that it has when it takes the signal up, which may take a moment
		p.w.eventually(quietLimit, func() string {
			if isAlive(target.pid) {
				return "it has not ended"
			}
			return ""
		})
	})
	p.note("TERM to supervisor %d", target.pid)
	return signalProcess(target.pid, syscall.SIGTERM)
}

// freeze stops a process until the event ends.
func (p *project) freeze(what string, pid int) bool {
	p.note("STOP to %s %d", what, pid)
	p.undo(func() {
		p.note("CONT to %s %d", what, pid)
		signalProcess(pid, syscall.SIGCONT)
	})
	return signalProcess(pid, syscall.SIGSTOP)
}

func freezeSupervisorEvent(p *project, _ *rand.Rand) bool {
	target, ok := p.target(p.anySupervisor)
	return ok && p.freeze("supervisor", target.pid)
}

func killKeeperEvent(p *project, r *rand.Rand) bool {
	target, ok := p.target(p.keeper)
	if !ok {
		return false
	}
	signal := []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM}[r.IntN(2)]
	p.note("%v to keeper %d", signal, target.pid)
	return signalProcess(target.pid, signal)
}

func freezeKeeperEvent(p *project, _ *rand.Rand) bool {
	target, ok := p.target(p.keeper)
	return ok && p.freeze("keeper", target.pid)
}

// withProcesses are the services whose tunnels are processes: all but tcp services.
func (p *project) withProcesses() []string {
	return slices.DeleteFunc(slices.Clone(p.services()), func(name string) bool { return name == "web" || name == "extra" })
}

// tunnel chooses one of the tunnels' processes, and allows for what its end ends: not the connections of tcp services.
func (p *project) tunnel(r *rand.Rand) (process, bool) {
	target, ok := p.target(func() (process, bool) {
		all := p.tunnels()
		if len(all) == 0 {
			return process{}, false
		}
		return all[r.IntN(len(all))], true
	})
	p.excuse(p.withProcesses(), false)
	return target, ok
}

func killTunnelEvent(p *project, r *rand.Rand) bool {
	target, ok := p.tunnel(r)
	if !ok {
		return false
	}
	signal := []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM}[r.IntN(2)]
	p.note("%v to tunnel %s", signal, target)
	return signalProcess(target.pid, signal)
}

// freezeTunnelEvent stops a tunnel, half of the times for good: then it must be replaced. One that is only being opened is not
// looked at, and given up after longer than it may take here to become quiet.
func freezeTunnelEvent(p *project, r *rand.Rand) bool {
	target, ok := p.tunnel(r)
	switch {
	case !ok:
		return false
	case p.act.State == Starting || r.IntN(2) == 0:
		return p.freeze("tunnel", target.pid)
	}
	p.note("STOP to tunnel %s, for good", target)
	p.undo(func() {
		if left := p.w.eventually(quietLimit, func() string {
			if isAlive(target.pid) {
				return target.String()
			}
			return ""
		}); left != "" {
			p.fail("a tunnel's process is stopped, and %v later it was not replaced: %s", quietLimit, left)
		}
	})
	return signalProcess(target.pid, syscall.SIGSTOP)
}
