package supervisor

import (
	"maps"
	"slices"
	"sync"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/ssh"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project/environ"
)

// environment is the environment of child processes and of ${…} in services: that of the shell which started the supervisor, without
// our own exports, then .env. It is kept in memory only, and safe for concurrent use.
type environment struct {
	runID string

	mu     sync.Mutex // guards the fields below; never held while dialing or reading files
	shell  environ.Env
	dotenv map[string]string
	// revision is the number of calls of replace: the environment, or the config that uses it, may have changed at each.
	revision uint64
}

// newEnvironment makes the environment of a shell's. A missing HOME, which ssh and kubectl need, is added.
func newEnvironment(list []string, run string) *environment {
	e := &environment{runID: run, shell: environ.Undo(environ.Parse(list))}
	if home, err := lockstate.HomeDir(); e.shell["HOME"] == "" && err == nil {
		e.shell["HOME"] = home
	}
	return e
}

func (e *environment) lookup(name string) (string, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	value, ok := e.shell[name]
	return value, ok
}

// replace replaces the variables of .env and, unless shell is nil, those of the shell. It returns the names of those that child processes get another value of, or no longer
// get.
func (e *environment) replace(shell environ.Env, dotenv map[string]string) (changed []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	before := e.child()
	e.revision++
	e.dotenv = dotenv
	if shell != nil {
		e.shell = maps.Clone(shell)
	}
	return changedNames(before, e.child())
}

// currentRevision returns a number that is higher after each call of replace.
func (e *environment) currentRevision() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.revision
}

// shellVariables returns the variables without those of .env.
func (e *environment) shellVariables() environ.Env {
	e.mu.Lock()
	defer e.mu.Unlock()
	return maps.Clone(e.shell)
}

// changedNames returns the names that have different values in two environments, or a value in only one.
func changedNames(before, after environ.Env) []string {
	var names []string
	for _, change := range environ.ListChanges(before, after) {
		names = append(names, change.Name)
	}
	return names
}

// childEnviron is the environment of child processes.
func (e *environment) childEnviron() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.child().List()
}

// child is childEnviron as a map. e.mu is held.
func (e *environment) child() environ.Env {
	env := make(environ.Env, len(e.shell)+len(e.dotenv)+1)
	maps.Copy(env, e.dotenv)
	maps.Copy(env, e.shell)
	env[forwarder.RunVariable] = e.runID
	return env
}

// shellEnviron is the shell's environment as a list.
func (e *environment) shellEnviron() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.shell.List()
}

func (e *environment) set(name, value string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.shell[name] = value
}

// repair takes from a client's shell what only makes programs and keys available, and chooses no target: the socket of an agent if ours is of no
// use, and further directories of PATH. doKeysFail is set if ssh services need attention and none is connected. It reports whether anything changed.
func (e *environment) repair(request api.JoinRequest, doKeysFail bool) bool {
	changed := false
	if ours, _ := e.lookup(ssh.AgentVariable); isBetterAgent(ours, request.SSHAuthSock, doKeysFail) {
		e.set(ssh.AgentVariable, request.SSHAuthSock)
		changed = true
	}
	ours, _ := e.lookup("PATH")
	if path := appendPath(ours, request.Path); path != ours {
		e.set("PATH", path)
		changed = true
	}
	return changed
}

// isBetterAgent reports whether the agent at another socket answers and ours does not, or has keys and ours has none. If our keys fail, an agent
// with a key that ours does not have is better.
func isBetterAgent(ours, other string, doKeysFail bool) bool {
	if other == "" || other == ours {
		return false
	}
	otherKeys, err := ssh.AgentKeys(other)
	if err != nil {
		return false
	}
	keys, err := ssh.AgentKeys(ours)
	return err != nil || slices.ContainsFunc(otherKeys, func(key string) bool {
		return len(keys) == 0 || doKeysFail && !slices.Contains(keys, key)
	})
}
