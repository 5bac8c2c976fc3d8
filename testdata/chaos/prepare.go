package chaos

import (
	"math/rand/v2"
	"slices"
	"syscall"
	"time"
)

// repair puts everything right that an act left behind, and what somebody would do again whose command met an event.
func (p *project) repair() {
	for _, s := range p.shells {
		if s.frozen {
			_ = syscall.Kill(s.PID(), syscall.SIGCONT)
			s.frozen = false
		}
	}
	p.settleExecs()
	for i, s := range p.shells {
		if s.dead {
			p.shells[i] = p.startShell(s.kind, p.w.outside())
		}
	}
}

// normalize makes the project one that is allowed and whole, whoever uses it.
func (p *project) normalize() {
	p.repair()
	if err := p.far.begin(); err != nil {
		p.fail("%v", err)
	}
	if p.text.broken || p.text.extra || p.text.changed || p.text.dotenv || p.denied || p.text.revision == 0 {
		p.text = configText{revision: p.text.revision}
		p.write()
		p.mustRun("allow")
		p.denied = false
	}
	if len(p.stopped) > 0 && !p.down && p.hasLease() {
		p.mustRun(append([]string{"start", "--no-wait"}, p.stopped...)...)
		p.started = true
	}
	p.stopped = nil
}

// arm brings the project to where the state begins; for starting and stopping the last push is kick's.
func (p *project) arm(r *rand.Rand, state State, needs need) {
	p.normalize()
	switch state {
	case Down, Starting:
		p.bringDown(needs)
	case Stopping:
		p.bringUp(r, needs, needs != needsNothing)
	case Up, Degraded:
		p.bringUp(r, needs, true)
	case Busy:
		p.bringUp(r, needs, true)
		p.fill()
	}
	if state == Degraded {
		p.far.end()
		p.touch("web")
	}
}

// bringDown ends the project: by its last user's leaving, or by stop where a user is to stay.
func (p *project) bringDown(needs need) {
	if needs != needsNothing {
		if p.shells[0].inside {
			p.leave(p.shells[0]) // it is the one to enter later
		}
		p.bringUp(nil, needs, false)
		p.mustRun("stop")
		p.down, p.started = true, false
	} else {
		p.dropLeases()
	}
	if left := p.w.eventually(quietLimit, func() string {
		if all := supervisors(processes(), p.config); len(all) > 0 {
			return all[0].String()
		}
		return ""
	}); left != "" {
		p.fail("nobody uses the project, and after %v its supervisor still runs: %s", quietLimit, left)
	}
}

// dropLeases has everybody leave.
func (p *project) dropLeases() {
	for _, s := range p.shells {
		if s.inside {
			p.leave(s)
		}
	}
	for _, cmd := range slices.Clone(p.execs) {
		p.endExec(cmd, syscall.SIGTERM)
	}
	if p.started {
		p.note("stop")
		p.mustRun("stop")
		p.started, p.down = false, true
	}
}

// bringUp has somebody use the project, and returns when its services are up. Who it is is left to chance where
// nobody is needed.
func (p *project) bringUp(r *rand.Rand, needs need, start bool) {
	if p.down && p.hasLease() { // nobody enters from outside: it is to be said
		p.mustRun("start", "--no-wait")
		p.started, p.down = true, false
	}
	if needs == needsShell && p.liveShell(steady, true) == nil {
		p.enter(p.shells[1])
	}
	if needs == needsExec && len(p.execs) == 0 {
		p.startExec()
		p.settleExecs()
	}
	if !p.hasLease() {
		choice := 0
		if r != nil {
			choice = r.IntN(4)
		}
		switch {
		case choice == 1:
			p.startExec()
			p.settleExecs()
		case choice == 2 && start:
			p.note("start")
			p.mustRun("start", "--no-wait")
			p.started = true
		case choice == 3:
			p.enter(p.shells[0])
			p.enter(p.shells[1])
		default:
			p.enter(p.shells[0])
		}
	}
	p.down = false
	if left := p.awaitUp(); left != "" {
		p.fail("it is used, and after %v %s", quietLimit, left)
	}
}

// steady makes the same choice each time.
var steady = rand.New(rand.NewPCG(0, 0))

// awaitUp returns when every service is up, or says what is not.
func (p *project) awaitUp() string {
	return p.w.eventually(quietLimit, func() string {
		r := p.localport("status", "--json")
		s, err := parseStatus(r.out)
		if r.code != 0 || err != nil {
			return r.String()
		}
		if s.State != running {
			return "status says " + s.State + ": " + s.Failure + s.Pending
		}
		for _, one := range s.Services {
			if p.state(one.Name) == "stopped" {
				continue
			}
			if one.State != "healthy" && one.State != "idle" || !one.Held {
				return one.Name + " is " + one.State + ": " + one.LastError
			}
		}
		p.learn(s)
		return ""
	})
}

// touch has a service find out about its far end, by a client that does not wait.
func (p *project) touch(service string) {
	t, err := dialTalk(p.address(service))
	if err != nil {
		return
	}
	defer t.conn.Close()
	_ = t.conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	_, _ = t.reader.ReadByte()
}

// state is "stopped" for a service that somebody stopped.
func (p *project) state(service string) string {
	if slices.Contains(p.stopped, service) {
		return "stopped"
	}
	return ""
}

// fill connects clients to every service.
func (p *project) fill() {
	for _, name := range p.services() {
		if p.w.ctx.Err() != nil {
			return
		}
		c, err := startCrowd(name, p.address(name), p.fail)
		if err != nil {
			p.fail("%s is up, and its first client was not served: %v", name, err)
			return
		}
		p.crowds = append(p.crowds, c)
	}
}

// kick sets off what starting and stopping are: it returns at once.
func (p *project) kick(r *rand.Rand, state State, needs need) {
	switch state {
	case Starting:
		choice := r.IntN(3)
		p.down = false
		switch {
		case choice == 0:
			p.note("start, in the background")
			p.started = true
			p.async.Go(func() { p.try("start", "--no-wait") })
		case choice == 1 || p.shells[0].inside: // who is inside already does not enter, and a prompt leaves the project down
			p.startExec()
		default:
			s := p.shells[0]
			p.note("%s %d enters, in the background", s.kind, s.PID())
			s.inside, p.occupied = true, s
			p.async.Go(func() { p.run(s, "cd "+p.dir) })
		}
	case Stopping:
		if needs != needsNothing {
			p.note("stop, in the background")
			p.started, p.down = false, true
			p.async.Go(func() { p.try("stop") })
			return
		}
		for _, s := range p.shells {
			if s.inside && r.IntN(2) == 0 {
				p.kill(s)
			} else if s.inside {
				p.leave(s)
			}
		}
		for _, cmd := range slices.Clone(p.execs) {
			p.endExec(cmd, []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL}[r.IntN(2)])
		}
		if p.started { // somebody had said start before
			p.started, p.down = false, true
			p.async.Go(func() { p.try("stop") })
		}
	}
}
