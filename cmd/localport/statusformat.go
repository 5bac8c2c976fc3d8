package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
)

// describeLeases says who uses a project: "used by 2 shells, 1 exec".
func describeLeases(leases []api.Lease) string {
	counts := make(map[string]int)
	for _, lease := range leases {
		counts[lease.Kind]++
	}
	var users []string
	for _, kind := range []struct{ lease, singular, plural string }{
		{api.ShellLease, "shell", "shells"},
		{api.ExecLease, "exec", "execs"},
		{api.ProcessLease, "process", "processes"},
		{api.BorrowedLease, "other project", "other projects"},
	} {
		switch n := counts[kind.lease]; {
		case n == 1:
			users = append(users, "1 "+kind.singular)
		case n > 1:
			users = append(users, fmt.Sprintf("%d %s", n, kind.plural))
		}
	}
	if counts[api.StartLease] > 0 {
		users = append(users, `"localport start"`)
	}
	if users == nil {
		return "not in use"
	}
	return "used by " + strings.Join(users, ", ")
}

func plural(word string, n int) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

// formatState returns the state. Of a shared service it adds the state at the holder, unless that is ready.
func formatState(svc api.ServiceStatus) string {
	if svc.State != forwarder.Shared || svc.IsReady() {
		return string(svc.State)
	}
	return fmt.Sprintf("%s (%s)", svc.State, svc.EffectiveState())
}

// describeSharing says which other project has the port of a service, or which others use the service of this one; empty if none does.
func describeSharing(svc api.ServiceStatus) string {
	switch {
	case svc.Shared != nil:
		return "shared: project " + output.EscapeLine(svc.Shared.Project) + " has the port"
	case len(svc.SharedWith) > 0:
		return "shared with " + output.EscapeLine(strings.Join(svc.SharedWith, ", "))
	}
	return ""
}

func formatHealth(svc api.ServiceStatus) string {
	if svc.Health.Checked == nil {
		return "-"
	}
	return fmt.Sprintf("%s %s, %s ago", svc.Health.Check, formatLatency(svc.Health.Latency), formatAge(*svc.Health.Checked))
}

// formatLatency formats a number of seconds.
func formatLatency(seconds float64) string {
	return time.Duration(seconds * float64(time.Second)).Round(100 * time.Microsecond).String()
}

func formatUptime(svc api.ServiceStatus) string {
	if svc.UpSince == nil {
		return "-"
	}
	return formatAge(*svc.UpSince)
}

// formatLastError returns what fails now, or else the last request that was refused.
func formatLastError(svc api.ServiceStatus) string {
	if showsRefusal(svc) {
		return fmt.Sprintf("request failed %s ago: %s", formatAge(svc.LastRefusal.Time), output.JoinLines(svc.LastRefusal.Reason))
	}
	return output.JoinLines(svc.LastError)
}

// showsRefusal reports whether the last request that was refused is shown: nothing else fails.
func showsRefusal(svc api.ServiceStatus) bool {
	return svc.LastError == "" && svc.LastRefusal != nil && svc.State != forwarder.Stopped
}

// formatConnections returns the number of open connections, and how many of them wait for the tunnel.
func formatConnections(svc api.ServiceStatus) string {
	if svc.State == forwarder.Stopped {
		return "-"
	}
	if svc.Connections.Waiting > 0 {
		return fmt.Sprintf("%d (%d waiting)", svc.Connections.Open, svc.Connections.Waiting)
	}
	return fmt.Sprint(svc.Connections.Open)
}

// formatAge returns how long ago t was, in one unit from seconds to days.
func formatAge(t time.Time) string {
	d := max(time.Since(t), 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours())/24)
}

// formatLocalAddress returns the address that clients connect to; a reverse forward has none.
func formatLocalAddress(svc api.ServiceStatus) string {
	if svc.Reverse {
		return "(reverse)"
	}
	return svc.Address
}
