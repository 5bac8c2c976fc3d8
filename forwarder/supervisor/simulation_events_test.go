package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
)

// simEvents are the events, each with its weight.
var simEvents = []struct {
	weight int
	apply  func(*simulation)
}{
	{20, (*simulation).sleepShort},
	{10, (*simulation).sleepLong},
	{10, (*simulation).enterOrLeave},
	{6, (*simulation).prompt},
	{3, (*simulation).killShell},
	{1, (*simulation).startProject},
	{1, (*simulation).stopProject},
	{3, (*simulation).killSupervisor},
	{2, (*simulation).hangOrContinueGuard},
	{6, (*simulation).changeDisk},
	{5, (*simulation).destroyFile},
	{2, (*simulation).lockFileElsewhere},
	{5, (*simulation).reload},
	{4, (*simulation).serviceCommand},
	{8, (*simulation).changeUpstream},
	{6, (*simulation).connectClient},
	{2, (*simulation).changeNetwork},
	{2, (*simulation).takePort},
}

// performEvent performs a random event. Files are destroyed more often while a call waits: in the middle of what depends on them.
func (s *simulation) performEvent() {
	if len(s.calls.list(s.hangs)) > 0 && s.random.IntN(4) == 0 {
		s.destroyFile()
		return
	}
	total := 0
	for _, e := range simEvents {
		total += e.weight
	}
	choice := s.random.IntN(total)
	for _, e := range simEvents {
		if choice -= e.weight; choice < 0 {
			e.apply(s)
			return
		}
	}
}

func (s *simulation) chooseShell() *simShell { return s.shells[s.random.IntN(len(s.shells))] }

func (s *simulation) sleep(most time.Duration) {
	d := time.Duration(s.random.Int64N(int64(most)))
	s.logf("time passes: %v", d)
	s.pass(d)
}

func (s *simulation) sleepShort() { s.sleep(time.Second) }
func (s *simulation) sleepLong()  { s.sleep(8 * time.Second) }

func (s *simulation) enterOrLeave() {
	sh := s.chooseShell()
	lease := shellLease(sh.process.Process)
	if !sh.isInside {
		if sh.isInside = s.command(sh, "enter", func() { s.join(sh, lease, true) }); sh.isInside {
			sh.mayKeepLease = false
		}
		return
	}
	if s.command(sh, "leave", func() {
		for !s.leave(sh, lease) { // as at the next prompt
			time.Sleep(time.Second)
		}
	}) {
		sh.isInside = false
		s.setAcked(lease.Process, false)
	}
}

func (s *simulation) prompt() {
	if sh := s.chooseShell(); sh.isInside {
		s.command(sh, "prompt", func() { s.join(sh, shellLease(sh.process.Process), false) })
	}
}

func (s *simulation) killShell() {
	at := s.random.IntN(len(s.shells))
	sh := s.shells[at]
	s.logf("kill %s", sh.process.name)
	s.mu.Lock()
	s.disturbedAt = time.Now() // its command may have written the state, and not the prompt's line
	s.mu.Unlock()
	s.setAcked(sh.process.Process, false)
	s.processes.end(sh.process)
	for _, call := range s.calls.list(func(call *simCall) bool { return call.process != sh.process }) {
		s.calls.finish(call, nil)
	}
	s.shells[at] = &simShell{process: s.processes.start(fmt.Sprintf("shell%d", s.processes.lastPID+1))}
}

func (s *simulation) startProject() {
	sh := s.chooseShell()
	s.command(sh, "start", func() { s.join(sh, lockstate.Lease{Kind: lockstate.StartLease}, true) })
}

func (s *simulation) stopProject() {
	sh := s.chooseShell()
	s.command(sh, "stop", func() {
		ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Second)
		defer cancel()
		s.setAcked(lockstate.Process{}, false)
		s.recordRelease(lockstate.Process{})
		for isRecorded := false; !isRecorded && ctx.Err() == nil; wait.Sleep(ctx, simOffset) {
			ackStop := s.beginStop()
			hasEnded, isRestarted := false, false
			recordStop := func(tx *lockstate.Tx) error {
				if isRestarted = hasEnded && tx.IsSupervisorRunning(); isRestarted {
					return nil
				}
				tx.Down = true
				tx.RemoveLease(lockstate.StartLease, lockstate.Process{})
				tx.Bump()
				tx.MarkFinal()
				isRecorded = !tx.IsSupervisorRunning() // else it is asked to end, as soon as it answers
				return nil
			}
			_, err := s.dirOf(sh).Update(ctx, recordStop)
			if isRecorded = isRecorded && err == nil; isRecorded {
				ackStop()
			}
			s.setAcked(lockstate.Process{}, false) // a start meanwhile was before the stop
			if s.answering() != nil {
				endCtx, cancel := context.WithTimeout(s.t.Context(), 5*time.Second) // the command has kept time for it
				defer cancel()
				isCertain, endErr := s.endSupervisors(endCtx, sh)
				s.setAcked(lockstate.Process{}, false) // as above
				if endErr != nil {
					return
				}
				hasEnded = true
				if err != nil { // what prevented the write may have ended with the supervisor
					_, err = s.dirOf(sh).Update(endCtx, recordStop)
					s.setAcked(lockstate.Process{}, false)
				}
				writeErr, _ := errors.AsType[*lockstate.WriteError](err)
				_, readErr := s.dir.Read()
				hasFallback := writeErr != nil && writeErr.Fallback != "" && readErr == nil              // it belongs to that state
				if isCertain && !isRestarted && (err == nil || hasFallback || s.dir.ReadOrZero().Down) { // else the command warns that the next prompt may start the project
					ackStop()
				}
				return
			}
		}
	})
}

// endSupervisors ends the supervisor that answers and then, if the project is still down, any other that runs: the first may have been
// superseded. It is not certain that none runs if the state cannot be read.
func (s *simulation) endSupervisors(ctx context.Context, sh *simShell) (isCertain bool, err error) {
	for ctx.Err() == nil {
		if sup := s.answering(); sup != nil {
			s.mu.Lock()
			sup.isAskedToEnd = true
			s.mu.Unlock()
			if err := sup.End(ctx); err != nil {
				return false, err
			}
		}
		isRunning := false
		_, err := s.dirOf(sh).Update(ctx, func(tx *lockstate.Tx) error {
			isRunning = tx.Down && tx.IsSupervisorRunning()
			return nil
		})
		if err != nil || !isRunning {
			return err == nil, nil
		}
		wait.Sleep(ctx, simOffset)
	}
	return false, ctx.Err()
}

// chooseSupervisor returns a random supervisor; nil if there is none.
func (s *simulation) chooseSupervisor() *simSupervisor {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.supervisors) == 0 {
		return nil
	}
	return s.supervisors[s.random.IntN(len(s.supervisors))]
}

func (s *simulation) killSupervisor() {
	if sup := s.chooseSupervisor(); sup != nil {
		s.logf("kill %s", sup.process.name)
		s.endProcess(sup)
		synctest.Wait()
		s.forgetLostLeases()
		if s.random.IntN(2) == 0 {
			s.logf("the next one is started at once, as by a keeper")
			s.startSupervisor()
		}
	}
}

func (s *simulation) hangOrContinueGuard() {
	if sup := s.chooseSupervisor(); sup != nil {
		s.mu.Lock()
		sup.isHung = !sup.isHung
		s.mu.Unlock()
		s.logf("the guard of %s hangs: %v", sup.process.name, sup.isHung)
	}
}

func (s *simulation) changeDisk() {
	if s.disk != (simDisk{}) {
		s.disk = simDisk{}
	} else {
		s.disk = []simDisk{{isFull: true}, {isReadOnly: true}, {isBroken: true}, {isNFS: true}}[s.random.IntN(4)]
	}
	s.logf("disk: %v", s.disk)
}

// destroyFile deletes a file or the directory, or replaces the state file by a part of it or an older copy.
func (s *simulation) destroyFile() {
	names := []string{"lock", "state.json", "election", "prompt", "down", "down.unset", "", "part", "copy"}
	name := names[s.random.IntN(len(names))]
	if s.disk.isNFS && (name == "lock" || name == "") && s.isWriting() {
		return // the deletion would be between the last check of the lock and the write that it permits: nothing protects that
	}
	s.logf("destroy %q", name)
	s.mu.Lock()
	s.destroyed++
	if name == "election" || name == "" {
		s.destroyedElections++
	}
	s.isStopAcked = false
	s.brokenAt = time.Now()
	s.mu.Unlock()
	switch name {
	case "", "prompt":
		s.promptNumber = 0
		s.hasLostPrompt = true
	case "copy":
		s.hasLostState = true
	}
	data, err := os.ReadFile(s.path("state.json"))
	switch {
	case name == "part" && err == nil:
		s.replaceState(data[:s.random.IntN(max(1, len(data)))])
	case name == "copy" && s.oldState != nil && err == nil:
		s.replaceState(s.oldState)
	case name == "":
		_ = os.RemoveAll(s.dir.Path)
	case name != "part" && name != "copy":
		_ = os.Remove(s.path(name))
	}
	s.forgetLostLeases()
}

// isWriting reports whether a file is about to be written.
func (s *simulation) isWriting() bool {
	isWrite := func(call *simCall) bool {
		return call.call == lockstate.CallRename || call.call == lockstate.CallOverwrite || call.call == lockstate.CallCreate && call.name != "state.json"
	}
	return len(s.calls.list(func(call *simCall) bool { return !isWrite(call) })) > 0
}

func (s *simulation) replaceState(data []byte) {
	temp := s.path(".other")
	if os.WriteFile(temp, data, 0o600) == nil {
		_ = os.Rename(temp, s.path("state.json"))
	}
}

// keepCopy keeps the state file as it was before the last change of the prompt's line.
func (s *simulation) keepCopy(line uint64) {
	data, err := os.ReadFile(s.path("state.json"))
	if err != nil {
		return
	}
	if line > s.lastLine {
		s.oldState = s.lastState
	}
	s.lastState, s.lastLine = data, line
}

func (s *simulation) lockFileElsewhere() {
	if s.lockFile != nil {
		s.logf("the lock file is unlocked")
		s.unlockFile()
		return
	}
	file, err := os.OpenFile(s.path("lock"), os.O_RDONLY, 0)
	if err != nil {
		return
	}
	if unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		file.Close()
		return
	}
	s.logf("another program locks the lock file")
	s.lockFile = file
}

func (s *simulation) reload() {
	c := s.config
	c.revision++
	fields := []*bool{&c.hasExtra, &c.otherRemote, &c.otherLocal, &c.otherTimeout, &c.isBaseDisabled, &c.webNeedsExtra}
	for range 1 + s.random.IntN(2) {
		field := fields[s.random.IntN(len(fields))]
		*field = !*field
	}
	s.mu.Lock()
	s.config = c
	s.mu.Unlock()
	s.logf("reload: %+v", c)
	sup := s.answering()
	if sup == nil {
		return
	}
	s.goAs("reload", func() {
		ctx := s.t.Context()
		end := s.beginOperation(sup)
		err := errors.New("nothing has changed")
		defer func() {
			if end(err) {
				s.checkUnwanted(sup)
			}
		}()
		if sup.beginOperation(ctx) != nil {
			return
		}
		defer sup.endOperation()
		before := sup.active.Load()
		next, loadErr := c.load(simDriver{s.network, sup.process})
		if loadErr != nil {
			s.fail("%v", loadErr)
			return
		}
		if next.files.Digest() == before.digest {
			return
		}
		tunnels := s.network.openTunnels(sup.process.name)
		sup.activate(ctx, before, next, nil)
		err = nil
		s.checkKeptTunnels(sup, before.project, tunnels)
	})
}

// checkKeptTunnels checks that a reload has not closed a tunnel that serves the new config as well.
func (s *simulation) checkKeptTunnels(sup *simSupervisor, before *project.Project, tunnels map[string]*simTunnel) {
	active := sup.active.Load()
	for _, svc := range active.project.Services {
		name := svc.Name
		now, tunnel := active.services[name].Snapshot(), tunnels[name]
		if tunnel == nil || now.IsStopped() || now.Service.OnDemand || !tunnel.isClosedByService() {
			continue
		}
		if old, _ := before.FindService(name); old.RemotePort == now.Service.RemotePort && old.LocalPort == now.Service.LocalPort {
			s.fail("the tunnel of %s was closed by a reload, although neither its addresses nor its target changed", name)
		}
	}
}

func (s *simulation) serviceCommand() {
	name := simServiceNames[s.random.IntN(len(simServiceNames))]
	action := []api.Action{api.ActionStart, api.ActionStop, api.ActionRestart}[s.random.IntN(3)]
	s.logf("%s %s", action, name)
	if sup := s.answering(); sup != nil {
		s.goAs("action", func() {
			end := s.beginOperation(sup)
			err := errors.New("the supervisor was killed")
			defer func() { s.recordAction(sup, action, name, end(err)) }()
			_, err = sup.ApplyAction(s.t.Context(), api.ActionRequest{Action: action, Names: []string{name}})
		})
	}
}

// checkUnwanted checks that a reload has stopped what the new config does not start. An action may leave a dependency running.
func (s *simulation) checkUnwanted(sup *simSupervisor) {
	active := sup.active.Load()
	wanted := wantedServices(active.project, sup.selection())
	for _, svc := range active.project.Services {
		if now := active.services[svc.Name].Snapshot(); !slices.Contains(wanted, svc.Name) && !now.IsStopped() {
			s.fail("%s: nothing in the reloaded config starts %s, and it is %s", sup.process.name, svc.Name, now.State)
		}
	}
}

// recordAction checks and records what an action has done, unless another operation overlapped: then their order is not known.
func (s *simulation) recordAction(sup *simSupervisor, action api.Action, name string, isAlone bool) {
	active := sup.active.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !isAlone || sup.isSuperseded.Load() || sup.isClosing.Load() {
		sup.stopped = map[string]bool{}
		return
	}
	sup.stopped[name] = action == api.ActionStop
	for _, svc := range active.project.Services {
		if !dependsOn(active.project, svc, name) {
			continue
		}
		if action != api.ActionStop {
			delete(sup.stopped, svc.Name)
		} else if sup.stopped[svc.Name] = true; !active.services[svc.Name].Snapshot().IsStopped() {
			s.failLocked("%s depends on %s, which the user has stopped, and runs", svc.Name, name)
		}
	}
	if svc, _ := active.project.FindService(name); action != api.ActionStop {
		if !slices.Contains(wantedServices(active.project, sup.selection()), name) {
			s.failLocked("%s was started, and the next reload would stop it", name)
		}
		for _, other := range active.project.Services {
			if dependsOn(active.project, svc, other.Name) {
				if delete(sup.stopped, other.Name); active.services[other.Name].Snapshot().IsStopped() {
					s.failLocked("%s was started, and %s, on which it depends, was not", name, other.Name)
				}
			}
		}
	}
}

// dependsOn reports whether a service depends on the named one, directly or not.
func dependsOn(p *project.Project, svc project.Service, name string) bool {
	return slices.ContainsFunc(svc.DependsOn, func(dependency string) bool {
		other, _ := p.FindService(dependency)
		return dependency == name || dependsOn(p, other, name)
	})
}

func (s *simulation) changeUpstream() {
	name := simServiceNames[s.random.IntN(len(simServiceNames))]
	outcome := simOpens
	if s.random.IntN(2) == 0 {
		outcome = simOutcome(s.random.IntN(int(simOutcomeCount)))
	}
	s.logf("the upstream of %s %s", name, simOutcomeNames[outcome])
	s.network.setOutcome(name, outcome)
}

func (s *simulation) connectClient() {
	name := simServiceNames[s.random.IntN(len(simServiceNames))]
	s.logf("a client connects to %s", name)
	if sup := s.answering(); sup != nil {
		if svc := sup.active.Load().services[name]; svc != nil {
			if port, ok := svc.Snapshot().Port().(*simPort); ok {
				s.network.excuseAttemptsOfClients()
				port.connect()
			}
		}
	}
}

func (s *simulation) changeNetwork() {
	s.logf("the network changes")
	if sup := s.answering(); sup != nil {
		s.network.excuseAttempts()
		sup.active.Load().onNetworkChange()
	}
}

func (s *simulation) takePort() {
	port := simBasePort + s.random.IntN(len(simServiceNames))
	s.network.mu.Lock()
	isTaken := !s.network.taken[port]
	s.network.mu.Unlock()
	s.logf("another program takes port %d: %v", port, isTaken)
	s.network.setTaken(port, isTaken)
}
