package ssh

import (
	"context"
	"slices"
	"time"

	"github.com/localport-sh/localport/forwarder"
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
