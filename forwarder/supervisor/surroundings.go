package supervisor

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/control"
)

// clusters is how the clusters are doing that services lead into, each once, in the order of the services.
func (s *Supervisor) clusters() []control.ClusterStatus {
	var all []control.ClusterStatus
	seen := make(map[[2]string]bool)
	for _, svc := range s.project.Services {
		f := s.forwards[svc.Name]
		reporter, ok := s.drivers[svc.Technology].(forwarder.ClusterReporter)
		if !ok || !f.running() {
			continue
		}
		around, known := reporter.Cluster(svc)
		if key := [2]string{around.Name, around.Address}; known && !seen[key] {
			seen[key] = true
			all = append(all, s.cluster(around))
		}
	}
	return all
}

// expiry is how long before its end a credential is told of that nobody renews.
const expiry = time.Hour

func (s *Supervisor) cluster(around forwarder.Surroundings) control.ClusterStatus {
	one := control.ClusterStatus{Context: around.Name, Server: around.Address, CredentialsExpire: moment(around.Expires), CredentialsRenewed: around.Renewed}
	if around.Trouble != nil {
		one.Trouble, one.Hint = s.mask(around.Trouble.Reason), s.mask(around.Trouble.Hint)
		return one
	}
	if left := time.Until(around.Expires); !around.Renewed && one.CredentialsExpire != nil && left < expiry {
		one.Trouble = fmt.Sprintf("the credentials expire in %v", left.Round(time.Minute))
		if left <= 0 {
			one.Trouble = "the credentials have expired"
		}
		one.Hint = "log in to the cluster anew as you usually do, then: localport restart"
	}
	return one
}

// Login takes a login that the user went through in the foreground, and has the services tried again that it is for.
func (s *Supervisor) Login(_ context.Context, r control.LoginRequest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return control.ErrEnding
	}
	for _, name := range r.Names {
		f := s.forwards[name]
		if f == nil {
			return fmt.Errorf("no service %q in the config that runs", name)
		}
		svc, _ := s.project.Service(name)
		receiver, ok := s.drivers[svc.Technology].(forwarder.CredentialReceiver)
		if len(r.Credential) == 0 || !ok {
			continue
		}
		if err := receiver.ReceiveCredential(svc, forwarder.Run{Dir: s.root(), Env: s.env.list(), Log: io.Discard}, r.Credential); err != nil {
			return fmt.Errorf("service %q: %w", name, err)
		}
	}
	for _, name := range r.Names {
		s.forwards[name].login(s.work, r.Ask)
	}
	return nil
}
