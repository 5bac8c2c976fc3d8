package supervisor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/handoff"
	"github.com/localport-sh/localport/testdata/sshd"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == handoff.Arg {
		os.Exit(handoff.Main())
	}
	goleak.VerifyTestMain(m)
}

func TestEnvironment_ReplacesAnAgentThatIsOfNoUse(t *testing.T) {
	dir := t.TempDir()
	gone, empty := filepath.Join(dir, "gone"), sshd.StartAgent(t)
	one := sshd.StartAgent(t, sshd.NewKey(t, filepath.Join(dir, "one"), ""))
	two := sshd.StartAgent(t, sshd.NewKey(t, filepath.Join(dir, "two"), ""))
	for _, tt := range []struct {
		name, ours, other string
		doKeysFail        bool
		want              string
	}{
		{"none answers", gone, gone + "-too", false, gone},
		{"only the other answers", gone, empty, false, empty},
		{"the other ended", empty, gone, false, empty},
		{"only the other has a key", empty, one, false, one},
		{"only ours has a key", one, empty, true, one},
		{"both have keys", one, two, false, one},
		{"our keys do not work", one, two, true, two},
		{"the shell has no agent", one, "", true, one},
	} {
		env := newEnvironment([]string{"SSH_AUTH_SOCK=" + tt.ours}, "run")
		changed := env.repair(api.JoinRequest{SSHAuthSock: tt.other}, tt.doKeysFail)
		if got, _ := env.lookup("SSH_AUTH_SOCK"); got != tt.want || changed != (tt.want != tt.ours) {
			t.Errorf("%s: %s, changed %v", tt.name, got, changed)
		}
	}
}

// A supervisor that was born with a poor PATH gets a better one, but nothing that another user could put into it.
func TestEnvironment_AppendsTheDirectoriesOfANewerPath(t *testing.T) {
	dir := t.TempDir()
	makeDir := func(name string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ours, better, shared := makeDir("ours", 0o755), makeDir("better", 0o755), makeDir("shared", 0o777)
	below, link, file := makeDir("shared/below", 0o755), filepath.Join(dir, "link"), filepath.Join(dir, "file")
	if err := errors.Join(os.Symlink(below, link), os.WriteFile(file, nil, 0o755)); err != nil {
		t.Fatal(err)
	}
	env := newEnvironment([]string{"PATH=" + ours, "KUBECONFIG=/gone"}, "run")
	request := api.JoinRequest{Path: strings.Join([]string{better, shared, below, link, file, "relative", "", "/no/such", ours, "/"}, ":")}
	if !env.repair(request, false) {
		t.Error("nothing was taken over")
	}
	if got, want := env.childEnviron(), "PATH="+ours+":"+better+":/"; !slices.Contains(got, want) {
		t.Errorf("%q is not in %q", want, got)
	}
	if env.repair(request, false) {
		t.Error("the same PATH changed something again")
	}
}

func TestEnvironment_ExcludesOurOwnExports(t *testing.T) {
	env := newEnvironment([]string{"A=1", "HOME=/h", "LOCALPORT_DIFF=e30"}, "run")
	env.replace(nil, map[string]string{"A": "2", "B": "3"})
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
			watchSleep(ctx, nil, func() time.Duration { return time.Duration(total.Load()) }, func(d time.Duration) { woken <- d })
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

func TestWatchSleep_ReportsSleepWhenTheClockIsSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var total atomic.Int64
		clockSetCh, woken := make(chan struct{}), make(chan time.Duration, 10)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			watchSleep(ctx, clockSetCh, func() time.Duration { return time.Duration(total.Load()) }, func(d time.Duration) { woken <- d })
		}()
		clockSetCh <- struct{}{} // by a person
		total.Add(int64(time.Hour))
		clockSetCh <- struct{}{}
		synctest.Wait()
		if len(woken) != 1 || <-woken != time.Hour {
			t.Errorf("%d wakes", len(woken))
		}
		total.Add(int64(time.Hour)) // the kernel has not told
		time.Sleep(slowSleepCheckInterval)
		synctest.Wait()
		if len(woken) != 1 {
			t.Errorf("%d wakes after half a minute", len(woken))
		}
		cancel()
		<-done
	})
}
