// Package kubectl leads into Kubernetes: through the engine that is built in, or through kubectl port-forward where that is
// asked for. Both read the same kubeconfig files and lead to the same place.
package kubectl

import (
	"cmp"
	"context"
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

// Variable names a kubectl to be run instead of the engine that is built in, in the environment of a run.
const Variable = "LOCALPORT_KUBECTL"

// Technology is "kubectl".
var Technology = forwarder.Technology{
	TechnologyType: project.TechnologyType{Name: "kubectl", HasRemotePort: true, SupportsPortNames: true, Keys: keys, Finish: finish},
	New:            New,
	Login:          login,
}

// New makes a driver.
func New(ctx context.Context, _ forwarder.Host) forwarder.Driver {
	group := tasks.New(ctx)
	return &driver{
		tasks: group, shared: session.NewShared(group), reserve: native.NewReserve(), services: make(map[string]*service),
	}
}

// driver is what a supervisor's tunnels share.
type driver struct {
	tasks   *tasks.Group
	shared  *session.Shared
	reserve *spdy.Reserve

	mu       sync.Mutex
	services map[string]*service // by name
}

var (
	_ forwarder.ClusterReporter    = (*driver)(nil)
	_ forwarder.CredentialReceiver = (*driver)(nil)
)

// spec is what a service says of its tunnel.
type spec struct {
	engine     string
	target     native.Target
	kubeconfig string        // empty: as kubectl finds it
	asked      session.Place // what the config says, empty where it leaves it to kubectl
	watched    bool          // the cluster's health is of interest
}

func specOf(svc project.Service) spec {
	given := svc.Connection.Settings
	return spec{
		engine: given.Text("engine"),
		target: native.Target{
			Type: cmp.Or(given.Text("resource_type"), "service"), Name: given.Text("resource_name"), Selector: given.Text("selector"),
			Port: svc.RemotePort,
		},
		kubeconfig: given.Text("kubeconfig"),
		asked:      session.Place{Context: given.Text("context"), Namespace: given.Text("namespace")},
		watched:    given.Bool("cluster_health"),
	}
}

// service is a service's spec, and what is remembered of its tunnels.
type service struct {
	spec

	mu    sync.Mutex       // guards the fields below; never held while a file is read
	last  *session.Session // that a tunnel used
	place session.Place
	from  string // the kubeconfig files in which place was completed; empty before it was
}

func newService(s spec) *service { return &service{spec: s, place: s.asked} }

// service is the one of a definition: what is remembered of a service does not hold for another definition.
func (d *driver) service(svc project.Service) *service {
	defined := specOf(svc)
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.services[svc.Name]
	if s == nil || s.spec != defined {
		s = newService(defined)
		d.services[svc.Name] = s
	}
	return s
}

// Target is the place, as far as it is known yet, and the resource.
func (d *driver) Target(svc project.Service) string {
	s := d.service(svc)
	where := s.where().String()
	if where != "" {
		where += " "
	}
	return "kubectl " + where + s.target.String()
}

func (s *service) where() session.Place {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.place
}

// settle completes the place once, so that a kubectl config use-context elsewhere does not move a forward to another
// cluster when its tunnel is replaced. Other kubeconfig files in the environment are another matter, and so is a user who
// asks for a new start.
func (s *service) settle(run forwarder.Run) session.Place {
	files := session.Files(s.kubeconfig, run.Env, run.Dir)
	key := fmt.Sprintf("%q %v", files, run.Asked)
	s.mu.Lock()
	place, isComplete := s.place, s.from == key
	s.mu.Unlock()
	if isComplete {
		return place
	}
	place = s.asked.Complete(files) // the files may lie on a disk that hangs: status and the service's loop need the mutex
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.from == key {
		return s.place
	}
	s.place, s.from = place, ""
	if place.Context != "" {
		s.from = key
	}
	return place
}

// Open opens a tunnel through the engine of the config, or through the kubectl that the environment names.
func (d *driver) Open(ctx context.Context, svc project.Service, run forwarder.Run) (forwarder.Tunnel, error) {
	s := d.service(svc)
	words := session.Words{Resource: s.target.Resource(), Kubeconfig: s.kubeconfig, Place: s.settle(run)}
	program := process.Getenv(run.Env, Variable)
	if s.engine == "kubectl" || program != "" && s.engine != "native" {
		if s.target.Selector != "" {
			return nil, &forwarder.Failure{
				Class: forwarder.Permanent, Reason: "kubectl port-forward takes no selector",
				Hint: `name a service or a deployment, or set engine = "native"`,
			}
		}
		return kubectlprocess.Open(ctx, run, kubectlprocess.Spec{Program: cmp.Or(program, "kubectl"), Words: words, Port: s.target.Port})
	}
	opened, release, err := d.shared.Open(source(run, words))
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.last = opened
	s.mu.Unlock()
	return native.Open(ctx, run, native.Spec{
		Target: s.target, Words: words, Session: opened, Release: release, Watched: s.watched, Tasks: d.tasks, Reserve: d.reserve,
	})
}

func source(run forwarder.Run, words session.Words) session.Source {
	return session.Source{Words: words, Dir: run.Dir, Env: run.Env, Log: run.Log, Asked: run.Asked}
}

// Cluster is the cluster of a service, if its health is of interest and the engine that is built in leads there.
func (d *driver) Cluster(svc project.Service) (forwarder.Surroundings, bool) {
	s := d.service(svc)
	s.mu.Lock()
	last, place := s.last, s.place
	s.mu.Unlock()
	if last == nil || !s.watched {
		return forwarder.Surroundings{}, false
	}
	around := last.Report(session.Words{Kubeconfig: s.kubeconfig, Place: place})
	around.Name = place.Context
	return around, true
}

// ReceiveCredential takes a credential as a login helper prints it.
func (d *driver) ReceiveCredential(svc project.Service, run forwarder.Run, credential []byte) error {
	return d.shared.Give(d.service(svc).login(run), credential)
}

// login is where the login of the service is described.
func (s *service) login(run forwarder.Run) session.Source {
	return source(run, session.Words{Kubeconfig: s.kubeconfig, Place: s.settle(run)})
}

// Close ends the logins that are under way. The sessions have ended with their tunnels.
func (d *driver) Close() error {
	d.tasks.Close()
	return nil
}

// login is the login helper of the kubeconfig's user, if there is one. Services of the same context share it.
func login(svc project.Service, dir string, env []string) forwarder.Login {
	src := newService(specOf(svc)).login(forwarder.Run{Dir: dir, Env: env})
	return forwarder.Login{
		Key: fmt.Sprintf("%q %q", src.Kubeconfig, src.Place.Context), Name: fmt.Sprintf("context %q", src.Place.Context),
		Run: func(ctx context.Context, terminal forwarder.Terminal) ([]byte, bool, error) {
			return session.Foreground(ctx, src, terminal)
		},
	}
}
