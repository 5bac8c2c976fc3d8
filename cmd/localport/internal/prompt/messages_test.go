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
