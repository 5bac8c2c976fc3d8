// Package process opens tunnels with "kubectl port-forward", one process per tunnel, and parses its output. kubectl has limits that
// the supervisor works around: a refused connection ends all others of the process, a deleted pod is noticed only at the next
// connection, and a server that hangs is never noticed.
package process

import (
	"context"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/kubectl/session"
	"github.com/localport-sh/localport/forwarder/process"
)

// Spec is what to forward, and the program that does.
type Spec struct {
	Program string // resolved in the PATH of the run
	session.ResourceRef
	Port  string               // a number or a name
	Files *session.ConfigFiles // that kubectl reads
	// OnLoginFailure is called when a login helper has failed for kubectl; nil: not called.
	OnLoginFailure func(*forwarder.Failure)
}

// podRunningTimeout is how long kubectl waits for a pod. Its default, a minute, is longer than we wait for a tunnel.
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

// InstallHint is the next step if kubectl is missing.
const InstallHint = "install kubectl: https://kubernetes.io/docs/tasks/tools/"

// Open starts kubectl and returns when it listens. An error is a *forwarder.Failure, or that of ctx if it is canceled.
func Open(ctx context.Context, run forwarder.Run, spec Spec) (forwarder.Tunnel, error) {
	tunnel := &tunnel{
		log:       process.NewLogBuffer(run.Log),
		spec:      spec,
		startedAt: time.Now(),
		addrCh:    make(chan string, 1),
		refusalCh: make(chan forwarder.Refusal, 8),
		startedCh: make(chan struct{}),
	}
	program := process.Command{Argv: spec.argv(), Dir: run.Dir, Env: run.Env, OnLine: tunnel.handleLine, OnRead: tunnel.log.Flush}
	kubectl, err := process.Start(program)
	if err != nil {
		return nil, process.ClassifyStartError(err, program, InstallHint)
	}
	tunnel.Child = kubectl
	close(tunnel.startedCh)
	if err := tunnel.waitReady(ctx); err != nil {
		_ = tunnel.Close()
		return nil, spec.Files.ReconsiderError(err)
	}
	return tunnel, nil
}
