package supervisor

import (
	"fmt"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
)

// clusterStatuses are the statuses of the clusters that services connect to, each once, in the order of the services.
func (s *Supervisor) clusterStatuses(active *activeConfig) []api.ClusterStatus {
	var all []api.ClusterStatus
	seen := make(map[[2]string]bool)
	for _, svc := range active.project.Services {
		now := active.services[svc.Name].Snapshot()
		reporter, ok := now.Driver.(forwarder.ClusterReporter)
		if !ok || now.IsStopped() {
			continue
		}
		info, known := reporter.Cluster(now.Service)
		if key := [2]string{info.Name, info.Address}; known && !seen[key] {
			seen[key] = true
			all = append(all, s.clusterStatus(info))
		}
	}
	return all
}

// expiryWarningTime is how long before its expiry status warns of a credential that is not renewed automatically.
const expiryWarningTime = time.Hour

func (s *Supervisor) clusterStatus(info forwarder.ClusterInfo) api.ClusterStatus {
	status := api.ClusterStatus{Context: info.Name, Server: info.Address, CredentialsExpire: utcOrNil(info.ExpiresAt), CredentialsRenewed: info.IsRenewed}
	if info.Failure != nil {
		status.Trouble, status.Hint = s.mask(info.Failure.Reason), s.mask(info.Failure.Hint)
		return status
	}
	if left := time.Until(info.ExpiresAt); !info.IsRenewed && status.CredentialsExpire != nil && left < expiryWarningTime {
		status.Trouble = fmt.Sprintf("the credentials expire in %v", left.Round(time.Minute))
		if left <= 0 {
			status.Trouble = "the credentials have expired"
		}
		status.Hint = `log in to the cluster again, then run "localport restart"`
	}
	return status
}
