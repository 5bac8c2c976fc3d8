// Package kubectl leads into Kubernetes: through the engine that is built in, or through kubectl port-forward where that is
// asked for. Both read the same kubeconfig files and lead to the same place.
package kubectl

import (
	"cmp"
	"context"
	"fmt"
	"sync"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/child"
	"github.com/localport-sh/localport/forwarder/kubectl/native"
	"github.com/localport-sh/localport/forwarder/kubectl/process"
	"github.com/localport-sh/localport/forwarder/kubectl/session"
	"github.com/localport-sh/localport/project"
)

// Variable names a kubectl to be run instead of the engine that is built in, in the environment of a run.
const Variable = "LOCALPORT_KUBECTL"

// Kind is the technology "kubectl".
var Kind = forwarder.Kind{TechnologyType: project.TechnologyType{Name: project.Kubectl}, New: New}

// New makes the technology of one service.
func New(svc project.Service) forwarder.Technology {
	at := svc.Connection
	t := &technology{
		engine: at.Engine,
		target: native.Target{
			Type: cmp.Or(at.ResourceType, "service"), Name: at.ResourceName, Selector: at.Selector, Port: svc.RemotePort,
		},
		kubeconfig: at.Kubeconfig,
		asked:      session.Place{Context: at.Context, Namespace: at.Namespace},
		watched:    at.ClusterHealth,
	}
	t.place = t.asked
	return t
}

type technology struct {
	engine     string
	target     native.Target
	kubeconfig string        // empty: as kubectl finds it
	asked      session.Place // what the config says, empty where it leaves it to kubectl
	watched    bool          // the cluster's health is of interest

	mu    sync.Mutex
	last  *session.Session // that a tunnel used
	place session.Place
	from  string // the kubeconfig files in which place was completed; empty before it was
}

// Target is the place, as far as it is known yet, and the resource.
func (t *technology) Target() string {
	where := t.where().String()
	if where != "" {
		where += " "
	}
	return "kubectl " + where + t.target.String()
}

func (t *technology) where() session.Place {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.place
}

// settle completes the place once, so that a kubectl config use-context elsewhere does not move a forward to another
// cluster when its tunnel is replaced. Other kubeconfig files in the environment are another matter, and so is a user who
// asks for a new start.
func (t *technology) settle(run forwarder.Run) session.Place {
	files := session.Files(t.kubeconfig, run.Env, run.Dir)
	t.mu.Lock()
	defer t.mu.Unlock()
	if key := fmt.Sprintf("%q %v", files, run.Asked); t.from != key {
		t.place = t.asked.Complete(files)
		t.from = ""
		if t.place.Context != "" {
			t.from = key
		}
	}
	return t.place
}

// Open opens a tunnel through the engine of the config, or through the kubectl that the environment names.
func (t *technology) Open(ctx context.Context, run forwarder.Run) (forwarder.Tunnel, error) {
	at := t.settle(run)
	words := session.Words{Resource: t.target.Resource(), Kubeconfig: t.kubeconfig, Place: at}
	program := child.Getenv(run.Env, Variable)
	if t.engine == "kubectl" || program != "" && t.engine != "native" {
		if t.target.Selector != "" {
			return nil, &forwarder.Failure{
				Class: forwarder.Permanent, Reason: "kubectl port-forward takes no selector",
				Hint: `name a service or a deployment, or set engine = "native"`,
			}
		}
		return process.Open(ctx, run, process.Spec{Program: cmp.Or(program, "kubectl"), Words: words, Port: t.target.Port})
	}
	s, release, err := session.Open(t.source(run, words))
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	t.last = s
	t.mu.Unlock()
	return native.Open(ctx, run, native.Spec{Target: t.target, Words: words, Session: s, Release: release, Watched: t.watched})
}

func (t *technology) source(run forwarder.Run, words session.Words) session.Source {
	return session.Source{Words: words, Dir: run.Dir, Env: run.Env, Log: run.Log, Asked: run.Asked}
}

// Surroundings is the cluster, if its health is of interest and the engine that is built in leads there.
func (t *technology) Surroundings() (forwarder.Surroundings, bool) {
	t.mu.Lock()
	last, place := t.last, t.place
	t.mu.Unlock()
	if last == nil || !t.watched {
		return forwarder.Surroundings{}, false
	}
	around := last.Report(session.Words{Kubeconfig: t.kubeconfig, Place: place})
	around.Name = place.Context
	return around, true
}

// Login takes a credential as a login helper prints it.
func (t *technology) Login(run forwarder.Run, credential []byte) error {
	return session.Give(t.source(run, session.Words{Kubeconfig: t.kubeconfig, Place: t.settle(run)}), credential)
}

// LoginSource is where the login of a service is described, for somebody who goes through it in the foreground.
func LoginSource(svc project.Service, dir string, env []string) session.Source {
	t := New(svc).(*technology)
	run := forwarder.Run{Dir: dir, Env: env}
	return t.source(run, session.Words{Kubeconfig: t.kubeconfig, Place: t.settle(run)})
}
