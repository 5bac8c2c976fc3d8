package supervisor

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/command"
	"github.com/localport-sh/localport/forwarder/ssh"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/environ"
)

// What chooses a target or runs code, such as KUBECONFIG, a cloud profile, a proxy or a variable that a service mentions, is taken only from a shell
// in which the user runs start, restart, daemon restart or login: all of that shell's environment then. A prompt in another shell changes none of
// it, see environment.repair.

// shellEnvironment is a shell's environment that is about to become the supervisor's.
type shellEnvironment struct {
	variables environ.Env
	uses      variableUses // of the active services before
}

// readShellEnvironment prepares to take an environment; nil if a request has none. It reads files and asks agents, so it is called outside an
// operation.
func (s *Supervisor) readShellEnvironment(env api.Environment) *shellEnvironment {
	active := s.active.Load()
	if len(env) == 0 || active == nil {
		return nil
	}
	return &shellEnvironment{
		variables: mergeShell(s.env.shellVariables(), parseEnvironment(env)),
		uses:      withoutAgent(s.readTargetUses(active.project)),
	}
}

func parseEnvironment(env api.Environment) environ.Env {
	list := make([]string, len(env))
	for i, entry := range env {
		list[i] = string(entry)
	}
	return environ.Parse(list)
}

// isKept reports whether a variable stays the supervisor's own, because it says where it keeps its files.
func isKept(name string) bool {
	return name == "HOME" || name == "TMPDIR" || strings.HasPrefix(name, "XDG_") && name != "XDG_CURRENT_DESKTOP" || name == forwarder.RunVariable
}

// mergeShell returns the environment that results when that of a shell is taken. The directories of our PATH stay behind the shell's, and an agent
// that answers is not replaced by one that does not.
func mergeShell(ours, shell environ.Env) environ.Env {
	merged := maps.Clone(shell)
	maps.DeleteFunc(merged, func(name, _ string) bool { return isKept(name) })
	for name, value := range ours {
		if isKept(name) {
			merged[name] = value
		}
	}
	directories := filepath.SplitList(shell["PATH"])
	for _, directory := range filepath.SplitList(ours["PATH"]) {
		if len(directories) < maxPathDirectories && !slices.Contains(directories, directory) {
			directories = append(directories, directory)
		}
	}
	merged["PATH"] = strings.Join(directories, string(filepath.ListSeparator))
	if agent := ours[ssh.AgentVariable]; agent != "" && agent != shell[ssh.AgentVariable] && !doesAgentAnswer(shell[ssh.AgentVariable]) && doesAgentAnswer(agent) {
		merged[ssh.AgentVariable] = agent
	}
	return merged
}

func doesAgentAnswer(socket string) bool {
	_, err := ssh.AgentKeys(socket)
	return socket != "" && err == nil
}

// readTargetUses is readVariableUses, except that a command uses only variables by which programs choose a target: every terminal has some of its
// own, such as TERM and SHLVL. Any other variable a program gets when it starts next.
func (s *Supervisor) readTargetUses(p *project.Project) variableUses {
	uses := readVariableUses(p, s.env.childEnviron())
	for _, svc := range p.Services {
		if svc.Technology == command.Technology.Name {
			uses[svc.Name] = forwarder.ChoosesTarget
		}
	}
	return uses
}

// withoutAgent returns uses without the agent: a connection that has logged in needs none.
func withoutAgent(uses variableUses) variableUses {
	for service, isUsed := range uses {
		uses[service] = func(name string) bool { return name != ssh.AgentVariable && isUsed(name) }
	}
	return uses
}

// takeEnvironment makes a shell's environment the supervisor's. The config is resolved again, and the services whose tunnels use what changed
// reconnect. After an error nothing has changed. It is called within an operation; env may be nil.
func (s *Supervisor) takeEnvironment(ctx context.Context, env *shellEnvironment) error {
	if env == nil {
		return nil
	}
	before := s.active.Load()
	next, err := s.parseConfigWith(before.files, env.variables.Lookup)
	if err != nil {
		return fmt.Errorf("use the environment of this shell: %s", s.mask(err.Error()))
	}
	reload := s.applyConfig(before, next, env.variables, env.uses)
	s.log.Info("using the environment of another shell", "updated", reload.Updated)
	s.updateSuccessor()
	s.events.setUserConfig(s.userConfig(), s.env.shellEnviron())
	s.saveState(ctx, func(state *lockstate.State) { state.Ports = next.ports }, true)
	return nil
}

const maxComparisons = 4

// CompareEnvironment returns the names of the variables with which services would connect elsewhere, or as somebody else, if the environment of a
// shell were taken. It reads files, for at most maxComparisons clients at a time: on a disk that hangs, each would keep a thread.
func (s *Supervisor) CompareEnvironment(ctx context.Context, env api.Environment) (api.CompareEnvironmentResponse, error) {
	select {
	case s.comparisonSlots <- struct{}{}:
		defer func() { <-s.comparisonSlots }()
	case <-ctx.Done():
		return api.CompareEnvironmentResponse{}, ctx.Err()
	}
	active := s.active.Load()
	if active == nil {
		return api.CompareEnvironmentResponse{}, api.ErrEnding
	}
	ours := s.env.shellVariables()
	uses := withoutAgent(s.readTargetUses(active.project))
	response := api.CompareEnvironmentResponse{Differing: []string{}}
	for _, name := range changedNames(ours, mergeShell(ours, parseEnvironment(env))) {
		isUsed := slices.Contains(active.project.Mentioned, name)
		for _, isUsedByService := range uses {
			isUsed = isUsed || isUsedByService(name)
		}
		if isUsed && name != "PATH" {
			response.Differing = append(response.Differing, name)
		}
	}
	return response, nil
}
