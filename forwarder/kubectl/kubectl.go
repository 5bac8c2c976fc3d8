// Package kubectl forwards to Kubernetes, through its own engine (kubectl/native) or, on request, through "kubectl port-forward"
// (kubectl/process). Both read the same kubeconfig files and reach the same pods.
package kubectl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/kubectl/native"
	kubectlprocess "github.com/localport-sh/localport/forwarder/kubectl/process"
	"github.com/localport-sh/localport/forwarder/kubectl/session"
	"github.com/localport-sh/localport/forwarder/kubectl/spdy"
	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/forwarder/tasks"
	"github.com/localport-sh/localport/project"
)

// programVariable is the environment variable that names a kubectl to run instead of the native engine.
const programVariable = "LOCALPORT_KUBECTL"

// Technology is "kubectl".
var Technology = forwarder.Technology{
	TechnologyType: project.TechnologyType{Name: "kubectl", HasRemotePort: true, SupportsPortNames: true, Keys: connectionKeys, Finish: completeService},
	New:            New,
	Login:          newLogin,
	VariableUse:    variableUse,
	Explain:        explain,
	Verify:         verify,
	Preflight:      preflight,
}

// preflight reads the kubeconfig, and looks for kubectl and the login helper if they are used.
func preflight(svc project.Service, run forwarder.Run) *forwarder.Failure {
	s := newService(newServiceSpec(svc))
	if s.usesProgram(run.Env) {
		lookup := process.Command{Argv: []string{cmp.Or(process.Getenv(run.Env, programVariable), "kubectl")}, Env: run.Env, Dir: run.Dir}
		if _, err := process.LookPath(lookup.Argv[0], lookup.Env, lookup.Dir); err != nil {
			return process.ClassifyStartError(err, lookup, kubectlprocess.InstallHint)
		}
	}
	return s.loginSource(run).Preflight()
}

// variableUse says which variables a tunnel to a cluster uses: KUBECONFIG unless the service names a file, the proxies and, if the kubeconfig's user
// has a login helper, those by which such programs choose a profile or an account. The helper is given all others too, when it runs next: a
// credential that it has obtained stays valid.
func variableUse(svc project.Service, dir string, env []string) func(string) bool {
	spec := newServiceSpec(svc)
	src := newService(spec).loginSource(forwarder.Run{Dir: dir, Env: env})
	hasLoginHelper := src.HasLoginHelper()
	return func(name string) bool {
		switch {
		case name == "KUBECONFIG":
			return spec.kubeconfig == ""
		case name == programVariable:
			return spec.engine != "native"
		case forwarder.IsProxyVariable(name):
			return true
		}
		return hasLoginHelper && forwarder.ChoosesTarget(name)
	}
}

// New makes a driver.
func New(ctx context.Context, _ forwarder.Host) forwarder.Driver {
	group := tasks.New(ctx)
	return &driver{
		tasks: group, sessions: session.NewRegistry(group), reserve: native.NewBufferReserve(), services: make(map[string]*service),
	}
}

// driver holds what the tunnels of a supervisor share.
type driver struct {
	tasks    *tasks.Group
	sessions *session.Registry
	reserve  *spdy.BufferReserve

	mu       sync.Mutex
	services map[string]*service // by name
}

var (
	_ forwarder.ClusterReporter    = (*driver)(nil)
	_ forwarder.CredentialReceiver = (*driver)(nil)
	_ forwarder.NetworkObserver    = (*driver)(nil)
	_ forwarder.TargetIdentifier   = (*driver)(nil)
)

// serviceSpec is the part of a service's config that its tunnel depends on.
type serviceSpec struct {
	engine        string
	target        native.Target
	kubeconfig    string           // empty: the files that kubectl reads
	configured    session.Location // from the config; an empty field is resolved from the kubeconfig
	clusterHealth bool             // status shows the cluster's health
}

func newServiceSpec(svc project.Service) serviceSpec {
	settings := svc.Connection.Settings
	return serviceSpec{
		engine: settings.Text("engine"),
		target: native.Target{
			Type: cmp.Or(settings.Text("resource_type"), "service"), Name: settings.Text("resource_name"), Selector: settings.Text("selector"),
			Port: svc.RemotePort,
		},
		kubeconfig:    settings.Text("kubeconfig"),
		configured:    session.Location{Context: settings.Text("context"), Namespace: settings.Text("namespace")},
		clusterHealth: settings.Bool("cluster_health"),
	}
}

// service is a service's spec and the state that outlives its tunnels.
type service struct {
	serviceSpec

	mu          sync.Mutex         // guards the fields below; never held while a file is read
	lastSession *session.Session   // of the last tunnel
	openFailure *forwarder.Failure // why there was no session at the last attempt; nil: there was one
	location    session.Location
	locationKey string // the kubeconfig files from which location was resolved; empty before
}

func newService(s serviceSpec) *service { return &service{serviceSpec: s, location: s.configured} }

// serviceFor returns the service of a definition. Another definition of the same service starts without the former state.
func (d *driver) serviceFor(svc project.Service) *service {
	spec := newServiceSpec(svc)
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.services[svc.Name]
	if s == nil || s.serviceSpec != spec {
		s = newService(spec)
		d.services[svc.Name] = s
	}
	return s
}

// Target returns the location, as far as it has been resolved, and the resource.
func (d *driver) Target(svc project.Service) string {
	s := d.serviceFor(svc)
	location := s.currentLocation().String()
	if location != "" {
		location += " "
	}
	return "kubectl " + location + s.target.String()
}

func (s *service) currentLocation() session.Location {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.location
}

// resolveLocation completes the location once, so that "kubectl config use-context" in another terminal does not move a forward to
// another cluster when its tunnel reconnects. It is resolved again if KUBECONFIG names other files, or the user asks for a restart.
func (s *service) resolveLocation(run forwarder.Run) session.Location {
	files := session.KubeconfigFiles(s.kubeconfig, run.Env, run.Dir)
	key := fmt.Sprintf("%q %v", files, run.RequestedAt)
	s.mu.Lock()
	location, isResolved := s.location, s.locationKey == key
	s.mu.Unlock()
	if isResolved {
		return location
	}
	location = s.completeLocation(files, run) // without the mutex, which status needs: reading may hang on a network file system
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.locationKey == key {
		return s.location
	}
	s.location, s.locationKey = location, ""
	if location.Context != "" && location.Namespace != "" { // else the context does not exist yet
		s.locationKey = key
	}
	return location
}

// TargetKey is what decides which API server a tunnel reaches, and as whom, with the namespace, the resource and the port. Of an engine of
// another program, that program is part of it.
func (d *driver) TargetKey(svc project.Service, run forwarder.Run) ([]string, bool) {
	s := d.serviceFor(svc)
	location := s.locationFor(run)
	key, ok := newSource(run, session.ResourceRef{Kubeconfig: s.kubeconfig, Location: location}).TargetKey()
	if !ok {
		return nil, false
	}
	program := ""
	if s.usesProgram(run.Env) {
		program = cmp.Or(process.Getenv(run.Env, programVariable), "kubectl")
	}
	return append(key, program, location.Namespace, s.target.Type, s.target.Name, s.target.Selector, s.target.Port), true
}

// locationFor returns the location of the service's tunnel or, if run was requested, of one that is opened with it.
func (s *service) locationFor(run forwarder.Run) session.Location {
	if !run.RequestedAt.IsZero() {
		return s.resolveLocation(run)
	}
	s.mu.Lock()
	location, isResolved := s.location, s.locationKey != ""
	s.mu.Unlock()
	if isResolved {
		return location
	}
	return s.completeLocation(session.KubeconfigFiles(s.kubeconfig, run.Env, run.Dir), run)
}

// completeLocation reads the kubeconfig files for what the config leaves open.
func (s *service) completeLocation(files []string, run forwarder.Run) session.Location {
	location := s.configured.Complete(files)
	if location.Context == "" {
		location.Namespace = cmp.Or(location.Namespace, session.InClusterNamespace(run.Env))
	}
	return location
}

// usesProgram reports whether "kubectl port-forward", or the program that the environment names, carries the service's bytes.
func (s *service) usesProgram(env []string) bool {
	return s.engine == "kubectl" || process.Getenv(env, programVariable) != "" && s.engine != "native"
}

// Open opens a tunnel through the configured engine, or through the kubectl that the environment names.
func (d *driver) Open(ctx context.Context, svc project.Service, run forwarder.Run) (forwarder.Tunnel, error) {
	s := d.serviceFor(svc)
	ref := session.ResourceRef{Resource: s.target.Resource(), Kubeconfig: s.kubeconfig, Location: s.resolveLocation(run), Service: svc.Name}
	src := newSource(run, ref)
	files := src.ReadFiles()
	src.Stamps = files.Stamps
	defer d.reportLoginHelper(ctx, src, run)()
	program := process.Getenv(run.Env, programVariable)
	if s.usesProgram(run.Env) {
		if s.target.Selector != "" {
			return nil, &forwarder.Failure{
				Class: forwarder.Permanent, Reason: "kubectl port-forward does not support selectors",
				Hint: `name a service or a deployment, or set engine = "native"`,
			}
		}
		if err := d.sessions.CheckLogin(ctx, src); err != nil {
			return nil, files.ReconsiderError(err)
		}
		return kubectlprocess.Open(ctx, run, kubectlprocess.Spec{
			Program: cmp.Or(program, "kubectl"), ResourceRef: ref, Port: s.target.Port, Files: files,
			OnLoginFailure: func(failure *forwarder.Failure) { d.sessions.RecordLoginFailure(src, failure) },
		})
	}
	kubeSession, release, err := d.sessions.Open(src)
	s.recordOpen(kubeSession, err)
	if err != nil {
		return nil, files.ReconsiderError(err)
	}
	tunnel, err := native.Open(ctx, run, native.Spec{
		Target: s.target, Ref: ref, Session: kubeSession, Release: release, Files: files, ClusterHealth: s.clusterHealth, Tasks: d.tasks, Reserve: d.reserve,
	})
	if err != nil {
		return nil, files.ReconsiderError(err)
	}
	return tunnel, nil
}

// reportLoginHelper reports while a login helper runs, until the returned function is called. A panic ends only the reports.
func (d *driver) reportLoginHelper(ctx context.Context, src session.Source, run forwarder.Run) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		forwarder.CatchPanic(func() { d.sessions.WatchLoginHelper(ctx, src, run.ReportProgress) }, func(failure *forwarder.Failure, stack []byte) {
			_, _ = fmt.Fprintf(run.Log, "%s\n%s", failure.Reason, stack)
		})
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// recordOpen records the session of an attempt, or why there was none.
func (s *service) recordOpen(opened *session.Session, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.openFailure, _ = errors.AsType[*forwarder.Failure](err); err == nil {
		s.lastSession = opened
	}
}

// OnNetworkChange implements forwarder.NetworkObserver.
func (d *driver) OnNetworkChange() { d.sessions.OnNetworkChange() }

func newSource(run forwarder.Run, ref session.ResourceRef) session.Source {
	return session.Source{ResourceRef: ref, Dir: run.Dir, Env: run.Env, Log: run.Log, OutdatedBefore: run.OutdatedBefore()}
}

// Cluster returns the state of a service's cluster, if the service shows it and uses the native engine.
func (d *driver) Cluster(svc project.Service) (forwarder.ClusterInfo, bool) {
	s := d.serviceFor(svc)
	s.mu.Lock()
	lastSession, location, openFailure := s.lastSession, s.location, s.openFailure
	s.mu.Unlock()
	if lastSession == nil || !s.clusterHealth {
		return forwarder.ClusterInfo{}, false
	}
	cluster := lastSession.Report(session.ResourceRef{Kubeconfig: s.kubeconfig, Location: location})
	cluster.Name, cluster.Failure = location.Context, cmp.Or(openFailure, cluster.Failure)
	return cluster, true
}

// ReceiveCredential accepts a credential in the form in which a login helper prints it.
func (d *driver) ReceiveCredential(svc project.Service, run forwarder.Run, credential []byte) error {
	return d.sessions.SetCredential(d.serviceFor(svc).loginSource(run), credential)
}

// loginSource is the source that describes the service's login.
func (s *service) loginSource(run forwarder.Run) session.Source {
	return newSource(run, session.ResourceRef{Kubeconfig: s.kubeconfig, Location: s.resolveLocation(run)})
}

// Close ends running login helpers. The sessions have ended with their tunnels.
func (d *driver) Close() error {
	d.tasks.Close()
	return nil
}

// newLogin returns the login of a service: the login helper of the kubeconfig's user. Services of the same context share it.
func newLogin(svc project.Service, dir string, env []string) forwarder.Login {
	src := newService(newServiceSpec(svc)).loginSource(forwarder.Run{Dir: dir, Env: env})
	return forwarder.Login{
		Key: fmt.Sprintf("%q %q", src.Kubeconfig, src.Location.Context), Name: fmt.Sprintf("context %q", src.Location.Context),
		HasNoHelper: !src.HasLoginHelper(),
		Run: func(ctx context.Context, terminal forwarder.Terminal) ([]byte, bool, error) {
			return session.RunLoginHelper(ctx, src, terminal)
		},
	}
}
