package prompt

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/eventlog"
	"github.com/localport-sh/localport/project"
)

// TestMain ends a process that an evaluation starts to look for mistakes: it is this test's own program, which would run all tests again.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == MistakeArg {
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

func TestProjectSummary_QuietListsOnlyServicesThatNeedTheUser(t *testing.T) {
	view := api.ProjectView{Services: []api.ServiceView{
		{Name: "a", State: forwarder.Healthy, Port: 1},
		{Name: "b", State: forwarder.Starting, Port: 2},
		{Name: "c", State: forwarder.NeedsAttention, Port: 3, Reason: "log in"},
		{Name: "d", State: forwarder.Failed, Port: 4},
		{Name: "e", State: forwarder.Stopped, Port: 5},
	}}
	for verbosity, want := range map[project.Verbosity]string{
		project.VerbosityNormal: "shop: a :1, b :2 (starting), c :3 (needs attention: log in), d :4 (failed)",
		project.VerbosityQuiet:  "shop: c :3 (needs attention: log in), d :4 (failed)",
	} {
		if got := projectSummary("/home/me/shop", view, verbosity); got != want {
			t.Errorf("%s: %q, want %q", verbosity, got, want)
		}
	}
	view.Services = view.Services[:2]
	if got := projectSummary("/home/me/shop", view, project.VerbosityQuiet); got != "" {
		t.Errorf("no service needs the user, but the summary is %q", got)
	}
}

func TestProjectSummary_OfManyServicesIsTheirNumber(t *testing.T) {
	view := func(ready, starting, failed int) (v api.ProjectView) {
		for state, n := range map[forwarder.State]int{forwarder.Healthy: ready, forwarder.Starting: starting, forwarder.Failed: failed, forwarder.Stopped: 3} {
			for range n {
				v.Services = append(v.Services, api.ServiceView{Name: "x", State: state, Port: 1, Reason: "a long reason"})
			}
		}
		return v
	}
	for _, c := range []struct {
		view          api.ProjectView
		normal, quiet string
	}{
		{view(8, 1, 1), "shop: 10 services, 2 not ready: localport status", "shop: x :1 (failed: a long reason)"},
		{view(10, 0, 0), "shop: 10 services ready", ""},
		{view(0, 6, 0), "shop: 6 services not ready: localport status", ""},
		{view(0, 0, 6), "shop: 6 services not ready: localport status", "shop: 6 services not ready: localport status"},
		{view(5, 0, 0), "shop: x :1, x :1, x :1, x :1, x :1", ""},
	} {
		if got := projectSummary("/home/me/shop", c.view, project.VerbosityNormal); got != c.normal {
			t.Errorf("%q, want %q", got, c.normal)
		}
		if got := projectSummary("/home/me/shop", c.view, project.VerbosityQuiet); got != c.quiet {
			t.Errorf("quiet: %q, want %q", got, c.quiet)
		}
	}
}

func TestEventsSummary_CountsFailuresAndRecoveries(t *testing.T) {
	failed, recovered := eventlog.Event{Kind: eventlog.ServiceFailed}, eventlog.Event{Kind: eventlog.ServiceRecovered}
	for want, events := range map[string][]eventlog.Event{
		"shop: 3 services not ready: localport status":                      {failed, failed, failed},
		"shop: 1 service not ready, 2 services recovered: localport status": {failed, recovered, recovered},
		"shop: 2 services not ready, 1 service recovered: localport status": {failed, recovered, failed},
		"shop: 4 services recovered: localport status":                      {recovered, recovered, recovered, recovered},
	} {
		if got := eventsSummary("/home/me/shop", events); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestOpenConnectionsSummary_SaysWhenTheyEnd(t *testing.T) {
	one := []api.OpenConnections{{Name: "db", Open: 1}}
	two := []api.OpenConnections{{Name: "db", Open: 1}, {Name: "web", Open: 2}}
	for _, c := range []struct {
		left api.LeaveResponse
		want string
	}{
		{api.LeaveResponse{Services: one, Linger: 10}, "shop: 1 connection is open on db; it ends in 10s (linger)"},
		{
			api.LeaveResponse{Services: one, Linger: 10, KeepsPrograms: true},
			"shop: 1 connection is open on db; it ends in 10s (linger), unless a program that was started in the project is connected",
		},
		{api.LeaveResponse{Services: two, Linger: 90}, "shop: 3 connections are open on db, web; they end in 1m30s (linger)"},
		{api.LeaveResponse{Services: two, Linger: 600}, "shop: 3 connections are open on db, web; they end in 10m (linger)"},
		{
			api.LeaveResponse{Services: one, Linger: 10, Keep: 3600},
			`shop: 1 connection is open on db; it stays until it is closed, for at most 1h (linger = "connections")`,
		},
		{
			api.LeaveResponse{Services: two, Linger: 10, Keep: 3600},
			`shop: 3 connections are open on db, web; they stay until they are closed, for at most 1h (linger = "connections")`,
		},
	} {
		if got := openConnectionsSummary("/home/me/shop", c.left); got != c.want {
			t.Errorf("%+v: %q, want %q", c.left, got, c.want)
		}
	}
}
