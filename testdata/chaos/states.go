package chaos

import (
	"math/rand/v2"
	"slices"
	"syscall"
	"time"
)

// restoreUsers continues frozen shells, waits for execs, and replaces dead shells.
func (p *project) restoreUsers() {
	for _, s := range p.shells {
		if s.isFrozen {
			_ = syscall.Kill(s.PID(), syscall.SIGCONT)
			s.isFrozen = false
		}
	}
	p.awaitExecs()
	for i, s := range p.shells {
		if s.isDead {
			p.shells[i] = p.startShell(s.kind, p.world.outsideDir())
		}
	}
}

// restore undoes what earlier acts did to the config, the approval, the upstream and single services. The users of the project stay.
func (p *project) restore() {
	p.restoreUsers()
	if err := p.upstream.start(); err != nil {
		p.fail("%v", err)
	}
	if p.config.isBroken || p.config.hasExtraService || p.config.hasOtherTimeout || p.config.hasDotEnv || p.isDenied || p.config.revision == 0 {
		p.config = configVariant{revision: p.config.revision}
		p.writeFiles()
		p.mustRun("allow")
		p.isDenied = false
	}
	if len(p.stoppedServices) > 0 && !p.isDown && p.hasLease() {
		p.mustRun(append([]string{"start", "--no-wait"}, p.stoppedServices...)...)
		p.hasStartLease = true
	}
	p.stoppedServices = nil
}

// prepareState brings the project into a state; before Starting and Stopping into the state from which beginTransition leads to them.
func (p *project) prepareState(r *rand.Rand, state State, requires requiredUser) {
	p.restore()
	switch state {
	case Down, Starting:
		p.bringDown(requires)
	case Stopping:
		p.bringUp(r, requires, requires != requiresNobody)
	case Up, Degraded:
		p.bringUp(r, requires, true)
	case Busy:
		p.bringUp(r, requires, true)
		p.connectClients()
	}
	if state == Degraded {
		p.upstream.stop()
		p.triggerDial("web")
	}
}

// bringDown returns when the project has no supervisor. If the event requires a user, the user stays and stop ends the project;
// otherwise everybody leaves.
func (p *project) bringDown(requires requiredUser) {
	if requires != requiresNobody {
		if p.shells[0].isInside {
			p.leave(p.shells[0]) // beginTransition lets this one enter
		}
		p.bringUp(nil, requires, false)
		p.mustRun("stop")
		p.isDown, p.hasStartLease = true, false
	} else {
		p.dropLeases()
	}
	if supervisor := p.awaitNoSupervisor(); supervisor != "" {
		p.fail("nobody uses the project, and after %v its supervisor still runs: %s", recoveryLimit, supervisor)
	}
}

// awaitNoSupervisor returns "" when no supervisor of the project runs, or describes one that still runs at the limit.
func (p *project) awaitNoSupervisor() string {
	return p.world.awaitNoProblem(recoveryLimit, func() string {
		if all := supervisorsOf(listProcesses(), p.configPath); len(all) > 0 {
			return all[0].String()
		}
		return ""
	})
}

// dropLeases makes every shell leave, ends every exec, and ends a start lease by stop.
func (p *project) dropLeases() {
	for _, s := range p.shells {
		if s.isInside {
			p.leave(s)
		}
	}
	for _, cmd := range slices.Clone(p.execs) {
		p.endExec(cmd, syscall.SIGTERM)
	}
	if p.hasStartLease {
		p.logf("stop")
		p.mustRun("stop")
		p.hasStartLease, p.isDown = false, true
	}
}

// bringUp makes somebody use the project unless somebody does, and returns when its services are up. Where no user is required, r
// chooses one; mayStart says whether that can be a start lease.
func (p *project) bringUp(r *rand.Rand, requires requiredUser, mayStart bool) {
	if p.isDown && p.hasLease() { // its users are inside already, and nothing but a command starts it again
		p.mustRun("start", "--no-wait")
		p.hasStartLease, p.isDown = true, false
	}
	if requires == requiresShell && !slices.ContainsFunc(p.shells, func(s *shell) bool { return p.canUseShell(s, true) }) {
		p.enter(p.shells[1])
	}
	if requires == requiresExec && len(p.execs) == 0 {
		p.startExec()
		p.awaitExecs()
	}
	if !p.hasLease() {
		choice := 0
		if r != nil {
			choice = r.IntN(4)
		}
		switch {
		case choice == 1:
			p.startExec()
			p.awaitExecs()
		case choice == 2 && mayStart:
			p.logf("start")
			p.mustRun("start", "--no-wait")
			p.hasStartLease = true
		case choice == 3:
			p.enter(p.shells[0])
			p.enter(p.shells[1])
		default:
			p.enter(p.shells[0])
		}
	}
	p.isDown = false
	if problem := p.waitUntilUp(); problem != "" {
		p.fail("it is used, and after %v %s", recoveryLimit, problem)
	}
}

// waitUntilUp returns "" when every service is up, or the problem that is left at the limit.
func (p *project) waitUntilUp() string {
	return p.world.awaitNoProblem(recoveryLimit, func() string {
		r := p.runLocalport("status", "--json")
		s, err := parseStatus(r.stdout)
		if r.exitCode != 0 || err != nil {
			return r.String()
		}
		if s.State != stateRunning {
			return "status says " + s.State + ": " + s.Failure + s.Pending
		}
		for _, svc := range s.Services {
			if p.isStopped(svc.Name) {
				continue
			}
			if svc.State != "healthy" && svc.State != "idle" || !svc.Held {
				return svc.Name + " is " + svc.State + ": " + svc.LastError
			}
		}
		p.updateFromStatus(s)
		return ""
	})
}

// triggerDial connects a client to a service for a moment, so that the service dials its upstream.
func (p *project) triggerDial(service string) {
	c, err := dialRecordConn(p.address(service))
	if err != nil {
		return
	}
	defer c.conn.Close()
	_ = c.conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	_, _ = c.reader.ReadByte()
}

// isStopped reports whether somebody stopped a service.
func (p *project) isStopped(service string) bool { return slices.Contains(p.stoppedServices, service) }

// usesSSH reports whether a service leads through the ssh server, which all projects share.
func usesSSH(service string) bool { return service == "remote" || service == agentServiceName }

// connectClients connects clients to every service and returns when each is served.
func (p *project) connectClients() {
	for _, name := range p.services() {
		if p.world.ctx.Err() != nil {
			return
		}
		stops := p.world.sshStops.Load()
		isExplained := func() bool { return usesSSH(name) && p.world.sshStops.Load() != stops }
		c, err := connectServiceClients(name, p.address(name), p.fail, isExplained)
		if err != nil && isExplained() {
			continue
		}
		if err != nil {
			p.fail("%s is up, and its first client was not served: %v", name, err)
			return
		}
		p.clients = append(p.clients, c)
	}
}

// beginTransition begins the start or stop that makes the state Starting or Stopping; it waits for no service. In other
// states it does nothing.
func (p *project) beginTransition(r *rand.Rand, state State, requires requiredUser) {
	switch state {
	case Starting:
		choice := r.IntN(3)
		p.isDown = false
		switch {
		case choice == 0:
			p.logf("start, in the background")
			p.hasStartLease = true
			p.background.Go(func() { p.runOrRepeatLater("start", "--no-wait") })
		case choice == 1 || p.shells[0].isInside: // a shell that is inside cannot enter, and its prompt starts no project that is down
			p.startExec()
		default:
			s := p.shells[0]
			p.logf("%s %d enters, in the background", s.kind, s.PID())
			s.isInside, p.busyShell = true, s
			p.background.Go(func() {
				if p.run(s, "cd "+p.dir) != 0 {
					p.mu.Lock()
					defer p.mu.Unlock()
					p.shellWithoutDir = s
				}
			})
		}
	case Stopping:
		if requires != requiresNobody {
			p.logf("stop, in the background")
			p.hasStartLease, p.isDown, p.isStopping = false, true, true
			p.background.Go(func() { p.runOrRepeatLater("stop") })
			return
		}
		for _, s := range p.shells {
			if s.isInside && r.IntN(2) == 0 {
				p.kill(s)
			} else if s.isInside {
				p.leave(s)
			}
		}
		for _, cmd := range slices.Clone(p.execs) {
			p.endExec(cmd, []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL}[r.IntN(2)])
		}
		if p.hasStartLease {
			p.hasStartLease, p.isDown, p.isStopping = false, true, true
			p.background.Go(func() { p.runOrRepeatLater("stop") })
		}
	}
}
