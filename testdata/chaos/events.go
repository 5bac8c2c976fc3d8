package chaos

import (
	"maps"
	"math/rand/v2"
	"syscall"
)

// need is who has to use a project for an event.
type need int

const (
	needsNothing need = iota
	needsShell
	needsExec
)

// event is something that happens to a project.
type event struct {
	Kind
	needs need
	// orderly is true for what users do, and for what happens to them: no command has a reason to fail because of it.
	orderly bool
	early   bool // where the project is starting it comes just before the start, for a start does not wait for it
	// begin does it, and registers what undoes it; false if what it is about was not there.
	begin func(p *project, r *rand.Rand) bool
	// beginAll does it to all projects at once, and returns what undoes it.
	beginAll func(w *world, r *rand.Rand) (undo func(), err error)
}

func kind(name string) Kind { return Kind{Name: name, Impossible: map[State]string{}} }

func lasting(name string) Kind {
	k := kind(name)
	k.Holds = true
	return k
}

func (k Kind) never(state State, reason string) Kind {
	k.Impossible[state] = reason
	return k
}

func (k Kind) global() Kind {
	k.Global = true
	return k
}

func (k Kind) only(technology string) Kind {
	k.Only = technology
	return k
}

const noProcess = "no such process runs"

// events are all that can happen.
var events = []event{
	{Kind: kind("enter"), orderly: true, begin: enterEvent},
	{Kind: kind("leave"), orderly: true, needs: needsShell, begin: leaveEvent},
	{Kind: kind("new shell"), orderly: true, begin: newShellEvent},
	{Kind: kind("kill shell"), orderly: true, needs: needsShell, begin: killShellEvent},
	{Kind: lasting("freeze shell"), orderly: true, needs: needsShell, begin: freezeShellEvent},
	{Kind: kind("exec"), orderly: true, begin: execEvent},
	{Kind: kind("end exec"), orderly: true, needs: needsExec, begin: endExecEvent},
	{Kind: kind("start"), orderly: true, begin: startEvent},
	{Kind: kind("stop"), orderly: true, begin: stopEvent},
	{Kind: kind("act on service"), begin: serviceEvent},
	{Kind: kind("daemon restart"), begin: daemonRestartEvent},

	{Kind: kind("kill supervisor").never(Down, noProcess), begin: killSupervisorEvent},
	{Kind: kind("term supervisor").never(Down, noProcess), begin: termSupervisorEvent},
	{Kind: lasting("freeze supervisor").never(Down, noProcess), begin: freezeSupervisorEvent},
	{Kind: kind("kill keeper").never(Down, noProcess), begin: killKeeperEvent},
	{Kind: lasting("freeze keeper").never(Down, noProcess), begin: freezeKeeperEvent},
	{Kind: kind("kill tunnel").never(Down, noProcess), begin: killTunnelEvent},
	{Kind: lasting("freeze tunnel").never(Down, noProcess), begin: freezeTunnelEvent},

	{Kind: kind("edit and allow"), begin: editEvent},
	{Kind: lasting("edit only"), begin: editOnlyEvent},
	{Kind: lasting("edit .env"), begin: editDotEnvEvent},
	{Kind: lasting("deny"), needs: needsShell, begin: denyEvent},
	{Kind: lasting("steal port"), early: true, begin: stealPortEvent},
	{Kind: lasting("ssh server gone").only("ssh"), begin: sshGoneEvent},
	{Kind: lasting("far end gone").never(Degraded, "it is gone already"), begin: farGoneEvent},
	{Kind: lasting("project gone"), begin: projectGoneEvent},

	{Kind: kind("damage state"), begin: damageStateEvent},
	{Kind: kind("delete prompt line"), begin: deleteFileEvent("prompt")},
	{Kind: kind("delete lock"), begin: deleteFileEvent("lock")},
	{Kind: kind("delete election"), begin: deleteFileEvent("election")},
	{Kind: kind("delete state directory"), begin: deleteStateEvent},
	{Kind: lasting("file is a FIFO"), begin: replaceFileEvent(makeFIFO)},
	{Kind: lasting("file is a directory"), begin: replaceFileEvent(makeDirectory)},
	{Kind: lasting("file is a link loop"), begin: replaceFileEvent(makeLoop)},
	{Kind: lasting("hold lock"), begin: holdLockEvent},
	{Kind: kind("delete socket").never(Down, "there is no socket"), begin: deleteSocketEvent},

	{Kind: lasting("full disk").global(), beginAll: fillDisk},
	{Kind: lasting("read-only home").global(), beginAll: readOnlyHome},
	{Kind: kind("delete runtime directory").global(), beginAll: deleteRuntime},
}

// Kinds are the kinds of all events.
func Kinds() []Kind {
	kinds := make([]Kind, 0, len(events))
	for _, e := range events {
		k := e.Kind
		k.Impossible = maps.Clone(k.Impossible)
		kinds = append(kinds, k)
	}
	return kinds
}

func findEvent(name string) *event {
	for i := range events {
		if events[i].Name == name {
			return &events[i]
		}
	}
	return nil
}

// undo registers what ends an event.
func (p *project) undo(fn func()) { p.undos = append(p.undos, fn) }

// meanwhile does what happens while an event lasts.
func (p *project) meanwhile(r *rand.Rand, what string) {
	if what != "" {
		p.note("meanwhile: %s", what)
	}
	switch what {
	case "enter":
		if s := p.liveShell(r, false); s != nil {
			p.comeBack()
			p.enter(s)
		}
	case "leave", "kill shell":
		s := p.liveShell(r, true)
		if s == nil {
			return
		}
		p.excuseIfLast()
		if what == "leave" {
			p.leave(s)
		} else {
			p.kill(s)
		}
	case "exec":
		p.comeBack()
		p.startExec()
	case "start":
		if p.overlaps() {
			p.unsure = true
		}
		p.down, p.started = false, true
		p.try("start", "--no-wait")
	case "stop":
		p.excuse(nil, true)
		if p.overlaps() {
			p.unsure = true
		}
		p.down, p.started = true, false
		p.try("stop")
	case "kill supervisor":
		if target, ok := p.supervisor(); ok {
			p.excuse(nil, false)
			p.nudgeLater()
			signalProcess(target.pid, syscall.SIGKILL)
		}
	case "status":
		p.note("%s", p.localport("status"))
	case "prompt":
		for _, s := range p.shells {
			if s != p.occupied {
				p.run(s, ":")
			}
		}
	}
}

// overlaps reports whether something is on its way that starts or stops the project as a whole.
func (p *project) overlaps() bool { return p.act.State == Starting || p.act.State == Stopping }

// excuseIfLast allows for the project's end by its last user's leaving.
func (p *project) excuseIfLast() {
	users := len(p.execs)
	for _, s := range p.shells {
		if s.inside {
			users++
		}
	}
	if users <= 1 && !p.started {
		p.excuse(nil, true)
	}
}

// nudgeLater has an exec look after the project where no shell will: whoever is gone now may have had no keeper.
func (p *project) nudgeLater() { p.nudge = true }
