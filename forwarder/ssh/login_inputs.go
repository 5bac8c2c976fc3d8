package ssh

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/filestamps"
	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/forwarder/wait"
)

// agentCheckInterval is the time between looks at the agents while a login has failed: the user may run ssh-add.
const agentCheckInterval = 5 * time.Second

// maxAgents is how many agents are asked for their keys: that of the environment, and those that a config names.
const maxAgents = 8

// agentKeys are the keys of an agent as they were at a moment.
type agentKeys struct {
	socket      string
	keys        []string
	isAnswering bool // the agent has told its keys
}

// keysOfAgents asks the agents at sockets, all at the same time.
func keysOfAgents(sockets []string) []agentKeys {
	all := make([]agentKeys, len(sockets))
	var asking sync.WaitGroup
	for i, socket := range sockets {
		asking.Go(func() {
			keys, err := AgentKeys(socket)
			all[i] = agentKeys{socket, keys, err == nil}
		})
	}
	asking.Wait()
	return all
}

func (a agentKeys) equal(b agentKeys) bool {
	return a.socket == b.socket && slices.Equal(a.keys, b.keys)
}

// awaitKeyChange waits until one of the agents answers with other keys. It returns false when ctx ends.
func awaitKeyChange(ctx context.Context, agents []agentKeys) bool {
	if len(agents) == 0 {
		<-ctx.Done()
		return false
	}
	for wait.Sleep(ctx, agentCheckInterval) {
		for i, now := range keysOfAgents(socketsOf(agents)) {
			if now.isAnswering && !slices.Equal(now.keys, agents[i].keys) {
				return true
			}
		}
	}
	return false
}

func socketsOf(agents []agentKeys) []string {
	sockets := make([]string, len(agents))
	for i, a := range agents {
		sockets[i] = a.socket
	}
	return sockets
}

// loginInputs are the files and agents on which an attempt to log in depends, read before the attempt and again after it has failed.
//
// Nobody knows when exactly ssh reads a file or asks an agent. Inputs that differ after a failed attempt from those before it, because a key was
// away for a moment for example, therefore justify another attempt, whatever they are when that begins.
type loginInputs struct {
	files  filestamps.Stamps // all that ssh may read
	agents []agentKeys       // those that ssh may ask
	// changeCount is the number of attempts in a row during which the inputs changed.
	changeCount int
	// retryAt is when another attempt is justified because the inputs changed during the one that has failed; zero: they did not.
	retryAt time.Time
}

// isAgentAnswering reports whether the agent of a run's environment answered: only for that one is ssh-add of use.
func (i loginInputs) isAgentAnswering(run forwarder.Run) bool {
	socket := process.Getenv(run.Env, AgentVariable)
	return slices.ContainsFunc(i.agents, func(a agentKeys) bool { return a.socket == socket && a.isAnswering })
}

// If the inputs change during more attempts in a row than immediateRetries, as when a command of a config writes a file at each login, the next one
// is due after repeatedChangeDelay: fail2ban locks a user out for whom the server refuses five logins in ten minutes.
const immediateRetries = 2

var repeatedChangeDelay = wait.Backoff{First: 4 * time.Minute, Max: recheckInterval}

// readInputs returns the inputs of an attempt that would begin now, and whether they justify one although the last attempt has failed. It does
// not ask the agents while there is a master, which needs them no more.
func (d *destination) readInputs(run forwarder.Run) (now loginInputs, isAttemptJustified bool) {
	d.mu.Lock()
	last, hasMaster := d.inputs, d.master != nil && !d.master.isOutdated(run, d.lastAttemptAt)
	d.mu.Unlock()
	files, sockets := d.findInputs(run)
	now = loginInputs{files: files, agents: last.agents, changeCount: last.changeCount}
	if !hasMaster {
		now.agents = keysOfAgents(sockets)
	}
	isRetryDue := !last.retryAt.IsZero() && !time.Now().Before(last.retryAt)
	return now, isRetryDue || last.files.HaveChanged() || !slices.EqualFunc(now.agents, last.agents, agentKeys.equal)
}

// readInputsAfter returns the inputs after a master's login has failed. The agents are not asked after a transient failure, whose cause they may be.
func (d *destination) readInputsAfter(m *master, f *forwarder.Failure) loginInputs {
	before := m.inputs
	files, sockets := d.findInputs(m.runConfig)
	now := loginInputs{files: files, agents: before.agents}
	if f.Class != forwarder.Transient {
		now.agents = keysOfAgents(sockets)
	}
	if maps.Equal(now.files, before.files) && slices.EqualFunc(now.agents, before.agents, agentKeys.equal) {
		return now
	}
	for i, a := range now.agents {
		if !a.isAnswering && i < len(before.agents) && a.socket == before.agents[i].socket {
			now.agents[i] = before.agents[i] // that it answers again later with the same keys does not count as another change
		}
	}
	now.changeCount = before.changeCount + 1
	now.retryAt = time.Now().Add(repeatedChangeDelay.After(now.changeCount - immediateRetries))
	return now
}

// lastInputs returns the inputs of the last attempt.
func (d *destination) lastInputs() loginInputs {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.inputs
}

// endOnChange returns a copy of a failure that ends also when the inputs justify another attempt (a key, an accepted host key, a corrected config,
// ssh-add) and, unless it is transient, when loggedInCh is closed: another service has logged in.
func (i loginInputs) endOnChange(f *forwarder.Failure, loggedInCh <-chan struct{}) *forwarder.Failure {
	f = f.AlsoAwaiting(i.files.AwaitChange)
	if !i.retryAt.IsZero() {
		f = f.AlsoAwaiting(func(ctx context.Context) bool { return wait.Sleep(ctx, time.Until(i.retryAt)) })
	}
	if f.Class == forwarder.Transient {
		return f
	}
	return f.AlsoAwaiting(func(ctx context.Context) bool { return awaitKeyChange(ctx, i.agents) }).
		AlsoAwaiting(func(ctx context.Context) bool { return wait.UntilClosed(ctx, loggedInCh) })
}
