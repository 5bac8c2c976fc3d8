package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/testdata/cluster"
	"github.com/localport-sh/localport/testdata/executable"
	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/sshd"
)

// loginHelperScript is a credential plugin for a kubeconfig. It counts its runs, and prints the credential only after a run in which it
// was interactive.
const loginHelperScript = `#!/bin/sh
echo run >> DIR/runs
case $KUBERNETES_EXEC_INFO in
*'"interactive":true'*) echo "open the browser" >&2; : > DIR/loggedin ;;
esac
if [ ! -e DIR/loggedin ]; then
	echo "the session has expired: run sso login" >&2
	exit 1
fi
cat DIR/credential
`

func TestLogin_ToAClusterIsSharedAndRunsInTheForeground(t *testing.T) {
	c := cluster.Start(t)
	ns := c.Namespace(t)
	c.Deploy(t, cluster.Deployment{Name: "web", Namespace: ns})
	dir := t.TempDir()
	cert, key := c.Credential(t, "plugged", cluster.Identity{User: "plugged", Groups: []string{"system:masters"}})
	read := func(path string) string {
		data, err := os.ReadFile(path)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return string(data)
	}
	put := func(name, text string, mode os.FileMode) {
		if err := executable.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	runs := func() int { return strings.Count(read(filepath.Join(dir, "runs")), "run") }
	put("helper", strings.ReplaceAll(loginHelperScript, "DIR", dir), 0o755)
	put("credential", fmt.Sprintf(`{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {
		"clientCertificateData": %q, "clientKeyData": %q, "expirationTimestamp": %q}}`,
		read(cert), read(key), time.Now().Add(time.Hour).UTC().Format(time.RFC3339)), 0o600)
	config := c.KubeconfigFor(t, "plugged", fmt.Sprintf(
		"{exec: {apiVersion: client.authentication.k8s.io/v1, command: %s, interactiveMode: IfAvailable}}", filepath.Join(dir, "helper")), c.Server())

	w := newTestEnv(t)
	w.env = append(w.env, "KUBECONFIG="+config)
	var text strings.Builder
	var addrs []string
	for _, name := range []string{"one", "two", "three"} {
		port := ports.FreePort(t)
		addrs = append(addrs, fmt.Sprintf("127.0.0.1:%d", port))
		fmt.Fprintf(&text, "[services.%s]\ntechnology = \"kubectl\"\nlocal_port = %d\nremote_port = 7000\nconnection = { namespace = %q, resource_name = \"web\" }\n", name, port, ns)
	}
	root := w.allowedProject(text.String())
	w.mustRun(root, "start", "--no-wait")
	eventually(t, "every service needs attention", func() bool {
		for _, svc := range w.status(root).Services {
			if svc.State != forwarder.NeedsAttention {
				return false
			}
		}
		return true
	})
	one := w.service(root, "one")
	if !strings.Contains(one.LastError, "the session has expired: run sso login") || !strings.Contains(one.Hint, "localport login") {
		t.Errorf("%q, %q", one.LastError, one.Hint)
	}
	if clusters := w.status(root).Clusters; len(clusters) != 1 || clusters[0].Context != "test" || !strings.Contains(clusters[0].Trouble, "has expired") {
		t.Errorf("clusters %+v", clusters)
	}
	if got := runs(); got != 1 {
		t.Errorf("the helper ran %d times for three services", got)
	}
	if r := askPod(addrs[0]); r.err == nil || r.took > 5*time.Second {
		t.Errorf("a client was not reset at once although only a login can help: %+v", r)
	}
	if o := w.localport(root, "restart"); o.code == 0 || runs() != 2 {
		t.Errorf("restart: exit %d, %d runs", o.code, runs())
	}
	o := w.localport(root, "login")
	if o.code != 0 || !strings.Contains(o.stderr, "open the browser") {
		t.Fatalf("login: exit %d\n%s%s", o.code, o.stdout, o.stderr)
	}
	for _, addr := range addrs {
		if r := askPod(addr); r.err != nil {
			t.Error(r.err)
		}
	}
	if got := runs(); got != 3 {
		t.Errorf("the helper ran %d times, want 3: start, restart and login", got)
	}
	status := w.status(root)
	if clusters := status.Clusters; len(clusters) != 1 || clusters[0].Trouble != "" || clusters[0].CredentialsExpire == nil || !clusters[0].CredentialsRenewed {
		t.Errorf("clusters %+v", clusters)
	}
	for _, text := range []string{w.mustRun(root, "status", "--json"), w.mustRun(root, "logs"), read(status.Supervisor.Log), o.stdout, o.stderr} {
		if strings.Contains(text, "PRIVATE KEY") || strings.Contains(text, "BEGIN CERTIFICATE") {
			t.Error("the credential is shown")
		}
	}
	if o := w.localport(root, "login"); o.code != 0 || !strings.Contains(o.stderr, "no service needs a login") {
		t.Errorf("second login: exit %d, %q", o.code, o.stderr)
	}
}

// The hint of a service whose login helper waits for the user names this command, and works as it is.
func TestLogin_SelectsServicesWhoseHintNamesIt(t *testing.T) {
	hint := `finish the login where it asks for it, for example in the browser, or run "localport login"`
	got, err := loginCmd{}.selectNames(api.Status{Services: []api.ServiceStatus{
		{Name: "waiting", State: forwarder.Restarting, Hint: hint},
		{Name: "locked", State: forwarder.NeedsAttention},
		{Name: "down", State: forwarder.Restarting},
		{Name: "stopped", State: forwarder.Stopped, Hint: hint},
		{Name: "elsewhere", State: forwarder.Shared, Hint: hint + " (in ~/shop)"},
		{Name: "refused", State: forwarder.Restarting, Hint: `after a change there, run "localport login refused"`},
	}})
	if want := []string{"waiting", "locked"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, want %q (%v)", got, want, err)
	}
}

func TestStatus_ShowsAnUnhealthyCluster(t *testing.T) {
	c := cluster.Start(t)
	ns := c.Namespace(t)
	c.Deploy(t, cluster.Deployment{Name: "web", Namespace: ns})
	cert, key := c.Credential(t, "brief", cluster.Identity{User: "brief", Groups: []string{"system:masters"}, ExpiresAt: time.Now().Add(20 * time.Minute)})
	config := c.KubeconfigFor(t, "brief", fmt.Sprintf("{client-certificate: %s, client-key: %s}", cert, key), c.Server())
	w := newTestEnv(t)
	w.env = append(w.env, "KUBECONFIG="+config)
	port := ports.FreePort(t)
	service := func(more, connection string) string {
		return fmt.Sprintf("[services.web]\ntechnology = \"kubectl\"\nlocal_port = %d\nremote_port = 7000\n%sconnection = { namespace = %q, %s }\n", port, more, ns, connection)
	}
	lazy := w.allowedProject(service("start = \"on-demand\"\nidle_timeout = \"200ms\"\n", `resource_name = "web", cluster_health = false`))
	w.mustRun(lazy, "start")
	idle := func() bool { return w.service(lazy, "web").State == forwarder.Idle }
	if !idle() {
		t.Errorf("before the first client: %+v", w.service(lazy, "web"))
	}
	if r := askPod(fmt.Sprintf("127.0.0.1:%d", port)); r.err != nil {
		t.Error(r.err)
	}
	eventually(t, "it is idle again", idle)
	if clusters := w.status(lazy).Clusters; len(clusters) != 0 {
		t.Errorf("status shows clusters although cluster_health is off: %+v", clusters)
	}
	w.mustRun(lazy, "stop")
	root := w.allowedProject(service("", `selector = "app=web"`))
	w.mustRun(root, "start")
	if out := w.mustRun(root, "status"); !strings.Contains(out, "cluster test: the credentials expire in 20m") {
		t.Error(out)
	}
	c.Kubelet.Kill()
	eventually(t, "the node is shown as not ready", func() bool {
		clusters := w.status(root).Clusters
		return len(clusters) == 1 && strings.Contains(clusters[0].Trouble, "node localhost is not Ready: Kubelet stopped posting node status")
	})
	c.APIServer.Kill()
	eventually(t, "the server is shown as unreachable", func() bool {
		clusters := w.status(root).Clusters
		return len(clusters) == 1 && strings.Contains(clusters[0].Trouble, "the API server "+c.Server()+" cannot be reached")
	})
	if svc := w.service(root, "web"); svc.State != forwarder.Unhealthy || !strings.Contains(svc.Hint, "cluster-info") {
		t.Errorf("%s %q %q", svc.State, svc.LastError, svc.Hint)
	}
	if err := c.APIServer.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := c.WaitAPIServerReady(ctx); err != nil {
		t.Fatal(err)
	}
	w.mustRun(root, "stop", "web")
	if clusters := w.status(root).Clusters; len(clusters) != 0 {
		t.Errorf("clusters of a stopped service: %+v", clusters)
	}
}

func TestLogin_OfAServiceThatNeedsNoneLeavesItAsItIs(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	host, remote := sshd.Start(t), serve(t, "127.0.0.1:0")
	refused := ports.FreePort(t)
	root := w.allowedProject(sshConfig("box", ports.FreePort(t), host, remote.port) + tcpConfig("web", ports.FreePort(t), remote) +
		tcpConfig("lazy", ports.FreePort(t), remote) + "start = \"on-demand\"\n" +
		fmt.Sprintf("[services.refused]\ntechnology = \"tcp\"\nlocal_port = %d\nremote_port = %d\nconnection.remote_host = \"127.0.0.1\"\n", ports.FreePort(t), refused))
	w.localport(root, "start", "--no-wait")
	eventually(t, "the services are ready", func() bool {
		return w.service(root, "box").State == forwarder.Healthy && w.service(root, "web").State == forwarder.Healthy && w.service(root, "refused").LastError != ""
	})
	before := map[string]api.ServiceStatus{"box": w.service(root, "box"), "web": w.service(root, "web")}
	o := w.localport(root, "login", "box", "web", "lazy", "refused")
	const want = "localport: box needs no login: it is healthy; \"localport restart box\" reconnects it\n" +
		"localport: web needs no login: it is healthy; \"localport restart web\" reconnects it\n" +
		"localport: lazy is idle and needs no login now; its tunnel opens with the first connection\n" +
		"localport: refused needs no login; \"localport why refused\" says why it is not healthy\n"
	if o.code != 0 || o.stderr != want || o.stdout != "" {
		t.Errorf("exit %d\n%s%s", o.code, o.stdout, o.stderr)
	}
	for name, svc := range before {
		if after := w.service(root, name); after.Restarts != svc.Restarts || after.UpSince == nil || !after.UpSince.Equal(*svc.UpSince) {
			t.Errorf("%s was reconnected: %+v", name, after)
		}
	}
	if o := w.localport(root, "restart", "web"); o.code != 0 || w.service(root, "web").UpSince.Equal(*before["web"].UpSince) {
		t.Errorf("restart does not reconnect: exit %d, %s", o.code, o.stderr)
	}
}
