package service

import "fmt"

// phase is where a service is in its lifecycle. Exactly one is current; transition says how it changes.
type phase int

const (
	phaseStopped        phase = iota // the port is closed and nothing runs
	phaseUnbound                     // the port could not be bound; retried every bindInterval
	phaseShared                      // another project has the port, and a tunnel to the same target
	phaseBlocked                     // an attempt is due, but a service that this one depends on is not ready
	phaseIdle                        // on demand: no tunnel until a client connects
	phaseConnecting                  // a tunnel is being opened
	phaseConnected                   // a tunnel is open and attached to the port
	phaseClosing                     // the last tunnel is being closed; the next phase is decided when that is done
	phaseBackoff                     // the next attempt is due at a set time; a waiting client or a change brings it forward
	phaseFailed                      // permanent failure or attempts used up; a client may cause one attempt a second
	phaseNeedsAttention              // only a person can help, here or by changing what the failure rests on
	phaseStopping                    // the port is closed, but the tunnel's processes have not ended yet
	phaseCount
)

var phaseNames = [phaseCount]string{
	"stopped", "unbound", "shared", "blocked", "idle", "connecting", "connected", "closing", "backoff", "failed", "needs attention", "stopping",
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
	eventShared                       // another project shares the port
	eventShareEnded                   // it no longer does
	eventBlocked                      // a dependency is not ready
	eventUnblocked                    // every dependency is ready
	eventClientWaiting                // a client waits, and an attempt may be made for it
	eventClientThrottled              // a client waits, but the last attempt began less than minAttemptInterval ago
	eventNetworkChanged               // the network changed or the machine slept
	eventAttemptDue                   // the time of the next attempt has come
	eventCauseChanged                 // what the last failure rests on has changed
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
	"start", "stop", "restart", "redefine", "bind due", "bound", "bound on demand", "bind failed", "shared", "share ended", "blocked", "unblocked",
	"client waiting", "client throttled", "network changed", "attempt due", "cause changed", "opened", "tunnel lost", "retry now", "retry later",
	"idle", "failed", "needs attention", "port lost", "closed", "panicked",
}

func (e event) String() string { return eventNames[e] }

// action is one step that follows from an event.
type action int

const (
	actionBind              action = iota // start to bind the port
	actionScheduleBind                    // retry the bind after bindInterval
	actionShowShared                      // show what the holder of a shared port says
	actionReturnShared                    // give a shared port back to its holder
	actionReleasePort                     // close the listeners; connections stay open until actionCloseAll
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
	actionAwaitChange                     // wait until what the failure rests on has changed
	actionFinish                          // notify the callers of Stop
	actionCount
)

var actionNames = [actionCount]string{
	"bind", "schedule bind", "show shared", "return shared", "release port", "close all", "check dependencies", "show blocked", "start dependency", "open",
	"cancel open", "attach", "detach", "close tunnel", "apply definition", "recheck", "hold", "reject", "drop waiting",
	"schedule attempt", "schedule throttled", "serve waiting", "await change", "finish",
}

func (a action) String() string { return actionNames[a] }

// Sequences of actions that several phases share.
var (
	beginAttemptActions = []action{actionHold, actionCheckDependencies}
	closeTunnelActions  = []action{actionDetach, actionCloseTunnel}
)

// step is where an event leads, and the actions to perform on the way.
type step struct {
	next    phase
	actions []action
}

// transitions has a step for each event that only some phases handle; a nil one cannot occur. An event that every phase handles alike, or that
// ends an attempt or a tunnel, is in transition.
var transitions = [phaseCount][eventCount]*step{
	phaseStopped: {
		eventStart:          {phaseUnbound, []action{actionBind}},
		eventStop:           {phaseStopped, []action{actionFinish}},
		eventRedefine:       {phaseStopped, nil},
		eventNetworkChanged: {phaseStopped, nil},
		eventPanicked:       {phaseStopped, nil},
	},
	phaseUnbound: {
		eventBindDue:        {phaseUnbound, []action{actionBind}},
		eventRestart:        {phaseUnbound, []action{actionBind}},
		eventRedefine:       {phaseUnbound, []action{actionBind}},
		eventBindFailed:     {phaseUnbound, []action{actionScheduleBind}},
		eventShared:         {phaseShared, []action{actionShowShared}},
		eventBound:          {phaseBlocked, beginAttemptActions},
		eventBoundOnDemand:  {phaseIdle, []action{actionHold, actionServeWaiting}},
		eventNetworkChanged: {phaseUnbound, nil},
	},
	phaseShared: {
		eventShareEnded:     {phaseUnbound, []action{actionBind}},
		eventRestart:        {phaseUnbound, []action{actionBind}}, // for the definition as it is now; the port is given back after that
		eventRedefine:       {phaseShared, nil},
		eventNetworkChanged: {phaseShared, nil},
		eventPanicked:       {phaseUnbound, []action{actionReturnShared, actionScheduleBind}},
	},
	phaseBlocked: {
		eventBlocked:         {phaseBlocked, []action{actionShowBlocked}},
		eventUnblocked:       {phaseConnecting, []action{actionOpen}},
		eventRestart:         {phaseBlocked, []action{actionCheckDependencies}},
		eventRedefine:        {phaseBlocked, []action{actionCheckDependencies}},
		eventClientWaiting:   {phaseBlocked, []action{actionStartDependency}},
		eventClientThrottled: {phaseBlocked, []action{actionStartDependency}},
		eventNetworkChanged:  {phaseBlocked, nil},
	},
	phaseIdle: {
		eventRestart:         {phaseBlocked, beginAttemptActions},
		eventRedefine:        {phaseIdle, nil},
		eventNetworkChanged:  {phaseIdle, nil},
		eventClientWaiting:   {phaseBlocked, []action{actionCheckDependencies}},
		eventClientThrottled: {phaseIdle, []action{actionScheduleThrottled}},
		eventAttemptDue:      {phaseBlocked, []action{actionCheckDependencies}},
	},
	phaseConnecting: {
		eventOpened:          {phaseConnected, []action{actionAttach}},
		eventTunnelLost:      {phaseClosing, []action{actionCloseTunnel}}, // it opened after a restart was requested
		eventRestart:         {phaseConnecting, []action{actionCancelOpen}},
		eventNetworkChanged:  {phaseConnecting, []action{actionCancelOpen}},
		eventRedefine:        {phaseConnecting, nil},
		eventClientWaiting:   {phaseConnecting, nil},
		eventClientThrottled: {phaseConnecting, nil},
	},
	phaseConnected: {
		eventTunnelLost:      {phaseClosing, closeTunnelActions},
		eventRestart:         {phaseClosing, closeTunnelActions},
		eventRedefine:        {phaseConnected, []action{actionApplyDefinition}},
		eventNetworkChanged:  {phaseConnected, []action{actionRecheck}},
		eventClientWaiting:   {phaseConnected, nil}, // the relay connects it
		eventClientThrottled: {phaseConnected, nil},
	},
	phaseClosing: {
		eventRestart:         {phaseClosing, nil},
		eventRedefine:        {phaseClosing, nil},
		eventClientWaiting:   {phaseClosing, nil},
		eventClientThrottled: {phaseClosing, nil},
		eventNetworkChanged:  {phaseClosing, nil},
		eventBindFailed:      {phaseClosing, nil},
		eventShared:          {phaseShared, []action{actionShowShared}},
		eventBound:           {phaseClosing, []action{actionHold}},
		eventBoundOnDemand:   {phaseClosing, []action{actionHold}},
		eventPortLost:        {phaseUnbound, []action{actionScheduleBind}},
	},
	phaseBackoff: {
		eventRestart:         {phaseBlocked, beginAttemptActions},
		eventRedefine:        {phaseBlocked, beginAttemptActions},
		eventNetworkChanged:  {phaseBlocked, beginAttemptActions},
		eventClientWaiting:   {phaseBlocked, []action{actionCheckDependencies}},
		eventClientThrottled: {phaseBackoff, []action{actionScheduleThrottled}},
		eventAttemptDue:      {phaseBlocked, []action{actionCheckDependencies}},
		eventCauseChanged:    {phaseBlocked, beginAttemptActions},
	},
	phaseFailed: {
		eventRestart:         {phaseBlocked, beginAttemptActions},
		eventRedefine:        {phaseBlocked, beginAttemptActions},
		eventNetworkChanged:  {phaseBlocked, beginAttemptActions},
		eventClientWaiting:   {phaseBlocked, []action{actionCheckDependencies}},
		eventClientThrottled: {phaseFailed, []action{actionDropWaiting}},
		eventCauseChanged:    {phaseBlocked, beginAttemptActions},
	},
	phaseNeedsAttention: {
		eventRestart:         {phaseBlocked, beginAttemptActions},
		eventRedefine:        {phaseBlocked, beginAttemptActions},
		eventNetworkChanged:  {phaseNeedsAttention, nil},
		eventClientWaiting:   {phaseNeedsAttention, nil},
		eventClientThrottled: {phaseNeedsAttention, nil},
		eventCauseChanged:    {phaseBlocked, beginAttemptActions},
	},
	phaseStopping: {
		eventStart:          {phaseClosing, []action{actionBind}}, // the port is opened at once; the tunnel waits for the end of the last one
		eventStop:           {phaseStopping, nil},
		eventRedefine:       {phaseStopping, nil},
		eventNetworkChanged: {phaseStopping, nil},
		eventClosed:         {phaseStopped, []action{actionFinish}},
		eventPanicked:       {phaseStopping, nil},
	},
}

// outcomes has the step for each outcome of an attempt or a tunnel, in phaseConnecting and phaseClosing.
var outcomes = [eventCount]*step{
	eventRetryNow:       {phaseBlocked, []action{actionCheckDependencies}},
	eventRetryLater:     {phaseBackoff, []action{actionScheduleAttempt, actionServeWaiting, actionAwaitChange}},
	eventIdle:           {phaseIdle, []action{actionServeWaiting}},
	eventFailed:         {phaseFailed, []action{actionDropWaiting, actionAwaitChange}},
	eventNeedsAttention: {phaseNeedsAttention, []action{actionReject, actionAwaitChange}},
}

// transition returns the next phase and the actions to perform for an event. It has no side effects. It panics for an event that cannot
// occur in the phase: inputs of an earlier tunnel, bind or close are recognised before and never become events.
func transition(p phase, e event) (phase, []action) {
	found := transitions[p][e]
	if found == nil && (p == phaseConnecting || p == phaseClosing) {
		found = outcomes[e]
	}
	switch {
	case found != nil:
		return found.next, found.actions
	case e == eventStop:
		return phaseStopping, []action{actionReleasePort, actionCloseAll}
	case e == eventPanicked:
		return phaseClosing, closeTunnelActions
	}
	panic(fmt.Sprintf("the state machine has no transition for event %q in phase %q", e, p))
}
