package supervisor

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/handoff"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == handoff.Arg {
		os.Exit(handoff.Main())
	}
	goleak.VerifyTestMain(m)
}

func TestEnvironment_ReplacesVariablesThatStoppedWorking(t *testing.T) {
	dir := t.TempDir()
	live := filepath.Join(dir, "agent")
	ln, err := net.Listen("unix", live)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	env := newEnvironment([]string{"SSH_AUTH_SOCK=" + dir + "/gone", "PATH=" + dir, "KUBECONFIG=" + dir + "/gone"}, "run")

	if env.replaceBrokenVariables(api.JoinRequest{SSHAuthSock: dir + "/gone-too", Path: "/elsewhere", Kubeconfig: ""}) {
		t.Error("what does not work either was taken over")
	}
	if !env.replaceBrokenVariables(api.JoinRequest{SSHAuthSock: live, Path: "/"}) {
		t.Error("a live agent was not taken over")
	}
	list := env.childEnviron()
	for _, want := range []string{"SSH_AUTH_SOCK=" + live, "PATH=" + dir, "LOCALPORT_RUN=run"} {
		if !slices.Contains(list, want) {
			t.Errorf("%q is not in %q", want, list)
		}
	}
}

func TestEnvironment_ExcludesOurOwnExports(t *testing.T) {
	env := newEnvironment([]string{"A=1", "HOME=/h", "LOCALPORT_DIFF=e30"}, "run")
	env.setDotEnv(map[string]string{"A": "2", "B": "3"})
	if list := env.childEnviron(); !slices.Equal(list, []string{"A=1", "B=3", "HOME=/h", "LOCALPORT_RUN=run"}) {
		t.Errorf("children get %q", list)
	}
}

func TestWatchSleep_ReportsSleepWithinSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var total atomic.Int64
		woken := make(chan time.Duration, 10)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			watchSleep(ctx, func() time.Duration { return time.Duration(total.Load()) }, func(d time.Duration) { woken <- d })
		}()
		time.Sleep(time.Hour)
		total.Add(int64(time.Second)) // a clock that is set, a second of suspend: not worth a restart
		time.Sleep(time.Minute)
		total.Add(int64(40 * time.Minute))
		time.Sleep(sleepCheckInterval)
		synctest.Wait()
		cancel()
		<-done
		if len(woken) != 1 || <-woken != 40*time.Minute {
			t.Errorf("%d wakes", len(woken))
		}
	})
}
