package service

import "fmt"

// phase is where a service is in its lifecycle. Exactly one is current, and transition is the only function that changes it.
type phase int

const (
	phaseStopped        phase = iota // the port is closed and nothing runs
	phaseUnbound                     // the port could not be bound; retried every bindInterval
	phaseBlocked                     // an attempt is due, but a service that this one depends on is not ready
	phaseIdle                        // on demand: no tunnel until a client connects
	phaseConnecting                  // a tunnel is being opened
	phaseConnected                   // a tunnel is open and attached to the port
	phaseClosing                     // the last tunnel is being closed; the next phase is decided when that is done
	phaseBackoff                     // the next attempt is due at a set time; a waiting client or a network change brings it forward
	phaseFailed                      // permanent failure or attempts used up; a client may cause one attempt a second
	phaseNeedsAttention              // only a person can help
	phaseStopping                    // the port is closed, but the tunnel's processes have not ended yet
	phaseCount
)

var phaseNames = [phaseCount]string{
	"stopped", "unbound", "blocked", "idle", "connecting", "connected", "closing", "backoff", "failed", "needs attention", "stopping",
}

func (p phase) String() string { return phaseNames[p] }

// event is what an input means for the lifecycle. Conditions outside the phase (is the service on demand, does a client wait, how many
// attempts have failed) decide which event an input becomes.
type event int

const (
	eventStart           event = iota // a command wants a stopped service up
	eventStop                         // a command or the supervisor's end stops it
	eventRestart                      // the user, or a changed definition, asks for another tunnel
	eventRedefine                     // the definition changed in what the tunnel need not know
	eventBindDue                      // it is time to retry the bind
	eventBound                        // the port is bound
	eventBoundOnDemand                // the port is bound, and a tunnel is opened for the first client
	eventBindFailed                   // the port could not be bound
	eventBlocked                      // a dependency is not ready
	eventUnblocked                    // every dependency is ready
	eventClientWaiting                // a client waits, and an attempt may be made for it
	eventClientThrottled              // a client waits, but the last attempt began less than minAttemptInterval ago
	eventNetworkChanged               // the network changed or the machine slept
	eventAttemptDue                   // the time of the next attempt has come
	eventOpened                       // the attempt opened a tunnel
	eventTunnelLost                   // the tunnel ended or is to be closed
	eventRetryNow                     // nothing runs: the next attempt is due at once
	eventRetryLater                   // nothing runs: the next attempt is due after the backoff
	eventIdle                         // nothing runs, and no client needs a tunnel
	eventFailed                       // nothing runs, after a permanent failure or the last attempt
	eventNeedsAttention               // nothing runs, and only a person can help
	eventPortLost                     // nothing runs, and the port is not bound
	eventClosed                       // nothing of a stopped service runs
	eventPanicked                     // a panic in the service's own goroutine
	eventCount
)

var eventNames = [eventCount]string{
	"start", "stop", "restart", "redefine", "bind due", "bound", "bound on demand", "bind failed", "blocked", "unblocked",
	"client waiting", "client throttled", "network changed", "attempt due", "opened", "tunnel lost", "retry now", "retry later",
	"idle", "failed", "needs attention", "port lost", "closed", "panicked",
}

func (e event) String() string { return eventNames[e] }

// action is one step that follows from an event.
type action int

const (
	actionBind              action = iota // start to bind the port
	actionScheduleBind                    // retry the bind after bindInterval
	actionReleasePort                     // close the listeners; connections go on until actionCloseAll
	actionCloseAll                        // close the tunnel and the port's connections, and report when that is done
	actionCheckDependencies               // find out whether an attempt may begin
	actionShowBlocked                     // show which dependency is not ready, and treat waiting clients accordingly
	actionStartDependency                 // tell the dependency that a client waits
	actionOpen                            // start to open a tunnel
	actionCancelOpen                      // abort the attempt
	actionAttach                          // send clients through the tunnel and check its health
	actionDetach                          // stop the checks; clients wait
	actionCloseTunnel                     // close the tunnel, and report when that is done
	actionApplyDefinition                 // check the health by the new definition
	actionRecheck                         // check the tunnel and its service now
	actionHold                            // clients wait
	actionReject                          // reset waiting and new clients
	actionDropWaiting                     // reset waiting clients
	actionScheduleAttempt                 // the next attempt is due at the end of the backoff
	actionScheduleThrottled               // the next attempt is due minAttemptInterval after the last
	actionServeWaiting                    // check whether a client already waits
	actionFinish                          // notify the callers of Stop
	actionCount
)

var actionNames = [actionCount]string{
	"bind", "schedule bind", "release port", "close all", "check dependencies", "show blocked", "start dependency", "open",
	"cancel open", "attach", "detach", "close tunnel", "apply definition", "recheck", "hold", "reject", "drop waiting",
	"schedule attempt", "schedule throttled", "serve waiting", "finish",
}

func (a action) String() string { return actionNames[a] }

// Sequences of actions that several phases share.
var (
	beginAttemptActions = []action{actionHold, actionCheckDependencies}
	closeTunnelActions  = []action{actionDetach, actionCloseTunnel}
	stopActions         = []action{actionReleasePort, actionCloseAll}
)

// transition returns the next phase and the actions to perform for an event. It has no side effects. It panics for an event that cannot
// occur in the phase: inputs of an earlier tunnel, bind or close are recognised before and never become events.
func transition(p phase, e event) (phase, []action) {
	switch p {
	case phaseStopped:
		switch e {
		case eventStart:
			return phaseUnbound, []action{actionBind}
		case eventStop:
			return phaseStopped, []action{actionFinish}
		case eventRedefine:
			return phaseStopped, nil
		}
	case phaseUnbound:
		switch e {
		case eventBindDue, eventRestart, eventRedefine:
			return phaseUnbound, []action{actionBind}
		case eventBindFailed:
			return phaseUnbound, []action{actionScheduleBind}
		case eventBound:
			return phaseBlocked, beginAttemptActions
		case eventBoundOnDemand:
			return phaseIdle, []action{actionHold, actionServeWaiting}
		case eventNetworkChanged:
			return phaseUnbound, nil
		}
	case phaseBlocked:
		switch e {
		case eventBlocked:
			return phaseBlocked, []action{actionShowBlocked}
		case eventUnblocked:
			return phaseConnecting, []action{actionOpen}
		case eventRestart, eventRedefine:
			return phaseBlocked, []action{actionCheckDependencies}
		case eventClientWaiting, eventClientThrottled:
			return phaseBlocked, []action{actionStartDependency}
		case eventNetworkChanged:
			return phaseBlocked, nil
		}
	case phaseIdle, phaseBackoff, phaseFailed, phaseNeedsAttention:
		if next, actions, ok := transitionBetweenAttempts(p, e); ok {
			return next, actions
		}
	case phaseConnecting:
		switch e {
		case eventOpened:
			return phaseConnected, []action{actionAttach}
		case eventTunnelLost: // it opened after a restart was requested
			return phaseClosing, []action{actionCloseTunnel}
		case eventRestart, eventNetworkChanged:
			return phaseConnecting, []action{actionCancelOpen}
		case eventRedefine, eventClientWaiting, eventClientThrottled:
			return phaseConnecting, nil
		}
		if next, actions, ok := transitionAfterTunnel(e); ok {
			return next, actions
		}
	case phaseConnected:
		switch e {
		case eventTunnelLost, eventRestart:
			return phaseClosing, closeTunnelActions
		case eventRedefine:
			return phaseConnected, []action{actionApplyDefinition}
		case eventNetworkChanged:
			return phaseConnected, []action{actionRecheck}
		case eventClientWaiting, eventClientThrottled: // the relay connects it
			return phaseConnected, nil
		}
	case phaseClosing:
		switch e {
		case eventRestart, eventRedefine, eventClientWaiting, eventClientThrottled, eventNetworkChanged, eventBindFailed:
			return phaseClosing, nil
		case eventBound, eventBoundOnDemand:
			return phaseClosing, []action{actionHold}
		case eventPortLost:
			return phaseUnbound, []action{actionScheduleBind}
		}
		if next, actions, ok := transitionAfterTunnel(e); ok {
			return next, actions
		}
	case phaseStopping:
		switch e {
		case eventStart: // the port is opened at once; the tunnel waits for the end of the last one
			return phaseClosing, []action{actionBind}
		case eventStop, eventRedefine, eventNetworkChanged:
			return phaseStopping, nil
		case eventClosed:
			return phaseStopped, []action{actionFinish}
		}
	}
	switch {
	case e == eventStop:
		return phaseStopping, stopActions
	case e == eventPanicked && (p == phaseStopped || p == phaseStopping):
		return p, nil
	case e == eventPanicked:
		return phaseClosing, closeTunnelActions
	}
	panic(fmt.Sprintf("event %q in phase %q", e, p))
}

// transitionBetweenAttempts is transition for the phases between two attempts. False if the event cannot occur there.
func transitionBetweenAttempts(p phase, e event) (phase, []action, bool) {
	switch e {
	case eventRestart:
		return phaseBlocked, beginAttemptActions, true
	case eventRedefine, eventNetworkChanged:
		switch {
		case p == phaseIdle, p == phaseNeedsAttention && e == eventNetworkChanged:
			return p, nil, true
		}
		return phaseBlocked, beginAttemptActions, true
	case eventClientWaiting:
		if p == phaseNeedsAttention {
			return p, nil, true
		}
		return phaseBlocked, []action{actionCheckDependencies}, true
	case eventClientThrottled:
		switch p {
		case phaseFailed:
			return p, []action{actionDropWaiting}, true
		case phaseNeedsAttention:
			return p, nil, true
		}
		return p, []action{actionScheduleThrottled}, true
	case eventAttemptDue:
		if p == phaseIdle || p == phaseBackoff {
			return phaseBlocked, []action{actionCheckDependencies}, true
		}
	}
	return p, nil, false
}

// transitionAfterTunnel is transition for the outcome of an attempt or a tunnel. False if the event is not an outcome.
func transitionAfterTunnel(e event) (phase, []action, bool) {
	switch e {
	case eventRetryNow:
		return phaseBlocked, []action{actionCheckDependencies}, true
	case eventRetryLater:
		return phaseBackoff, []action{actionScheduleAttempt, actionServeWaiting}, true
	case eventIdle:
		return phaseIdle, []action{actionServeWaiting}, true
	case eventFailed:
		return phaseFailed, []action{actionDropWaiting}, true
	case eventNeedsAttention:
		return phaseNeedsAttention, []action{actionReject}, true
	}
	return 0, nil, false
}
