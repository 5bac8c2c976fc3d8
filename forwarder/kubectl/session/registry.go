package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpproxy"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/filestamps"
	"github.com/localport-sh/localport/forwarder/kubectl/kubeconfig"
	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/forwarder/tasks"
	"github.com/localport-sh/localport/forwarder/wait"
)

// Source describes a session: where its kubeconfig is, and the context.
type Source struct {
	ResourceRef
	Dir            string            // the project's root
	Env            []string          // the environment of children, which sets KUBECONFIG
	Log            io.Writer         // receives the stderr of a login helper
	OutdatedBefore time.Time         // older failures of a login are cleared
	Stamps         filestamps.Stamps // of ReadFiles; nil: not read
}

// Registry holds the sessions and logins that services share. It is safe for concurrent use.
type Registry struct {
	tasks *tasks.Group

	mu             sync.Mutex
	sessions       map[string]*sharedSession // by Source.sessionKey
	authenticators map[string]*authenticator // by Source.key; never removed, so that a plugin's result is kept as long as the driver
}

// NewRegistry makes an empty registry. Its goroutines run in group.
func NewRegistry(group *tasks.Group) *Registry {
	return &Registry{tasks: group, sessions: make(map[string]*sharedSession), authenticators: make(map[string]*authenticator)}
}

// sharedSession is a session and the number of its users.
type sharedSession struct {
	*Session
	refs int
}

// Open returns the session that src describes, shared with all who open the same. It sends no request. release must be called once.
// An error is a *forwarder.Failure.
func (r *Registry) Open(src Source) (s *Session, release func(), err error) {
	config, err := src.loadConfig()
	if err != nil {
		return nil, nil, err
	}
	key, sessionKey := src.key(config), src.sessionKey(config)
	r.mu.Lock()
	defer r.mu.Unlock()
	auth, err := r.authenticatorFor(key, src, config)
	if err != nil {
		return nil, nil, err
	}
	auth.updateEnvironment(src)
	shared := r.sessions[sessionKey]
	if shared == nil {
		group := r.tasks.Subgroup()
		files, kubeconfigs := configNamedFiles(config), KubeconfigFiles(src.Kubeconfig, src.Env, src.Dir)
		s, err := newSession(config, auth, group)
		if err != nil {
			group.Cancel()
			return nil, nil, &forwarder.Failure{
				Class: forwarder.Permanent, Reason: fmt.Sprintf("the kubeconfig cannot be used: %v", err),
				Hint: src.Command("config view"),
			}
		}
		s.namedFiles, s.kubeconfigs = files, kubeconfigs
		shared = &sharedSession{Session: s}
		r.sessions[sessionKey] = shared
	}
	shared.refs++
	return shared.Session, sync.OnceFunc(func() { r.release(sessionKey, shared) }), nil
}

// key is a digest of all that distinguishes logins.
func (src Source) key(config *kubeconfig.Config) string {
	var identity []string // of a login helper
	for _, entry := range src.Env {
		if name, _, _ := strings.Cut(entry, "="); config.Exec != nil && name != "KUBECONFIG" && forwarder.ChoosesTarget(name) {
			identity = append(identity, entry)
		}
	}
	return digest(identity, src.Location.Context, src.Dir, config.Server.String(), config.ServerName, config.Insecure, config.CAFile, config.CAData,
		config.CertFile, config.CertData, config.KeyFile, config.KeyData, config.Username, config.Password,
		config.Token, config.TokenFile, config.Impersonate, config.AuthProvider, execKey(config.Exec))
}

// authenticatorFor returns the authenticator of a key. r.mu is held.
func (r *Registry) authenticatorFor(key string, src Source, config *kubeconfig.Config) (*authenticator, error) {
	if auth := r.authenticators[key]; auth != nil {
		return auth, nil
	}
	p, err := newPlugin(config, src.Dir, src.Env, src.Log, src.ResourceRef)
	if err != nil {
		return nil, &forwarder.Failure{Class: forwarder.Permanent, Reason: err.Error()}
	}
	auth := &authenticator{tasks: r.tasks, plugin: p}
	r.authenticators[key] = auth
	return auth, nil
}

// CheckLogin returns why the login helper of a source's user provides no credential. It is for a program that runs the helper itself: here
// the helper is run first, once for all who share the login, and has the time that a person needs. Nil: there is a credential, the user has no
// login helper, or the kubeconfig cannot be used, which that program explains. An error is a *forwarder.Failure or that of ctx.
func (r *Registry) CheckLogin(ctx context.Context, src Source) error {
	auth := r.loginHelperFor(src)
	if auth == nil {
		return nil
	}
	auth.updateEnvironment(src)
	_, err := auth.currentCredential(ctx)
	return err
}

// helperPollInterval is how often WatchLoginHelper looks.
const helperPollInterval = 250 * time.Millisecond

// WatchLoginHelper calls report, until ctx ends, with a text while the login helper of a source's user runs, and with an empty one when it has ended.
// It is for people: a helper that runs for less than helperPollInterval may be missed.
func (r *Registry) WatchLoginHelper(ctx context.Context, src Source, report func(text string)) {
	auth := r.loginHelperFor(src)
	for auth != nil && wait.Sleep(ctx, helperPollInterval) {
		text := ""
		if auth.isPluginRunning() {
			text = fmt.Sprintf("the login helper %s is running, and may be waiting for you", filepath.Base(auth.plugin.config.Command))
		}
		report(text)
	}
}

// RecordLoginFailure records that the login helper has failed for a program that runs it itself.
func (r *Registry) RecordLoginFailure(src Source, failure *forwarder.Failure) {
	if auth := r.loginHelperFor(src); auth != nil {
		auth.recordFailure(failure)
	}
}

// loginHelperFor returns the authenticator of a source whose user has a login helper, else nil.
func (r *Registry) loginHelperFor(src Source) *authenticator {
	config, err := src.loadConfig()
	if err != nil || config.Exec == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	auth, err := r.authenticatorFor(src.key(config), src, config)
	if err != nil {
		return nil
	}
	return auth
}

// SetCredential sets the credential in the output of a login helper that the user ran, for all who share the login.
func (r *Registry) SetCredential(src Source, output []byte) error {
	config, err := src.loadConfig()
	if err != nil {
		return err
	}
	if config.Exec == nil {
		return errors.New("the kubeconfig's user has no login helper")
	}
	cred, err := parseCredential(output, config.Exec.APIVersion)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	auth, err := r.authenticatorFor(src.key(config), src, config)
	if err != nil {
		return err
	}
	auth.setCredential(cred)
	return nil
}

// RunLoginHelper runs the login helper of a kubeconfig's user on a terminal and returns its output, which is secret. hasHelper is
// false if the user has none.
func RunLoginHelper(ctx context.Context, src Source, terminal forwarder.Terminal) (output []byte, hasHelper bool, err error) {
	config, err := src.loadConfig()
	if err != nil || config.Exec == nil {
		return nil, false, err
	}
	p, err := newPlugin(config, src.Dir, src.Env, io.Discard, src.ResourceRef)
	if err != nil {
		return nil, true, err
	}
	if p.info, err = encodeExecInfo(config, p.config.InteractiveMode != kubeconfig.NeverInteractive); err != nil {
		return nil, true, err
	}
	classify := func(err error) error {
		return process.ClassifyStartError(err, process.Command{Argv: []string{p.config.Command}, Env: p.env, Dir: p.dir}, "install "+p.config.Command)
	}
	path, err := process.LookPath(p.config.Command, p.env, p.dir)
	if err != nil {
		return nil, true, classify(err)
	}
	cmd := exec.CommandContext(ctx, path, p.config.Args...)
	cmd.Dir, cmd.Env = p.dir, append(slices.Clip(p.env), "KUBERNETES_EXEC_INFO="+p.info)
	cmd.Stdin, cmd.Stderr = terminal.In, terminal.Err
	output, err = cmd.Output()
	if _, hasNotStarted := errors.AsType[*fs.PathError](err); hasNotStarted {
		return nil, true, classify(err)
	}
	if err != nil {
		return nil, true, fmt.Errorf("the login helper %s failed: %w", p.config.Command, err)
	}
	if _, err := parseCredential(output, p.config.APIVersion); err != nil {
		return nil, true, fmt.Errorf("the login helper %s: %w", p.config.Command, err)
	}
	return output, true, nil
}

// OnNetworkChange has login helpers that failed because of the network run again when a credential is needed.
func (r *Registry) OnNetworkChange() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, auth := range r.authenticators {
		auth.onNetworkChange()
	}
}

func (r *Registry) release(key string, shared *sharedSession) {
	r.mu.Lock()
	shared.refs--
	isLast := shared.refs == 0
	if isLast && r.sessions[key] == shared {
		delete(r.sessions, key)
	}
	r.mu.Unlock()
	if isLast {
		shared.close()
	}
}

// updateEnvironment sets the environment for the next run of the plugin, and clears a failure that is older than the user's request.
func (a *authenticator) updateEnvironment(src Source) {
	a.clearOutdatedFailure(src.OutdatedBefore, src.Stamps)
	if a.plugin == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.plugin.setEnv(src.Env) // one that runs has a copy
	a.plugin.log = src.Log
}

func execKey(exec *kubeconfig.Exec) any {
	if exec == nil {
		return nil
	}
	return []any{exec.Command, exec.Args, exec.Env, exec.APIVersion, exec.ProvideClusterInfo, exec.InteractiveMode}
}

// loadConfig reads the kubeconfig files as kubectl does. Its Proxy is that of the kubeconfig or, without one, of the source's environment.
func (src Source) loadConfig() (*kubeconfig.Config, error) {
	config, err := src.readConfig()
	if err != nil {
		return nil, err
	}
	proxyForURL := src.proxies().ProxyFunc()
	config.EnvironmentProxy = func(r *http.Request) (*url.URL, error) { return proxyForURL(r.URL) }
	if config.Proxy == nil {
		config.Proxy = config.EnvironmentProxy
	}
	return config, nil
}

// proxies are the proxies of the source's environment. http.ProxyFromEnvironment would read the supervisor's, and only once.
func (src Source) proxies() *httpproxy.Config {
	get := func(name string) string {
		return cmp.Or(process.Getenv(src.Env, name), process.Getenv(src.Env, strings.ToLower(name)))
	}
	return &httpproxy.Config{HTTPProxy: get("HTTP_PROXY"), HTTPSProxy: get("HTTPS_PROXY"), NoProxy: get("NO_PROXY")}
}

func (src Source) readConfig() (*kubeconfig.Config, error) {
	files := KubeconfigFiles(src.Kubeconfig, src.Env, src.Dir)
	raw, err := kubeconfig.Load(files...)
	if err == nil && src.Kubeconfig != "" {
		_, err = os.Stat(src.Kubeconfig) // one that is named must exist
	}
	if err != nil {
		return nil, &forwarder.Failure{
			Class: forwarder.Permanent, Reason: fmt.Sprintf("the kubeconfig cannot be read: %v", err),
			Hint: "check the files in KUBECONFIG, or the service's connection.kubeconfig",
		}
	}
	if len(raw.Clusters) == 0 && len(raw.Contexts) == 0 {
		if config := src.inClusterConfig(); config != nil {
			return config, nil
		}
		return nil, &forwarder.Failure{
			Class:  forwarder.NeedsUser,
			Reason: "no cluster is configured " + describeSearch(files),
			Hint:   src.kubeconfigHint(),
		}
	}
	name := cmp.Or(src.Location.Context, raw.CurrentContext)
	if _, ok := raw.Contexts[name]; !ok {
		what := fmt.Sprintf("context %q does not exist", name)
		if name == "" {
			what = "the kubeconfig has no current context, and the service names none"
		}
		return nil, &forwarder.Failure{
			Class: forwarder.Permanent, Reason: what + " " + describeSearch(files),
			Hint: src.contextHint(name, slices.Collect(maps.Keys(raw.Contexts))),
		}
	}
	if unreadable := describeUnreadable(namedFiles(raw, raw.Contexts[name])); unreadable != "" {
		return nil, &forwarder.Failure{Class: forwarder.NeedsUser, Reason: unreadable, Hint: fmt.Sprintf(restoreFileHint, src.Command("get namespaces"))}
	}
	config, err := raw.Config(name)
	if err != nil {
		return nil, &forwarder.Failure{
			Class: forwarder.Permanent, Reason: fmt.Sprintf("the kubeconfig cannot be used: %v", err),
			Hint: src.Command("config view"),
		}
	}
	if config.AuthProvider != nil && retiredAuthProviders[config.AuthProvider.Name] != "" {
		return nil, &forwarder.Failure{
			Class:  forwarder.NeedsUser,
			Reason: fmt.Sprintf("the kubeconfig uses the auth provider %q, which Kubernetes 1.26 and newer do not have", config.AuthProvider.Name),
			Hint:   retiredAuthProviders[config.AuthProvider.Name],
		}
	}
	return config, nil
}

// restoreFileHint is the next step for a file that is missing or unreadable.
const restoreFileHint = "restore the file, or log in to the cluster again; test it with %q"

// describeSearch says which kubeconfig files were read.
func describeSearch(files []string) string {
	if len(files) == 0 {
		return "(KUBECONFIG and HOME are not set)"
	}
	return fmt.Sprintf("(looked in %s)", strings.Join(files, ", "))
}

// retiredAuthProviders has, for each auth provider that client-go has removed, what replaces it.
var retiredAuthProviders = map[string]string{
	"gcp":       `install gke-gcloud-auth-plugin, then run "gcloud container clusters get-credentials CLUSTER"`,
	"azure":     `install kubelogin (github.com/Azure/kubelogin), then run "kubelogin convert-kubeconfig"`,
	"openstack": "install client-keystone-auth (github.com/kubernetes/cloud-provider-openstack) and name it in the kubeconfig as an exec plugin",
}

// HasLoginHelper reports whether a program obtains the credential of the kubeconfig's user.
func (src Source) HasLoginHelper() bool {
	config, err := src.loadConfig()
	return err == nil && config.Exec != nil
}

// isInCluster reports whether this process runs in a pod, and its children do so too.
func isInCluster(env []string) bool {
	return process.Getenv(env, "KUBERNETES_SERVICE_HOST") != "" && os.Getenv("KUBERNETES_SERVICE_HOST") != ""
}

// InClusterNamespace returns the namespace that kubectl uses in a pod without a kubeconfig, by default the pod's; empty elsewhere.
func InClusterNamespace(env []string) string {
	if !isInCluster(env) {
		return ""
	}
	own, _ := os.ReadFile("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
	return cmp.Or(process.Getenv(env, "POD_NAMESPACE"), strings.TrimSpace(string(own)), "default")
}

// inClusterConfig returns the config of a process that runs in a pod; nil elsewhere.
func (src Source) inClusterConfig() *kubeconfig.Config {
	if !isInCluster(src.Env) {
		return nil
	}
	config, err := kubeconfig.InCluster()
	if err != nil {
		return nil
	}
	return config
}
