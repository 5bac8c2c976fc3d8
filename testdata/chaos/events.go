package chaos

import (
	"maps"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"
)

// requiredUser is the kind of user that a project must have for an event.
type requiredUser int

const (
	requiresNobody requiredUser = iota
	requiresShell
	requiresExec
)

// event is something that happens to one project or, if its kind is global, to all at once.
type event struct {
	EventKind
	requires requiredUser
	// commandsMustSucceed is true for what users do and what happens to users: it gives no command a reason to fail.
	commandsMustSucceed bool
	// comesBeforeStart puts the event just before the start in the state Starting: a start takes less time than the event.
	comesBeforeStart bool
	// recoveryLimit is the time from the end of the event until all promises are kept; 0: the one of all other events.
	recoveryLimit time.Duration
	// apply begins the event and registers with addUndo what ends it. It returns false if there was nothing to apply it to.
	apply func(p *project, r *rand.Rand) bool
	// applyToAll begins a global event, and returns what ends it; nil if nothing does.
	applyToAll func(w *world, r *rand.Rand) (undo func(), err error)
}

// newKind makes the kind of an event that is over at once.
func newKind(name string) EventKind { return EventKind{Name: name, Impossible: map[State]string{}} }

// newLastingKind makes the kind of an event that lasts for a while.
func newLastingKind(name string) EventKind {
	k := newKind(name)
	k.Lasts = true
	return k
}

func (k EventKind) impossibleIn(state State, reason string) EventKind {
	k.Impossible[state] = reason
	return k
}

// onlyIn makes a kind impossible in all states but one.
func (k EventKind) onlyIn(state State, reason string) EventKind {
	for _, other := range States {
		if other != state {
			k.Impossible[other] = reason
		}
	}
	return k
}

func (k EventKind) forAllProjects() EventKind {
	k.Global = true
	return k
}

func (k EventKind) forTechnology(technology string) EventKind {
	k.Technology = technology
	return k
}

// Reasons why an event cannot happen in a state, or shows nothing there.
const (
	noProcess       = "no such process runs"
	noLoginUpstream = "as while up: a login does not depend on the upstream"
)

// events are all events. The order decides which steps a seed gives.
var events = []event{
	{EventKind: newKind("enter"), commandsMustSucceed: true, apply: enterEvent},
	{EventKind: newKind("leave"), commandsMustSucceed: true, requires: requiresShell, apply: leaveEvent},
	{EventKind: newKind("new shell"), commandsMustSucceed: true, apply: newShellEvent},
	{EventKind: newKind("kill shell"), commandsMustSucceed: true, requires: requiresShell, apply: killShellEvent},
	{EventKind: newLastingKind("freeze shell"), commandsMustSucceed: true, requires: requiresShell, apply: freezeShellEvent},
	{EventKind: newLastingKind("change environment"), commandsMustSucceed: true, apply: changeEnvironmentEvent},
	{EventKind: newKind("exec"), commandsMustSucceed: true, apply: execEvent},
	{EventKind: newKind("end exec"), commandsMustSucceed: true, requires: requiresExec, apply: endExecEvent},
	{EventKind: newKind("start"), commandsMustSucceed: true, apply: startEvent},
	{EventKind: newKind("stop"), commandsMustSucceed: true, apply: stopEvent},
	{EventKind: newKind("service command"), apply: serviceCommandEvent},
	{EventKind: newKind("daemon restart"), apply: daemonRestartEvent},

	{EventKind: newKind("kill supervisor").impossibleIn(Down, noProcess), apply: killSupervisorEvent},
	{EventKind: newKind("term supervisor").impossibleIn(Down, noProcess), apply: termSupervisorEvent},
	{EventKind: newLastingKind("freeze supervisor").impossibleIn(Down, noProcess), apply: freezeSupervisorEvent},
	{EventKind: newKind("kill keeper").impossibleIn(Down, noProcess), apply: killKeeperEvent},
	{EventKind: newLastingKind("freeze keeper").impossibleIn(Down, noProcess), apply: freezeKeeperEvent},
	{EventKind: newKind("kill tunnel").impossibleIn(Down, noProcess), apply: killTunnelEvent},
	{EventKind: newLastingKind("freeze tunnel").impossibleIn(Down, noProcess), apply: freezeTunnelEvent},

	{EventKind: newKind("edit and allow"), apply: editEvent},
	{EventKind: newLastingKind("edit only"), apply: editOnlyEvent},
	{EventKind: newLastingKind("edit .env"), apply: editDotEnvEvent},
	{EventKind: newLastingKind("deny"), requires: requiresShell, apply: denyEvent},
	{EventKind: newLastingKind("steal port"), comesBeforeStart: true, apply: stealPortEvent},
	{EventKind: newLastingKind("ssh server gone").forTechnology("ssh"), apply: sshServerGoneEvent},
	{EventKind: newLastingKind("agent replaced").forTechnology(technologySSHAgent).impossibleIn(Degraded, noLoginUpstream), apply: replaceAgentEvent},
	{EventKind: newLastingKind("agent without keys").forTechnology(technologySSHAgent).impossibleIn(Degraded, noLoginUpstream), apply: removeAgentKeysEvent},
	{EventKind: newLastingKind("freeze agent").forTechnology(technologySSHAgent).impossibleIn(Degraded, noLoginUpstream), apply: freezeAgentEvent},
	{EventKind: newLastingKind("API server says 401").forTechnology(technologyKubectl), apply: refuseRequestsEvent(401, "Unauthorized|logged in")},
	{EventKind: newLastingKind("API server says 403").forTechnology(technologyKubectl), apply: refuseRequestsEvent(403, "Forbidden|is refused")},
	{EventKind: newLastingKind("API server has other CA").forTechnology(technologyKubectl), apply: otherCertificateEvent},
	{EventKind: newLastingKind("API server moves").forTechnology(technologyKubectl), apply: moveServerEvent},
	{EventKind: newLastingKind("token renewed").forTechnology(technologyKubectl), apply: renewTokenEvent},
	{EventKind: newLastingKind("login helper offline").forTechnology(technologyLoginHelper), apply: helperOfflineEvent},
	{
		EventKind: newLastingKind("login helper offline unnoticed").forTechnology(technologyLoginHelper).onlyIn(Up, "its recovery takes half a minute, for which all projects wait"),
		apply:     helperOfflineUnnoticedEvent, recoveryLimit: helperRecoveryLimit,
	},
	{EventKind: newLastingKind("WebSocket refused").forTechnology(technologyKubectl), apply: refuseWebSocketEvent},
	{EventKind: newLastingKind("upstream gone").impossibleIn(Degraded, "it is gone already"), apply: upstreamGoneEvent},
	{EventKind: newLastingKind("project gone"), apply: projectGoneEvent},

	{EventKind: newKind("damage state"), apply: damageStateEvent},
	{EventKind: newKind("delete prompt line"), apply: deleteFileEvent("prompt")},
	{EventKind: newKind("delete lock"), apply: deleteFileEvent("lock")},
	{EventKind: newKind("delete election"), apply: deleteFileEvent("election")},
	{EventKind: newKind("delete state directory"), apply: deleteStateEvent},
	{EventKind: newLastingKind("file is a FIFO"), apply: replaceFileEvent(makeFIFO)},
	{EventKind: newLastingKind("file is a directory"), apply: replaceFileEvent(makeDirectory)},
	{EventKind: newLastingKind("file is a link loop"), apply: replaceFileEvent(makeLoop)},
	{EventKind: newLastingKind("hold lock"), apply: holdLockEvent},
	{EventKind: newKind("delete socket").impossibleIn(Down, "there is no socket"), apply: deleteSocketEvent},

	{EventKind: newLastingKind("full disk").forAllProjects(), applyToAll: fillDisk},
	{EventKind: newLastingKind("read-only home").forAllProjects(), applyToAll: readOnlyHome},
	{EventKind: newKind("delete runtime directory").forAllProjects(), applyToAll: deleteRuntime},
}

// EventKinds returns the kinds of all events, which the caller may change.
func EventKinds() []EventKind {
	kinds := make([]EventKind, 0, len(events))
	for _, e := range events {
		k := e.EventKind
		k.Impossible = maps.Clone(k.Impossible)
		kinds = append(kinds, k)
	}
	return kinds
}

// findEvent returns the event of a name that EventKinds has.
func findEvent(name string) *event {
	return &events[slices.IndexFunc(events, func(e event) bool { return e.Name == name })]
}

// addUndo registers a function that ends the event. The one that was registered last runs first.
func (p *project) addUndo(fn func()) { p.undoFuncs = append(p.undoFuncs, fn) }

// performMeanwhile performs one of meanwhileActions.
func (p *project) performMeanwhile(r *rand.Rand, action string) {
	if action != "" {
		p.logf("meanwhile: %s", action)
	}
	switch action {
	case "enter":
		if s := p.chooseShell(r, false); s != nil {
			p.markInUse()
			p.enter(s)
		}
	case "leave", "kill shell":
		s := p.chooseShell(r, true)
		if s == nil {
			return
		}
		p.allowEndByLastUser()
		if action == "leave" {
			p.leave(s)
		} else {
			p.kill(s)
		}
	case "exec":
		p.markInUse()
		p.startExec()
	case "start":
		if p.isInTransition() {
			p.isOutcomeUnknown = true
		}
		p.isDown, p.hasStartLease = false, true
		p.runOrRepeatLater("start", "--no-wait")
	case "stop":
		p.allowInterruption(nil, true)
		if p.isInTransition() {
			p.isOutcomeUnknown = true
		}
		p.isDown, p.hasStartLease = true, false
		p.runOrRepeatLater("stop")
	case "kill supervisor":
		if supervisor, ok := p.findSupervisor(); ok {
			p.allowInterruption(nil, false)
			p.mayBeDownUnnoticed = true // it may have had no keeper
			signalProcess(supervisor.pid, syscall.SIGKILL)
		}
	case "status":
		p.logf("%s", p.runLocalport("status"))
	case "prompt":
		for _, s := range p.shells {
			if s != p.busyShell {
				p.run(s, ":")
			}
		}
	}
}

// isInTransition reports whether the act happens while the whole project is being started or stopped.
func (p *project) isInTransition() bool { return p.act.State == Starting || p.act.State == Stopping }

// allowEndByLastUser allows that the project ends, if it has only one user: the caller is about to end that user.
func (p *project) allowEndByLastUser() {
	users := len(p.execs)
	for _, s := range p.shells {
		if s.isInside {
			users++
		}
	}
	if users <= 1 && !p.hasStartLease {
		p.allowInterruption(nil, true)
	}
}
