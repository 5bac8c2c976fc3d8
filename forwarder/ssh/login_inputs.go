package ssh

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/filestamps"
	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/forwarder/wait"
)

// agentCheckInterval is the time between looks at an agent while a login has failed: the user may run ssh-add.
const agentCheckInterval = 5 * time.Second

// agentKeys are the keys of an agent as they were at a moment.
type agentKeys struct {
	socket      string // empty: no agent
	keys        []string
	isAnswering bool // the agent has told its keys
}

func keysOfAgent(run forwarder.Run) agentKeys {
	a := agentKeys{socket: process.Getenv(run.Env, AgentVariable)}
	if a.socket != "" {
		keys, err := AgentKeys(a.socket)
		a.keys, a.isAnswering = keys, err == nil
	}
	return a
}

func (a agentKeys) equal(b agentKeys) bool {
	return a.socket == b.socket && slices.Equal(a.keys, b.keys)
}

// awaitChange waits until the agent has other keys. It returns false when ctx ends.
func (a agentKeys) awaitChange(ctx context.Context) bool {
	if a.socket == "" {
		<-ctx.Done()
		return false
	}
	for wait.Sleep(ctx, agentCheckInterval) {
		if keys, err := AgentKeys(a.socket); err == nil && !slices.Equal(keys, a.keys) {
			return true
		}
	}
	return false
}

// loginInputs are what an attempt to log in rests on, apart from the server, as it was at a moment: before the attempt while that lasts, and
// after it when it has failed.
//
// Nobody knows when exactly ssh reads a file or asks the agent. Inputs that have changed during an attempt that failed, such as a key that was
// away for a moment, therefore justify another attempt, whatever they are when it begins.
type loginInputs struct {
	files filestamps.Stamps // all that ssh may read
	keys  agentKeys
	// haveChanged is set if they have changed during the attempt that has failed.
	haveChanged bool
	// isRetryJustified is haveChanged, except after an attempt during which they changed too: what changes at each attempt, such as a file that
	// the config's own commands write, would make the server refuse one login a second.
	isRetryJustified bool
}

// readInputs returns the inputs of an attempt that would begin now, and whether they justify one although the last attempt has failed. It does
// not ask the agent while there is a master, which needs it no more.
func (d *destination) readInputs(run forwarder.Run) (now loginInputs, isAttemptJustified bool) {
	d.mu.Lock()
	last, hasMaster := d.inputs, d.master != nil
	d.mu.Unlock()
	now = loginInputs{files: d.stampFiles(run), keys: last.keys, haveChanged: last.haveChanged}
	if !hasMaster {
		now.keys = keysOfAgent(run)
	}
	return now, last.isRetryJustified || last.files.HaveChanged() || !now.keys.equal(last.keys)
}

// readInputsAfter returns the inputs after an attempt with a failure. The agent is not asked after a transient one, which may be its own silence.
func (d *destination) readInputsAfter(run forwarder.Run, f *forwarder.Failure) loginInputs {
	before := d.lastInputs()
	now := loginInputs{files: d.stampFiles(run), keys: before.keys}
	if f.Class != forwarder.Transient {
		now.keys = keysOfAgent(run)
	}
	now.haveChanged = !maps.Equal(now.files, before.files) || !now.keys.equal(before.keys)
	now.isRetryJustified = now.haveChanged && !before.haveChanged
	return now
}

// lastInputs returns the inputs of the last attempt.
func (d *destination) lastInputs() loginInputs {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.inputs
}

// addTo returns a copy of a failure that ends also when the inputs have changed: a key, an accepted host key, a corrected config, ssh-add.
func (i loginInputs) addTo(f *forwarder.Failure) *forwarder.Failure {
	if i.isRetryJustified {
		return f.AlsoAwaiting(func(context.Context) bool { return true })
	}
	f = f.AlsoAwaiting(i.files.AwaitChange)
	if f.Class != forwarder.Transient {
		f = f.AlsoAwaiting(i.keys.awaitChange)
	}
	return f
}
