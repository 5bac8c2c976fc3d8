package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/testdata/executable"
	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/sshd"
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
		if err != nil || !strings.HasPrefix(line, "localport: waiting up to ") || !strings.Contains(line, " for db: its health check fails: nowhere.invalid:5432: ") {
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
		report := newWaitReport(output.NewWriter(&printed), 30*time.Second)
		stop := report.start()
		update := func(after time.Duration, webError string, apiState forwarder.State) {
			report.update(waitReasons(api.Status{Services: []api.ServiceStatus{
				{Name: "web", State: forwarder.Restarting, LastError: webError}, {Name: "api", State: apiState}, {Name: "other", State: forwarder.Starting},
			}}, []string{"web", "api"}))
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
		stop("web, api ready")
		const want = "localport: waiting up to 30s for web, api: opening the tunnel\nlocalport: waiting up to 30s for web: exited (pid 1)\nlocalport: waiting up to 30s for web: exited (pid 4)\n" +
			"localport: web, api ready after 10s\n"
		if got := printed.String(); got != want {
			t.Errorf("printed\n%s, want\n%s", got, want)
		}
	})
}

func TestWaitReasons_SayWhatEachServiceIsAbout(t *testing.T) {
	for want, svc := range map[string]api.ServiceStatus{
		"":                                 {State: forwarder.Healthy},
		reasonOpening:                      {State: forwarder.Starting},
		reasonChecking:                     {State: forwarder.Starting, UpSince: new(time.Now())},
		"waiting for redis":                {State: forwarder.Starting, LastError: "waiting for redis"},
		"its health check fails: HTTP 503": {State: forwarder.Unhealthy, UpSince: new(time.Now()), LastError: "HTTP 503"},
	} {
		svc.Name = "web"
		reasons := waitReasons(api.Status{Services: []api.ServiceStatus{svc, {Name: "other", State: forwarder.Starting}}}, []string{"web"})
		if len(reasons) == 0 && want != "" || len(reasons) > 0 && reasons[0] != (waitReason{"web", want}) {
			t.Errorf("%s: %+v, want %q", svc.State, reasons, want)
		}
	}
}

// A wait that is quick leaves nothing on the terminal, and a long one a line with its length.
func TestWaitReport_RewritesItsLinesOnATerminal(t *testing.T) {
	t.Setenv("LOCALPORT_LIMIT", "2s")
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			wait time.Duration
			want []string
		}{
			{300 * time.Millisecond, nil},
			{3500 * time.Millisecond, []string{"localport: web, api ready after 3.5s"}},
		} {
			var printed syncbuf.Buffer
			report := newWaitReport(output.NewWriter(&printed), 30*time.Second)
			report.screen = &screenView{out: &printed, size: func() (int, int) { return 80, 24 }, encode: output.NewWriter(&printed).Encode}
			stop := report.start()
			report.update([]waitReason{{"web", reasonOpening}, {"api", reasonChecking}})
			time.Sleep(tt.wait)
			synctest.Wait()
			if shown := drawScreen(printed.String()); len(tt.want) > 0 && !slices.Equal(shown, []string{
				"localport: waiting for web (3s of 30s): opening the tunnel", "localport: waiting for api: checking its health",
			}) {
				t.Errorf("after %v it shows %q", tt.wait, shown)
			}
			stop("web, api ready")
			if shown := drawScreen(printed.String()); !slices.Equal(shown, tt.want) {
				t.Errorf("after %v it leaves %q", tt.wait, shown)
			}
		}
	})
}

// What a person would wait for without a word: a supervisor that takes long to start, a login helper, a ProxyCommand.
func TestProgress_OfAStartingSupervisorAndOfLogins(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	kubeconfig, _ := writeHangingLogin(t, w)
	host := sshd.Start(t)
	proxy := filepath.Join(t.TempDir(), "slow-proxy")
	if err := executable.WriteFile(proxy, []byte("#!/bin/sh\nexec sleep 1000\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	sshConfigFile := host.WriteClientConfig("ProxyCommand " + proxy + " secret-argument")
	root := w.allowedProject(fmt.Sprintf("[services.kube]\ntechnology = \"kubectl\"\nlocal_port = %d\nremote_port = 80\nconnection = { resource_name = \"web\", kubeconfig = %q }\n",
		ports.FreePort(t), kubeconfig) + strings.ReplaceAll(sshConfig("box", ports.FreePort(t), host, 1), host.ConfigFile, sshConfigFile))
	var shown syncbuf.Buffer
	cmd := w.command(root, "start")
	cmd.Env = slices.Concat(cmd.Env, []string{"LOCALPORT_LIMIT=2s"})
	cmd.Stderr = &shown
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	for _, want := range []string{"kube: opening the tunnel: the login helper ", "is running, and may be waiting for you", "box: opening the tunnel: ssh is logging in to ", " through the ProxyCommand slow-proxy\n"} {
		eventually(t, "the pipe shows "+want, func() bool { return strings.Contains(shown.String(), want) })
	}
	if strings.Contains(shown.String(), "secret-argument") {
		t.Errorf("an argument is shown:\n%s", shown.String())
	}
}

// A supervisor that cannot start yet, because another process holds the project's lock, is waited for with a word.
func TestProgress_OfASupervisorThatStartsSlowly(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
	locks, _ := filepath.Glob(filepath.Join(w.home, "state/localport/projects/*/lock"))
	if len(locks) != 1 {
		t.Fatalf("locks: %q", locks)
	}
	file, err := os.Open(locks[0])
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	var shown syncbuf.Buffer
	cmd := w.command(root, "exec", "--", "true")
	cmd.Env = slices.Concat(cmd.Env, []string{"LOCALPORT_LIMIT=2s"})
	cmd.Stderr = &shown
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	const want = "localport: waiting up to 10s for the supervisor: it is starting\n"
	eventually(t, "exec says what it waits for", func() bool { return strings.Contains(shown.String(), want) })
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, shown.String())
	}
}
