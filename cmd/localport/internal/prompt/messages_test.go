package prompt

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/project"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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

func TestOpenConnectionsSummary_SaysWhenTheyEnd(t *testing.T) {
	one := []api.OpenConnections{{Name: "db", Open: 1}}
	two := []api.OpenConnections{{Name: "db", Open: 1}, {Name: "web", Open: 2}}
	for _, c := range []struct {
		left api.LeaveResponse
		want string
	}{
		{api.LeaveResponse{Services: one, Linger: 10}, "shop: 1 connection is open on db; it ends in 10s (linger)"},
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
