package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"sync"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	// The one login that is neither in the kubeconfig nor a program of its own.
	_ "k8s.io/client-go/plugin/pkg/client/auth/oidc"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/forwarder/tasks"
)

// Source is where a session's settings come from.
type Source struct {
	ResourceRef
	Dir         string    // the project's root
	Env         []string  // the environment of children, in which KUBECONFIG is looked up
	Log         io.Writer // takes what a login helper says
	RequestedAt time.Time // when the user asked for this; failures from before are forgiven
}

// Registry is what services share: their sessions, and the logins. Its methods may be called concurrently.
type Registry struct {
	tasks *tasks.Group

	mu             sync.Mutex
	sessions       map[string]*sharedSession // by what they were made of, with the number of their users
	authenticators map[string]*authenticator // by the same; they stay: what a plugin said is remembered as long as there is a driver
}

// NewRegistry makes one in which nothing is shared yet. What it runs ends with the group.
func NewRegistry(group *tasks.Group) *Registry {
	return &Registry{tasks: group, sessions: make(map[string]*sharedSession), authenticators: make(map[string]*authenticator)}
}

type sharedSession struct {
	*Session
	refs int
}

// Open returns the session that a kubeconfig describes, which is shared with everybody who asks for the same. It asks
// nothing of the server. Release must be called once. An error is a *forwarder.Failure.
func (h *Registry) Open(src Source) (s *Session, release func(), err error) {
	config, err := src.loadConfig()
	if err != nil {
		return nil, nil, err
	}
	key := src.key(config)
	h.mu.Lock()
	defer h.mu.Unlock()
	l, err := h.authenticatorFor(key, src, config)
	if err != nil {
		return nil, nil, err
	}
	l.updateEnvironment(src)
	u := h.sessions[key]
	if u == nil {
		group := h.tasks.Subgroup()
		s, err := newSession(config, l, group)
		if err != nil {
			group.Stop()
			return nil, nil, &forwarder.Failure{
				Class: forwarder.Permanent, Reason: fmt.Sprintf("the kubeconfig cannot be used: %v", err),
				Hint: src.Command("config view"),
			}
		}
		u = &sharedSession{Session: s}
		h.sessions[key] = u
	}
	u.refs++
	return u.Session, sync.OnceFunc(func() { h.release(key, u) }), nil
}

// key tells what a session is made of from everything else.
func (src Source) key(config *rest.Config) string {
	return digest(src.Location.Context, src.Dir, config.Host, config.APIPath, config.TLSClientConfig, config.Username, config.Password,
		config.BearerToken, config.BearerTokenFile, config.Impersonate, config.AuthProvider, execKey(config.ExecProvider))
}

// authenticatorFor is the shared login of a key. h.mu is held.
func (h *Registry) authenticatorFor(key string, src Source, config *rest.Config) (*authenticator, error) {
	if l := h.authenticators[key]; l != nil {
		return l, nil
	}
	p, err := newPlugin(config, src.Dir, src.Env, src.Log, src.ResourceRef)
	if err != nil {
		return nil, &forwarder.Failure{Class: forwarder.Permanent, Reason: err.Error()}
	}
	l := &authenticator{tasks: h.tasks, plugin: p}
	h.authenticators[key] = l
	return l, nil
}

// SetCredential takes the answer of a login helper that somebody else ran, for everybody who shares the login.
func (h *Registry) SetCredential(src Source, answer []byte) error {
	config, err := src.loadConfig()
	if err != nil {
		return err
	}
	if config.ExecProvider == nil {
		return errors.New("the kubeconfig's user has no login helper")
	}
	cred, err := parseCredential(answer, config.ExecProvider.APIVersion)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	l, err := h.authenticatorFor(src.key(config), src, config)
	if err != nil {
		return err
	}
	l.setCredential(cred)
	return nil
}

// RunLoginHelper runs the login helper of a kubeconfig on the user's terminal and returns its answer, which is secret. Helped
// is false where the kubeconfig's user has none: there is nothing to be run.
func RunLoginHelper(ctx context.Context, src Source, terminal forwarder.Terminal) (answer []byte, hasHelper bool, err error) {
	config, err := src.loadConfig()
	if err != nil || config.ExecProvider == nil {
		return nil, false, err
	}
	p, err := newPlugin(config, src.Dir, src.Env, io.Discard, src.ResourceRef)
	if err != nil {
		return nil, true, err
	}
	if p.info, err = encodeExecInfo(config, p.config.InteractiveMode != api.NeverExecInteractiveMode); err != nil {
		return nil, true, err
	}
	path, err := process.LookPath(p.config.Command, p.env, p.dir)
	if err != nil {
		return nil, true, process.ClassifyStartError(err, "install "+p.config.Command)
	}
	cmd := exec.CommandContext(ctx, path, p.config.Args...)
	cmd.Dir, cmd.Env = p.dir, append(slices.Clip(p.env), "KUBERNETES_EXEC_INFO="+p.info)
	cmd.Stdin, cmd.Stderr = terminal.In, terminal.Err
	if answer, err = cmd.Output(); err != nil {
		return nil, true, fmt.Errorf("the login helper %s failed: %w", p.config.Command, err)
	}
	if _, err := parseCredential(answer, p.config.APIVersion); err != nil {
		return nil, true, fmt.Errorf("the login helper %s: %w", p.config.Command, err)
	}
	return answer, true, nil
}

func (h *Registry) release(key string, u *sharedSession) {
	h.mu.Lock()
	u.refs--
	isLast := u.refs == 0
	if isLast && h.sessions[key] == u {
		delete(h.sessions, key)
	}
	h.mu.Unlock()
	if isLast {
		u.close()
	}
}

// updateEnvironment takes the newest environment for the next run of the plugin, and forgives.
func (l *authenticator) updateEnvironment(src Source) {
	l.clearFailureBefore(src.RequestedAt)
	if l.plugin == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pluginDoneCh == nil {
		l.plugin.env = append([]string(nil), src.Env...)
		for _, e := range l.plugin.config.Env {
			l.plugin.env = append(l.plugin.env, e.Name+"="+e.Value)
		}
		l.plugin.log = src.Log
	}
}

func execKey(exec *api.ExecConfig) any {
	if exec == nil {
		return nil
	}
	return []any{exec.Command, exec.Args, exec.Env, exec.APIVersion, exec.ProvideClusterInfo, exec.InteractiveMode}
}

// loadConfig reads the kubeconfig files as kubectl would.
func (src Source) loadConfig() (*rest.Config, error) {
	files := KubeconfigFiles(src.Kubeconfig, src.Env, src.Dir)
	rules := &clientcmd.ClientConfigLoadingRules{Precedence: files}
	if src.Kubeconfig != "" {
		rules = &clientcmd.ClientConfigLoadingRules{ExplicitPath: src.Kubeconfig}
	}
	raw, err := rules.Load()
	if err != nil {
		return nil, &forwarder.Failure{
			Class: forwarder.Permanent, Reason: fmt.Sprintf("the kubeconfig cannot be read: %v", err),
			Hint: "check the files of KUBECONFIG, or the service's kubeconfig",
		}
	}
	if len(raw.Clusters) == 0 && len(raw.Contexts) == 0 {
		if config := src.inClusterConfig(); config != nil {
			return config, nil
		}
		return nil, &forwarder.Failure{
			Class:  forwarder.ByAttention,
			Reason: fmt.Sprintf("no cluster is known: looked in %v", files),
			Hint:   "set KUBECONFIG, or the service's kubeconfig",
		}
	}
	name := src.Location.Context
	if name == "" {
		name = raw.CurrentContext
	}
	if _, ok := raw.Contexts[name]; !ok {
		what := fmt.Sprintf("context %q does not exist", name)
		if name == "" {
			what = "no context is current, and the service names none"
		}
		return nil, &forwarder.Failure{
			Class: forwarder.Permanent, Reason: fmt.Sprintf("%s (looked in %v)", what, files),
			Hint: ResourceRef{Kubeconfig: src.Kubeconfig}.Command("config get-contexts"),
		}
	}
	config, err := clientcmd.NewNonInteractiveClientConfig(*raw, name, &clientcmd.ConfigOverrides{}, rules).ClientConfig()
	if err != nil {
		return nil, &forwarder.Failure{
			Class: forwarder.Permanent, Reason: fmt.Sprintf("the kubeconfig cannot be used: %v", err),
			Hint: src.Command("config view"),
		}
	}
	config.UserAgent = "localport"
	return config, nil
}

// inClusterConfig is the configuration of a process in a pod, nil elsewhere.
func (src Source) inClusterConfig() *rest.Config {
	if process.Getenv(src.Env, "KUBERNETES_SERVICE_HOST") == "" || os.Getenv("KUBERNETES_SERVICE_HOST") == "" {
		return nil
	}
	config, err := rest.InClusterConfig()
	if err != nil {
		return nil
	}
	config.UserAgent = "localport"
	return config
}
