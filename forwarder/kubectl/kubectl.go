// Package kubectl makes tunnels of kubectl port-forward: one process a tunnel, its words read for what they mean.
package kubectl

import (
	"context"
	"fmt"
	"sync"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/child"
	"github.com/localport-sh/localport/project"
)

// Variable names another program than kubectl, in the environment of a run.
const Variable = "LOCALPORT_KUBECTL"

// Kind is the technology "kubectl".
var Kind = forwarder.Kind{TechnologyType: project.TechnologyType{Name: project.Kubectl}, New: New}

// New makes the technology of one service.
func New(svc project.Service) forwarder.Technology {
	t := &technology{
		kubeconfig: svc.Connection.Kubeconfig,
		resource:   svc.Connection.ResourceType + "/" + svc.Connection.ResourceName,
		port:       svc.RemotePort,
		asked:      place{svc.Connection.Context, svc.Connection.Namespace},
	}
	if svc.Connection.ResourceType == "" {
		t.resource = "service" + t.resource
	}
	t.place = t.asked
	return t
}

type technology struct {
	kubeconfig string // empty: as kubectl finds it
	resource   string // TYPE/NAME
	port       string // a number or a name
	asked      place  // what the config says, empty where it leaves it to kubectl

	mu    sync.Mutex
	place place
	from  string // the kubeconfig files in which place was completed; empty before it was
}

// Target is the place, as far as it is known yet, and the resource.
func (t *technology) Target() string {
	where := t.where().String()
	if where != "" {
		where += " "
	}
	return "kubectl " + where + t.resource + ":" + t.port
}

func (t *technology) where() place {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.place
}

// settle completes the place once, so that a kubectl config use-context elsewhere does not move a forward to another
// cluster when its tunnel is replaced. Other kubeconfig files in the environment are another matter.
func (t *technology) settle(run forwarder.Run) place {
	files := kubeconfigs(t.kubeconfig, run.Env, run.Dir)
	t.mu.Lock()
	defer t.mu.Unlock()
	if key := fmt.Sprintf("%q", files); t.from != key {
		t.place = t.asked.complete(files)
		t.from = ""
		if t.place.context != "" {
			t.from = key
		}
	}
	return t.place
}

// podTimeout is how long kubectl waits for a pod; its own minute is longer than we wait for a tunnel.
const podTimeout = "30s"

func (t *technology) argv(program string, at place) []string {
	argv := []string{program, "port-forward", "--address", "127.0.0.1", "--pod-running-timeout", podTimeout}
	for _, flag := range []struct{ name, value string }{
		{"--kubeconfig", t.kubeconfig}, {"--context", at.context}, {"--namespace", at.namespace},
	} {
		if flag.value != "" {
			argv = append(argv, flag.name, flag.value)
		}
	}
	return append(argv, "--", t.resource, ":"+t.port)
}

// Open starts kubectl and returns when it says where it listens.
func (t *technology) Open(ctx context.Context, run forwarder.Run) (forwarder.Tunnel, error) {
	at := t.settle(run)
	program := child.Getenv(run.Env, Variable)
	if program == "" {
		program = "kubectl"
	}
	tunnel := &tunnel{
		log:      run.Log,
		at:       cluster{resource: t.resource, kubeconfig: t.kubeconfig, place: at},
		ready:    make(chan string, 1),
		refusals: make(chan forwarder.Refusal, 8),
		started:  make(chan struct{}),
	}
	kubectl, err := child.Start(child.Command{
		Argv: t.argv(program, at), Dir: run.Dir, Env: run.Env, Line: tunnel.line,
	})
	if err != nil {
		return nil, child.Failure(err, "install kubectl: https://kubernetes.io/docs/tasks/tools/")
	}
	tunnel.Child = kubectl
	close(tunnel.started)
	if err := tunnel.await(ctx); err != nil {
		_ = tunnel.Close()
		return nil, err
	}
	return tunnel, nil
}
