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
	Words
	Dir   string    // the project's root
	Env   []string  // the environment of children, in which KUBECONFIG is looked up
	Log   io.Writer // takes what a login helper says
	Asked time.Time // when the user asked for this; failures from before are forgiven
}

// Shared is what services share: their sessions, and the logins. Its methods may be called concurrently.
type Shared struct {
	tasks *tasks.Group

	mu       sync.Mutex
	sessions map[string]*use   // by what they were made of, with the number of their users
	logins   map[string]*login // by the same; they stay: what a plugin said is remembered as long as there is a driver
}

// NewShared makes one in which nothing is shared yet. What it runs ends with the group.
func NewShared(group *tasks.Group) *Shared {
	return &Shared{tasks: group, sessions: make(map[string]*use), logins: make(map[string]*login)}
}

type use struct {
	*Session
	users int
}

// Open returns the session that a kubeconfig describes, which is shared with everybody who asks for the same. It asks
// nothing of the server. Release must be called once. An error is a *forwarder.Failure.
func (h *Shared) Open(src Source) (s *Session, release func(), err error) {
	config, err := src.config()
	if err != nil {
		return nil, nil, err
	}
	key := src.key(config)
	h.mu.Lock()
	defer h.mu.Unlock()
	l, err := h.login(key, src, config)
	if err != nil {
		return nil, nil, err
	}
	l.renew(src)
	u := h.sessions[key]
	if u == nil {
		group := h.tasks.Subgroup()
		s, err := open(config, l, group)
		if err != nil {
			group.Cancel()
			return nil, nil, &forwarder.Failure{
				Class: forwarder.Permanent, Reason: fmt.Sprintf("the kubeconfig cannot be used: %v", err),
				Hint: src.Kubectl("config view"),
			}
		}
		u = &use{Session: s}
		h.sessions[key] = u
	}
	u.users++
	return u.Session, sync.OnceFunc(func() { h.leave(key, u) }), nil
}

// key tells what a session is made of from everything else.
func (src Source) key(config *rest.Config) string {
	return digest(src.Place.Context, src.Dir, config.Host, config.APIPath, config.TLSClientConfig, config.Username, config.Password,
		config.BearerToken, config.BearerTokenFile, config.Impersonate, config.AuthProvider, execKey(config.ExecProvider))
}

// login is the shared login of a key. h.mu is held.
func (h *Shared) login(key string, src Source, config *rest.Config) (*login, error) {
	if l := h.logins[key]; l != nil {
		return l, nil
	}
	p, err := newPlugin(config, src.Dir, src.Env, src.Log, src.Words)
	if err != nil {
		return nil, &forwarder.Failure{Class: forwarder.Permanent, Reason: err.Error()}
	}
	l := &login{tasks: h.tasks, plugin: p}
	h.logins[key] = l
	return l, nil
}

// Give takes the answer of a login helper that somebody else ran, for everybody who shares the login.
func (h *Shared) Give(src Source, answer []byte) error {
	config, err := src.config()
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
	l, err := h.login(src.key(config), src, config)
	if err != nil {
		return err
	}
	l.give(cred)
	return nil
}

// Foreground runs the login helper of a kubeconfig on the user's terminal and returns its answer, which is secret. Helped
// is false where the kubeconfig's user has none: there is nothing to be run.
func Foreground(ctx context.Context, src Source, terminal forwarder.Terminal) (answer []byte, helped bool, err error) {
	config, err := src.config()
	if err != nil || config.ExecProvider == nil {
		return nil, false, err
	}
	p, err := newPlugin(config, src.Dir, src.Env, io.Discard, src.Words)
	if err != nil {
		return nil, true, err
	}
	if p.info, err = describe(config, p.config.InteractiveMode != api.NeverExecInteractiveMode); err != nil {
		return nil, true, err
	}
	path, err := process.Look(p.config.Command, p.env, p.dir)
	if err != nil {
		return nil, true, process.Failure(err, "install "+p.config.Command)
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

func (h *Shared) leave(key string, u *use) {
	h.mu.Lock()
	u.users--
	last := u.users == 0
	if last && h.sessions[key] == u {
		delete(h.sessions, key)
	}
	h.mu.Unlock()
	if last {
		u.close()
	}
}

// renew takes the newest environment for the next run of the plugin, and forgives.
func (l *login) renew(src Source) {
	l.forgive(src.Asked)
	if l.plugin == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running == nil {
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

// config reads the kubeconfig files as kubectl would.
func (src Source) config() (*rest.Config, error) {
	files := Files(src.Kubeconfig, src.Env, src.Dir)
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
		if config := src.inside(); config != nil {
			return config, nil
		}
		return nil, &forwarder.Failure{
			Class:  forwarder.ByAttention,
			Reason: fmt.Sprintf("no cluster is known: looked in %v", files),
			Hint:   "set KUBECONFIG, or the service's kubeconfig",
		}
	}
	name := src.Place.Context
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
			Hint: Words{Kubeconfig: src.Kubeconfig}.Kubectl("config get-contexts"),
		}
	}
	config, err := clientcmd.NewNonInteractiveClientConfig(*raw, name, &clientcmd.ConfigOverrides{}, rules).ClientConfig()
	if err != nil {
		return nil, &forwarder.Failure{
			Class: forwarder.Permanent, Reason: fmt.Sprintf("the kubeconfig cannot be used: %v", err),
			Hint: src.Kubectl("config view"),
		}
	}
	config.UserAgent = "localport"
	return config, nil
}

// inside is the configuration of a process in a pod, nil elsewhere.
func (src Source) inside() *rest.Config {
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
