package supervisor

import (
	"maps"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
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

// setDotEnv replaces the variables of .env, and returns the names of those that child processes get another value of, or no longer get.
func (e *environment) setDotEnv(dotenv map[string]string) (changed []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	before := e.child()
	e.dotenv = dotenv
	return changedNames(before, e.child())
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

// successorEnviron is the environment of the next supervisor.
func (e *environment) successorEnviron() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.shell.List()
}

func (e *environment) set(name, value string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.shell[name] = value
}

// replaceBrokenVariables replaces variables that do not work here by those of a client's shell that do. It reports whether any changed.
func (e *environment) replaceBrokenVariables(request api.JoinRequest) bool {
	changed := false
	replace := func(name, value string, works func(string) bool) {
		if old, _ := e.lookup(name); value != "" && value != old && !works(old) && works(value) {
			e.set(name, value)
			changed = true
		}
	}
	replace("SSH_AUTH_SOCK", request.SSHAuthSock, isListening)
	replace("KUBECONFIG", request.Kubeconfig, hasExistingPath)
	replace("PATH", request.Path, hasExistingPath)
	return changed
}

// isListening reports whether a process listens on a unix socket.
func isListening(socket string) bool {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return false
	}
	return conn.Close() == nil
}

// hasExistingPath reports whether any path of a list exists.
func hasExistingPath(list string) bool {
	for _, path := range filepath.SplitList(list) {
		if _, err := os.Stat(path); err == nil {
			return true
		}
	}
	return false
}
