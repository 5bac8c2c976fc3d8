package supervisor

import (
	"net"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/control"
	"github.com/localport-sh/localport/project"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTheDelayGrowsToItsLimitAndNeverBeyond(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy := project.RestartPolicy{
			InitialDelay:      time.Duration(rapid.Int64Range(1, int64(time.Minute)).Draw(t, "initial")),
			BackoffMultiplier: rapid.Float64Range(1, 10).Draw(t, "multiplier"),
			MaxDelay:          time.Duration(rapid.Int64Range(1, int64(time.Hour)).Draw(t, "max")),
		}
		n := rapid.IntRange(1, 10000).Draw(t, "failures")
		got := delay(policy, n)
		if got <= 0 || got > policy.MaxDelay {
			t.Fatalf("delay after %d failures of %+v: %v", n, policy, got)
		}
		if least := min(policy.InitialDelay, policy.MaxDelay) * 3 / 4; got < least {
			t.Fatalf("delay after %d failures of %+v: %v, less than %v", n, policy, got, least)
		}
	})
	if got := delay(project.RestartPolicy{InitialDelay: time.Second}, 0); got != 0 {
		t.Errorf("without a failure: %v", got)
	}
}

func TestANewerShellsEnvironmentReplacesWhatStoppedWorking(t *testing.T) {
	dir := t.TempDir()
	live := filepath.Join(dir, "agent")
	ln, err := net.Listen("unix", live)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	env := newEnvironment([]string{"SSH_AUTH_SOCK=" + dir + "/gone", "PATH=" + dir, "KUBECONFIG=" + dir + "/gone"}, "run")

	if env.refresh(control.Session{SSHAuthSock: dir + "/gone-too", Path: "/elsewhere", Kubeconfig: ""}) {
		t.Error("what does not work either was taken over")
	}
	if !env.refresh(control.Session{SSHAuthSock: live, Path: "/"}) {
		t.Error("a live agent was not taken over")
	}
	list := env.list()
	for _, want := range []string{"SSH_AUTH_SOCK=" + live, "PATH=" + dir, "LOCALPORT_RUN=run"} {
		if !slices.Contains(list, want) {
			t.Errorf("%q is not in %q", want, list)
		}
	}
}

func TestTheEnvironmentHoldsNoneOfOurOwnExports(t *testing.T) {
	env := newEnvironment([]string{"A=1", "LOCALPORT_DIFF=e30"}, "run")
	env.setDotEnv(map[string]string{"A": "2", "B": "3"})
	if list := env.list(); !slices.Equal(list, []string{"A=1", "B=3", "LOCALPORT_RUN=run"}) {
		t.Errorf("children get %q", list)
	}
}

func TestAFailureAsksForItsRest(t *testing.T) {
	always := project.RestartPolicy{Enabled: true, InitialDelay: time.Second, BackoffMultiplier: 2, MaxDelay: time.Minute}
	thrice := always
	thrice.MaxAttempts = 3
	for name, c := range map[string]struct {
		policy   project.RestartPolicy
		class    forwarder.Class
		failures int
		want     restKind
	}{
		"transient":        {always, forwarder.Transient, 100, backoff},
		"by attention":     {always, forwarder.ByAttention, 1, helped},
		"permanent":        {always, forwarder.Permanent, 1, barred},
		"attempts left":    {thrice, forwarder.Transient, 2, backoff},
		"attempts used":    {thrice, forwarder.Transient, 3, barred},
		"restarts off":     {project.RestartPolicy{}, forwarder.Transient, 1, barred},
		"off, by the user": {project.RestartPolicy{}, forwarder.ByAttention, 1, helped},
	} {
		f := &forward{svc: project.Service{RestartPolicy: c.policy}, failures: c.failures}
		if got := f.after(&forwarder.Failure{Class: c.class}); got.kind != c.want {
			t.Errorf("%s: %v, want %v", name, got.kind, c.want)
		}
	}
}
