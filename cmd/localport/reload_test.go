package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/eventlog"
	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/sshd"
)

func TestReload_PreviouslyAllowedChangeAppliesWithoutAPrompt(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	upstream := serve(t, "127.0.0.1:0")
	kept, moved, elsewhere := ports.FreePort(t), ports.FreePort(t), ports.FreePort(t)
	config := tcpConfig("kept", kept, upstream)
	first, second := config+tcpConfig("moved", moved, upstream), config+tcpConfig("moved", elsewhere, upstream)
	root := w.allowedProject(second)
	w.writeFile(root, ".localport.toml", first)
	w.mustRun(root, "allow")
	w.mustRun(root, "start")
	supervisor := w.supervisor(root)
	conn := dial(t, fmt.Sprintf("127.0.0.1:%d", kept))
	conn.exchangeLine("hi")

	replace := func(text string) { // as editors do
		w.writeFile(root, ".new", text)
		if err := os.Rename(filepath.Join(root, ".new"), filepath.Join(root, ".localport.toml")); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		text string
		port int
	}{{second, elsewhere}, {first, moved}, {second, elsewhere}} {
		replace(step.text)
		eventually(t, "the port has moved", func() bool {
			answer, err := ask(fmt.Sprintf("127.0.0.1:%d", step.port), "you")
			return err == nil && answer == "hello you\n"
		})
	}
	if got := conn.exchangeLine("still here"); got != "hello still here\n" {
		t.Errorf("the connection of the unchanged service answered %q", got)
	}
	if w.supervisor(root) != supervisor {
		t.Error("the supervisor was replaced")
	}
	if out := w.mustRun(root, "events"); !strings.Contains(out, "moved") {
		t.Errorf("events do not report the change:\n%s", out)
	}
}

// The trust store becomes readable again without a change of a file of the project or a request to reload.
func TestReload_IsRetriedWhenTheApprovalCanBeReadAgain(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	upstream := serve(t, "127.0.0.1:0")
	first, second := ports.FreePort(t), ports.FreePort(t)
	root := w.allowedProject(tcpConfig("web", second, upstream))
	w.writeFile(root, ".localport.toml", tcpConfig("web", first, upstream))
	w.mustRun(root, "allow")
	w.mustRun(root, "start")
	store := filepath.Join(w.home, "data/localport/trust")
	if err := os.Rename(store, store+".away"); err != nil {
		t.Fatal(err)
	}
	w.writeFile(root, ".localport.toml", tcpConfig("web", second, upstream))
	eventually(t, "the change is pending", func() bool { return w.status(root).Pending != "" })
	if err := os.Rename(store+".away", store); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the change is applied", func() bool { return listens(fmt.Sprintf("127.0.0.1:%d", second)) })
}

// A request for the status compares the files too. It may come before the supervisor is told of a change.
func TestReload_PendingChangeIsAnEventAlsoIfTheStatusWasAskedFirst(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	config := tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0"))
	root := w.allowedProject(config)
	w.mustRun(root, "start")
	for round := range 3 {
		config += "# one more line\n"
		w.writeFile(root, ".localport.toml", config)
		eventually(t, "the status shows the pending change", func() bool { return w.status(root).Pending != "" })
		eventually(t, "an event tells that the change is pending", func() bool { return len(w.events(root, eventlog.ConfigPending)) > round })
		w.mustRun(root, "allow")
	}
}

func TestReload_InvalidChangeChangesNothingAndIsReported(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	port := ports.FreePort(t)
	config := tcpConfig("web", port, serve(t, "127.0.0.1:0"))
	root := w.allowedProject(config)
	sh := w.shell("bash", root)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	conn := dial(t, addr)
	conn.exchangeLine("hi")

	w.writeFile(root, ".localport.toml", config+"# one more line\n")
	eventually(t, "status says that the change is pending", func() bool {
		return strings.Contains(w.status(root).Pending, "localport allow")
	})
	if o := w.localport(root, "daemon", "reload"); o.code != output.ExitNotAllowed {
		t.Errorf("daemon reload: exit %d\n%s", o.code, o.stderr)
	}
	broken := config + "description = \"${SET_NOWHERE}\"\n" // which may be allowed: the supervisor may be started where it is set
	w.writeFile(root, ".localport.toml", broken)
	w.localport(root, "allow")
	eventually(t, "status says what is wrong", func() bool {
		return strings.Contains(w.status(root).Pending, "cannot be used: "+filepath.Join(root, ".localport.toml")+":6:15: ")
	})
	if o := w.localport(root, "daemon", "reload"); o.code != output.ExitInvalid || !strings.Contains(o.stderr, ".localport.toml:6:15") {
		t.Errorf("daemon reload: exit %d\n%s", o.code, o.stderr)
	}
	sh.Run("true")
	if screen := sh.Screen(); !strings.Contains(screen, "SET_NOWHERE") {
		t.Errorf("the prompt did not say what is wrong:\n%s", screen)
	}
	if err := os.Remove(filepath.Join(root, ".localport.toml")); err != nil {
		t.Fatal(err)
	}
	if got := conn.exchangeLine("still here"); got != "hello still here\n" {
		t.Errorf("the connection answered %q", got)
	}
	if answer, err := ask(addr, "you"); answer != "hello you\n" {
		t.Errorf("a new connection: %q, %v", answer, err)
	}
	w.writeFile(root, ".localport.toml", config)
	eventually(t, "nothing is pending any more", func() bool { return w.status(root).Pending == "" })
	if out := w.mustRun(root, "daemon", "reload"); out != "nothing changed\n" {
		t.Errorf("daemon reload printed %q", out)
	}
}

// A command gets all of .env, ssh uses what its config mentions, and another service what its own text mentions.
func TestReload_EditOfDotEnvReconnectsOnlyItsUsers(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	host := sshd.Start(t)
	port := ports.FreePort(t)
	config := commandConfig(t, "program", ports.FreePort(t)) + tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")) +
		strings.ReplaceAll(sshConfig("db", port, host, serve(t, "127.0.0.1:0").port), host.ConfigFile, host.WriteClientConfig("CertificateFile ${CERTIFICATES}/none"))
	config += "health_check = { type = \"none\" }\n"
	root := w.project(config)
	w.writeFile(root, ".env", "CERTIFICATES=/a\nOTHER=1\n")
	w.mustRun(root, "allow")
	w.mustRun(root, "start")
	conn := dial(t, fmt.Sprintf("127.0.0.1:%d", port))
	conn.exchangeLine("hi")
	restarts := func() string {
		text := ""
		for _, svc := range w.status(root).Services {
			text += fmt.Sprintf("%s %s %d; ", svc.Name, svc.State, svc.RestartReasons["asked"])
		}
		return text
	}
	edit := func(text, want string) {
		t.Helper()
		w.writeFile(root, ".env", text)
		w.mustRun(root, "allow")
		w.mustRun(root, "daemon", "reload")
		got := ""
		eventually(t, "the services are healthy again", func() bool { got = restarts(); return strings.Count(got, "healthy") == 3 && got == want })
	}
	edit("CERTIFICATES=/a\n\n# a note\nOTHER=1\n", "program healthy 0; web healthy 0; db healthy 0; ")
	edit("CERTIFICATES=/a\nOTHER=2\n", "program healthy 1; web healthy 0; db healthy 0; ")
	if got := conn.exchangeLine("still here"); got != "hello still here\n" {
		t.Errorf("the connection through ssh answered %q", got)
	}
	edit("CERTIFICATES=/b\nOTHER=2\n", "program healthy 2; web healthy 0; db healthy 1; ")

	sh := w.shell("bash", root)
	w.writeFile(root, ".env", "CERTIFICATES=/c\n")
	const want = `.env changed; still using the previous config until you run "localport allow"`
	if o := w.localport(root, "exec", "--", "true"); !strings.Contains(o.stderr, want) {
		t.Errorf("exec printed %q", o.stderr)
	}
	sh.Run("true")
	if screen := sh.Screen(); !strings.Contains(screen, "localport: .env changed; still using the previous config") {
		t.Errorf("the prompt did not name the file:\n%s", screen)
	}
	eventually(t, "status names the file", func() bool { return w.status(root).Pending == `.env changed; review it, then run "localport allow"` })
}

// A login helper lacks a variable that .env gets while it runs: when it has failed, it is run again with the variable.
func TestReload_DotEnvThatChangesDuringALoginIsUsed(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	begun, end := filepath.Join(w.home, "begun"), filepath.Join(w.home, "end")
	kubeconfig := writeLoginHelper(t, w, fmt.Sprintf(`: >%s
while ! [ -e %s ]; do sleep 0.05; done
[ -n "$LOGIN_TOKEN" ] || { echo "LOGIN_TOKEN is not set" >&2; exit 1; }
echo '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "x"}}'
`, begun, end))
	w.env = append(w.env, "KUBECONFIG="+kubeconfig)
	root := w.allowedProject(fmt.Sprintf("[services.kube]\ntechnology = \"kubectl\"\nlocal_port = %d\nremote_port = 80\nconnection = { resource_name = \"web\" }\n", ports.FreePort(t)))
	w.mustRun(root, "start", "--no-wait")
	eventually(t, "the login helper runs", func() bool { _, err := os.Stat(begun); return err == nil })
	w.writeFile(root, ".env", "LOGIN_TOKEN=1\n")
	w.mustRun(root, "allow")
	w.mustRun(root, "daemon", "reload")
	w.writeFile(w.home, "end", "")
	eventually(t, "the helper succeeds, and the API server is what is missing", func() bool {
		return strings.Contains(w.service(root, "kube").LastError, "connection refused")
	})
}

func TestReload_ChangedHealthCheckKeepsTheTunnel(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	port := ports.FreePort(t)
	config := commandConfig(t, "web", port)
	root := w.allowedProject(config)
	w.mustRun(root, "start")
	children := findChildren(t, w.supervisor(root).PID)
	w.writeFile(root, ".localport.toml", config+"description = \"web\"\nhealth_check = { type = \"command\", command = [\"true\"] }\n")
	w.mustRun(root, "allow")
	eventually(t, "the new check was made", func() bool {
		svc := w.service(root, "web")
		return svc.Health.Check == "command" && svc.Health.Results["ok"] > 0 && svc.State == forwarder.Healthy
	})
	if now := findChildren(t, w.supervisor(root).PID); len(now) != 1 || now[0] != children[0] {
		t.Errorf("the tunnel was %v and is %v", children, now)
	}
	w.writeFile(root, ".localport.toml", config+"health_check = { type = \"command\", command = [\"sh\", \"-c\", \"echo out of cheese >&2; exit 3\"] }\n")
	w.mustRun(root, "allow")
	eventually(t, "the check fails", func() bool { return w.service(root, "web").State == forwarder.Unhealthy })
	if svc := w.service(root, "web"); svc.LastError != "sh: exit status 3: out of cheese" || svc.Restarts != 0 {
		t.Errorf("%q after %d restarts", svc.LastError, svc.Restarts)
	}
}

func TestValidate_ReportsAnInvalidHealthCheck(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	config := tcpConfig("db", ports.FreePort(t), serve(t, "127.0.0.1:0"))
	root := w.project(config + "health_check = { type = \"postgres\", sslmode = \"verify-full\" }\n")
	if o := w.localport(root, "config", "validate"); o.code != output.ExitInvalid || !strings.Contains(o.stderr, `service "db": health_check: sslmode`) {
		t.Errorf("exit %d: %s", o.code, o.stderr)
	}
	w.writeFile(root, ".localport.toml", config+"health_check = { type = \"redis\", tls = true, ca_file = \"/no/such.pem\" }\n")
	if o := w.localport(root, "config", "validate"); o.code != output.ExitInvalid || !strings.Contains(o.stderr, "/no/such.pem") {
		t.Errorf("exit %d: %s", o.code, o.stderr)
	}
}

func TestHealthChecks_CountAsNoConnectionAndKeepNoOnDemandTunnelOpen(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	port := ports.FreePort(t)
	root := w.allowedProject(commandConfig(t, "web", port) + "start = \"on-demand\"\nidle_timeout = \"700ms\"\n" +
		"health_check = { type = \"command\", interval = \"50ms\", command = [\"bash\", \"-c\", " +
		`'exec 3<>/dev/tcp/{host}/{port}; echo check >&3; read -r answer <&3; [ "$answer" = "hello check" ]'` + "] }\n")
	w.mustRun(root, "start")
	client := dial(t, fmt.Sprintf("127.0.0.1:%d", port))
	if answer := client.exchangeLine("you"); answer != "hello you\n" {
		t.Fatalf("the first client: %q", answer)
	}
	eventually(t, "it was checked several times", func() bool { return w.service(root, "web").Health.Results["ok"] >= 3 })
	client.conn.Close()
	eventually(t, "it is idle again", func() bool { return w.service(root, "web").State == forwarder.Idle })
	if c := w.service(root, "web").Connections; c.Total != 1 || c.BytesIn != 4 || c.BytesOut != 10 {
		t.Errorf("one client that sent 4 bytes and received 10 is counted as %+v", c)
	}
}
