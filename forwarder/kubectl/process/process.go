// Package process makes tunnels of kubectl port-forward: one process a tunnel, its words read for what they mean. One
// refused connection ends every other of its process, it finds out only at the next connection that its pod is gone, and it
// does not notice a server that is frozen: the supervisor heals what can be healed from outside.
package process

import (
	"context"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/kubectl/session"
	"github.com/localport-sh/localport/forwarder/process"
)

// Spec says what is forwarded by which program.
type Spec struct {
	Program string // looked for in the run's PATH
	session.Words
	Port string // a number or a name
}

// podTimeout is how long kubectl waits for a pod; its own minute is longer than we wait for a tunnel.
const podTimeout = "30s"

func (s Spec) argv() []string {
	argv := []string{s.Program, "port-forward", "--address", "127.0.0.1", "--pod-running-timeout", podTimeout}
	for _, flag := range []struct{ name, value string }{
		{"--kubeconfig", s.Kubeconfig}, {"--context", s.Place.Context}, {"--namespace", s.Place.Namespace},
	} {
		if flag.value != "" {
			argv = append(argv, flag.name, flag.value)
		}
	}
	return append(argv, "--", s.Resource, ":"+s.Port)
}

// Open starts kubectl and returns when it says where it listens.
func Open(ctx context.Context, run forwarder.Run, spec Spec) (forwarder.Tunnel, error) {
	tunnel := &tunnel{
		log:      run.Log,
		at:       spec.Words,
		ready:    make(chan string, 1),
		refusals: make(chan forwarder.Refusal, 8),
		started:  make(chan struct{}),
	}
	kubectl, err := process.Start(process.Command{
		Argv: spec.argv(), Dir: run.Dir, Env: run.Env, Line: tunnel.line,
	})
	if err != nil {
		return nil, process.Failure(err, "install kubectl: https://kubernetes.io/docs/tasks/tools/")
	}
	tunnel.Child = kubectl
	close(tunnel.started)
	if err := tunnel.await(ctx); err != nil {
		_ = tunnel.Close()
		return nil, err
	}
	return tunnel, nil
}
