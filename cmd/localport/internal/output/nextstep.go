package output

import (
	"slices"
	"strings"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
)

// NextStep is the one thing to do about a service: what whoever found its failure says, else what its state asks for.
func NextStep(status api.Status, svc api.ServiceStatus) string {
	switch {
	case status.State == api.StateStopped && status.Pending != "":
		return reviewHint
	case status.State == api.StateStopped, svc.State == forwarder.Stopped:
		return "localport start " + svc.Name
	case svc.Hint != "":
		return JoinLines(svc.Hint)
	case firstUnready(status, svc.DependsOn) != "":
		return "localport why " + firstUnready(status, svc.DependsOn)
	case svc.State == forwarder.Shared && svc.Shared != nil && !svc.IsReady():
		return strings.Join([]string{"localport -C", ShellQuote(svc.Shared.Project), "why", svc.Shared.Service}, " ")
	case svc.LastError == "" && svc.LastRefusal != nil && svc.LastRefusal.Hint != "":
		return JoinLines(svc.LastRefusal.Hint)
	case svc.EffectiveState() == forwarder.NeedsAttention:
		return "localport login " + svc.Name
	case svc.EffectiveState() == forwarder.Unhealthy:
		return "fix the server, or correct the health_check of " + svc.Name
	case svc.IsReady() && svc.Reverse:
		return "nothing to do; clients connect at the far side"
	case svc.IsReady():
		return "nothing to do; connect to " + svc.Address
	}
	return "localport logs " + svc.Name
}

// firstUnready returns the first of the named services that is not ready; empty if all are.
func firstUnready(status api.Status, names []string) string {
	for _, svc := range status.Services {
		if slices.Contains(names, svc.Name) && !svc.IsReady() {
			return svc.Name
		}
	}
	return ""
}
