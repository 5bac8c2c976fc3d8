package main

import (
	"bufio"
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/testdata/syncbuf"
)

// A name that does not resolve is tried again by itself, when a VPN comes up for example: the wait goes on, and says so long before its end.
func TestStart_SaysWhatItWaitsFor(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject("[services.db]\ntechnology = \"tcp\"\nlocal_port = \"auto\"\nremote_port = 5432\nconnection = { remote_host = \"nowhere.invalid\" }\n")
	for _, args := range [][]string{{"start"}, {"exec", "--wait", "45s", "--", "true"}} {
		cmd := w.command(root, args...)
		cmd.Env = slices.Concat(cmd.Env, []string{"LOCALPORT_LIMIT=2s"})
		stderr, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(stderr).ReadString('\n')
		if err != nil || !strings.HasPrefix(line, "localport: waiting up to ") || !strings.Contains(line, " for db: nowhere.invalid:5432: ") {
			t.Errorf("%q prints first %q, %v", args, line, err)
		}
		if err := cmd.Process.Kill(); err != nil { // it would go on waiting
			t.Errorf("%q: %v", args, err)
		}
		_ = cmd.Wait()
	}
}

func TestWaitReport_RepeatsOnlyChangedReasons(t *testing.T) {
	t.Setenv("LOCALPORT_LIMIT", "2s")
	synctest.Test(t, func(t *testing.T) {
		var printed syncbuf.Buffer
		report := newWaitReport(&printed, []string{"web", "api"}, 30*time.Second)
		doneCh := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			defer close(doneCh)
			report.run(ctx)
		}()
		update := func(after time.Duration, webError string, apiState forwarder.State) {
			report.update(api.Status{Services: []api.ServiceStatus{
				{Name: "web", State: forwarder.Restarting, LastError: webError}, {Name: "api", State: apiState}, {Name: "other", State: forwarder.Starting},
			}})
			time.Sleep(after)
			synctest.Wait()
		}
		update(time.Second, "", forwarder.Starting)
		if got := printed.String(); got != "" {
			t.Errorf("after a second it has printed %q", got)
		}
		update(time.Second, "", forwarder.Starting)
		update(time.Second, "exited (pid 1)", forwarder.Starting)
		update(time.Second, "exited (pid 2)", forwarder.Healthy)
		update(5*time.Second, "exited (pid 3)", forwarder.Healthy)
		update(time.Second, "exited (pid 4)", forwarder.Healthy)
		cancel()
		<-doneCh
		const want = "localport: waiting up to 30s for web, api\nlocalport: waiting up to 30s for web: exited (pid 1)\nlocalport: waiting up to 30s for web: exited (pid 4)\n"
		if got := printed.String(); got != want {
			t.Errorf("printed\n%s, want\n%s", got, want)
		}
	})
}
