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
	session.ResourceRef
	Port string // a number or a name
}

// podRunningTimeout is how long kubectl waits for a pod; its own minute is longer than we wait for a tunnel.
const podRunningTimeout = "30s"

func (s Spec) argv() []string {
	argv := []string{s.Program, "port-forward", "--address", "127.0.0.1", "--pod-running-timeout", podRunningTimeout}
	for _, flag := range []struct{ name, value string }{
		{"--kubeconfig", s.Kubeconfig}, {"--context", s.Location.Context}, {"--namespace", s.Location.Namespace},
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
		log:       run.Log,
		ref:       spec.ResourceRef,
		addrCh:    make(chan string, 1),
		refusalCh: make(chan forwarder.Refusal, 8),
		startedCh: make(chan struct{}),
	}
	kubectl, err := process.Start(process.Command{
		Argv: spec.argv(), Dir: run.Dir, Env: run.Env, OnLine: tunnel.handleLine,
	})
	if err != nil {
		return nil, process.ClassifyStartError(err, "install kubectl: https://kubernetes.io/docs/tasks/tools/")
	}
	tunnel.Child = kubectl
	close(tunnel.startedCh)
	if err := tunnel.waitReady(ctx); err != nil {
		_ = tunnel.Close()
		return nil, err
	}
	return tunnel, nil
}
