package supervisor

import (
	"fmt"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
)

// clusterStatuses is how the clusters are doing that services lead into, each once, in the order of the services.
func (s *Supervisor) clusterStatuses(p *activeConfig) []api.ClusterStatus {
	var all []api.ClusterStatus
	seen := make(map[[2]string]bool)
	for _, svc := range p.project.Services {
		now := p.services[svc.Name].Snapshot()
		reporter, ok := now.Driver.(forwarder.ClusterReporter)
		if !ok || now.IsStopped() {
			continue
		}
		around, known := reporter.Cluster(now.Service)
		if key := [2]string{around.Name, around.Address}; known && !seen[key] {
			seen[key] = true
			all = append(all, s.clusterStatus(around))
		}
	}
	return all
}

// expiryWarningTime is how long before its end a credential is told of that nobody renews.
const expiryWarningTime = time.Hour

func (s *Supervisor) clusterStatus(around forwarder.Surroundings) api.ClusterStatus {
	one := api.ClusterStatus{Context: around.Name, Server: around.Address, CredentialsExpire: utcOrNil(around.Expires), CredentialsRenewed: around.Renewed}
	if around.Trouble != nil {
		one.Trouble, one.Hint = s.mask(around.Trouble.Reason), s.mask(around.Trouble.Hint)
		return one
	}
	if left := time.Until(around.Expires); !around.Renewed && one.CredentialsExpire != nil && left < expiryWarningTime {
		one.Trouble = fmt.Sprintf("the credentials expire in %v", left.Round(time.Minute))
		if left <= 0 {
			one.Trouble = "the credentials have expired"
		}
		one.Hint = "log in to the cluster anew as you usually do, then: localport restart"
	}
	return one
}
