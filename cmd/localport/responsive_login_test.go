package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/testdata/executable"
	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/sshd"
)

// writeLoginHelper writes a kubeconfig with a login helper, a shell script, for an API server at whose port nothing listens.
func writeLoginHelper(t *testing.T, w *testEnv, script string) (kubeconfig string) {
	t.Helper()
	program := filepath.Join(w.home, "login")
	if err := executable.WriteFile(program, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	kubeconfig = filepath.Join(w.home, "kubeconfig")
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: test
contexts: [{name: test, context: {cluster: test, user: test}}]
clusters: [{name: test, cluster: {server: "https://127.0.0.1:%d"}}]
users: [{name: test, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: %s, interactiveMode: IfAvailable}}}]
`, ports.FreePort(t), program)
	if err := os.WriteFile(kubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return kubeconfig
}

// writeHangingLogin writes a kubeconfig whose login helper never ends and ignores SIGTERM.
func writeHangingLogin(t *testing.T, w *testEnv) (kubeconfig string, helper func() lockstate.Process) {
	t.Helper()
	pid := filepath.Join(w.home, "login.pid")
	kubeconfig = writeLoginHelper(t, w, fmt.Sprintf("trap '' TERM\necho $$ >%s.new\nmv %s.new %s\nexec sleep 600\n", pid, pid, pid))
	return kubeconfig, func() (p lockstate.Process) {
		data, _ := os.ReadFile(pid)
		if n, _ := fmt.Sscan(string(data), &p.PID); n == 1 {
			p, _ = lockstate.FindProcess(p.PID)
		}
		return p
	}
}

func TestStatusAndPrompts_AreAnsweredWhileALoginHelperHangs(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	kubeconfig, helper := writeHangingLogin(t, w)
	w.env = append(w.env, "KUBECONFIG="+kubeconfig)
	p := startSlowProject(t, w, fmt.Sprintf("[services.kube]\ntechnology = \"kubectl\"\nlocal_port = %d\nremote_port = 80\n"+
		"connection = { resource_name = \"web\" }\n", ports.FreePort(t)))
	eventually(t, "the login helper runs", func() bool { return helper().IsAlive() })
	hung := helper()
	p.checkCallsDuringLogin(t, "kube", func() bool { return !hung.IsAlive() })

	await, _ := p.startCommand("stop", "kube")
	made := p.callDuring(t, slowOperation{ // nothing but its end says that it was accepted
		accepted: func() bool { return false },
		ended:    func() bool { return false },
	}, concurrentCalls)
	if o := await(); o.code != 0 || made == 0 {
		t.Errorf("stop of a service that waits for its login helper: exit %d, %s", o.code, o.stderr)
	}
	if svc := w.document(p.root).service("kube"); svc.State != "stopped" {
		t.Errorf("kube is %s after stop", svc.State)
	}
	p.stop()
	w.waitExit(hung)
}

func TestStatusAndPrompts_AreAnsweredWhileALoginWaitsForItsUser(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	config, _ := sshServicesByName(t, sshd.Start(t), "box")
	p := startSlowProject(t, w, config)
	eventually(t, "box needs a login", func() bool { return w.document(p.root).service("box").State == "needs_attention" })
	user := w.startOnTerminal(p.root, "login", "box")
	eventually(t, "login asks", func() bool { return strings.Contains(user.screen.String(), "fingerprint is SHA256:") })
	p.checkCallsDuringLogin(t, "box", func() bool { return len(user.done) > 0 })
	user.answer("fingerprint is SHA256:", "\x03")
	if code := <-user.done; code == 0 {
		t.Errorf("the interrupted login succeeded:\n%s", user.screen.String())
	}
	p.stop()
}

// checkCallsDuringLogin makes all calls while the login of a service hangs, without a time limit.
func (p *slowProject) checkCallsDuringLogin(t *testing.T, service string, ended func() bool) {
	t.Helper()
	for made := 0; made < callsPerOperation && !t.Failed(); {
		made += p.callDuring(t, slowOperation{
			ended: ended,
			status: func(d document, _ reply) error {
				if svc := d.service(service); svc.State == "healthy" || svc.State == "failed" || svc.State == "stopped" || !svc.Held {
					return fmt.Errorf("the service whose login hangs is shown as %+v", svc)
				}
				return nil
			},
			variable: map[string]bool{"A_PORT": true, "CHILD_PORT": true, "FAR_PORT": true},
			metric:   fmt.Sprintf("localport_up{project=%q,service=\"far\"} 1", p.root),
		}, callsPerOperation-made)
	}
}
