package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/localport-sh/localport/cmd/localport/internal/convert/converttest"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/testdata/cluster"
	"github.com/localport-sh/localport/testdata/executable"
)

// moreServices are services beside a deployment "web" that cannot be forwarded, or whose pods do not answer as their ports promise.
const moreServices = `
apiVersion: v1
kind: Service
metadata: {name: web-headless}
spec: {clusterIP: None, selector: {app: web}, ports: [{port: 7000}]}
---
apiVersion: v1
kind: Service
metadata: {name: external}
spec: {type: ExternalName, externalName: example.com, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: manual}
spec: {ports: [{port: 5432}]}
---
apiVersion: v1
kind: Service
metadata: {name: names}
spec: {selector: {app: web}, ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53}]}
---
apiVersion: v1
kind: Service
metadata: {name: cache}
spec: {selector: {app: web}, ports: [{port: 6379, targetPort: 7000, appProtocol: redis}]}
---
apiVersion: v1
kind: Service
metadata: {name: other}
spec: {selector: {app: web}, ports: [{port: 7000}]}
`

// TestInit_FromACluster runs init against one real cluster.
func TestInit_FromACluster(t *testing.T) {
	c := cluster.Start(t)
	ns := c.Namespace(t)
	c.Deploy(t, cluster.Deployment{Name: "web", Namespace: ns})
	c.Apply(t, strings.ReplaceAll(moreServices, "metadata: {", "metadata: {namespace: "+ns+", "))
	newEnv := func(t *testing.T, kubeconfig string) (*testEnv, string) {
		w, dir := newInitEnv(t)
		w.env = append(w.env, "KUBECONFIG="+kubeconfig)
		return w, dir
	}
	t.Run("writes all services without a terminal", func(t *testing.T) {
		w, dir := newEnv(t, c.Kubeconfig())
		o := w.localport(dir, "init", "--from-kubectl", "-n", ns)
		if o.code != 0 {
			t.Fatalf("exit %d: %s", o.code, o.stderr)
		}
		for _, want := range []string{"service external: left out", "service manual: left out: it has no selector", "service web-headless: left out", "service names port 53: left out: UDP"} {
			if !strings.Contains(o.stderr, want) {
				t.Errorf("stderr lacks %q:\n%s", want, o.stderr)
			}
		}
		// Which local ports are free depends on the machine; kubeservices has tests of them.
		text := regexp.MustCompile(`local_port = .*`).ReplaceAllString(readNewConfig(t, dir), "local_port = PORT")
		checkGolden(t, "init-kubectl.toml", strings.ReplaceAll(regexp.MustCompile(`hello web-[a-z0-9-]+`).ReplaceAllString(text, "hello POD"), ns, "shop"))
		w.mustRun(dir, "config", "validate")
		w.mustRun(dir, "allow")
		if out := w.mustRun(dir, "exec", "-s", "web-http", "--", "sh", "-c", "echo $WEB_HTTP_PORT"); strings.TrimSpace(out) == "" {
			t.Error("the port of web-http is not exported")
		}
	})
	t.Run("lists all namespaces but kube-system", func(t *testing.T) {
		w, dir := newEnv(t, c.Kubeconfig())
		c.Apply(t, "apiVersion: v1\nkind: Service\nmetadata: {name: hidden, namespace: kube-system}\nspec: {selector: {a: b}, ports: [{port: 5000}]}\n")
		text := w.mustRun(dir, "init", "--from-kubectl", "--all", "--print")
		if strings.Contains(text, "hidden") || !strings.Contains(text, "[services.web-greet]") || !strings.Contains(text, "all namespaces of the context test") {
			t.Errorf("printed %s", text)
		}
		converttest.Parse(t, text, nil)
	})
	t.Run("explains what it cannot list", func(t *testing.T) {
		nobody := c.User(t, "nobody", ns)
		for _, test := range []struct {
			kubeconfig string
			args       []string
			want       []string
		}{
			{c.Kubeconfig(), []string{"-n", "nope"}, []string{`namespaces "nope" not found`, "hint: kubectl get namespaces --context test"}},
			{c.Kubeconfig(), []string{"--context", "tests"}, []string{`context "tests" does not exist`, `hint: did you mean "test"?`}},
			{nobody, []string{"-n", ns}, []string{"(Forbidden)", "hint: ask the cluster's administrator"}},
			{c.Kubeconfig(), []string{"-n", "default"}, []string{"no service with a TCP port", "service kubernetes: left out", "hint: another namespace"}},
		} {
			w, dir := newEnv(t, test.kubeconfig)
			o := w.localport(dir, append([]string{"init", "--from-kubectl"}, test.args...)...)
			for _, want := range test.want {
				if o.code != 1 || !strings.Contains(o.stderr, want) {
					t.Errorf("%v: exit %d, lacks %q: %s", test.args, o.code, want, o.stderr)
				}
			}
			checkOnlyFiles(t, dir)
		}
	})
	t.Run("lets the user log in and pick", func(t *testing.T) {
		w, dir := newEnv(t, newLoginKubeconfig(t, c))
		if o := w.localport(dir, "init", "--from-kubectl", "-n", ns); o.code != 1 || !strings.Contains(o.stderr, "hint: log in to the cluster at a terminal") {
			t.Errorf("without a terminal: exit %d: %s", o.code, o.stderr)
		}
		conversation := w.converse(dir, "init", "--from-kubectl", "-n", ns)
		conversation.expect("open the browser", "")
		conversation.expect("3  other", "")
		conversation.expect("4  web", "")
		conversation.expect("[all]:", "7\n")
		conversation.expect("7 is not from 1 to 4", "3-4\n")
		code, screen := conversation.end()
		if code != 0 {
			t.Fatalf("exit %d\n%s", code, screen)
		}
		parsed := converttest.Parse(t, readNewConfig(t, dir), nil)
		var names []string
		for _, svc := range parsed.Services {
			names = append(names, svc.Name)
		}
		if got := strings.Join(names, " "); got != "other web-greet web-echo web-http" {
			t.Errorf("wrote %s\n%s", got, screen)
		}
		checkOnlyFiles(t, dir, project.ConfigName)
	})
}

// newLoginKubeconfig returns a kubeconfig whose login helper fails until it has been run at a terminal.
func newLoginKubeconfig(t *testing.T, c *cluster.Cluster) string {
	t.Helper()
	dir := t.TempDir()
	certFile, keyFile := c.Credential(t, "picker", cluster.Identity{User: "picker", Groups: []string{"system:masters"}})
	cert, err := os.ReadFile(certFile)
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"helper": strings.ReplaceAll(loginHelperScript, "DIR", dir),
		"credential": fmt.Sprintf(`{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {
			"clientCertificateData": %q, "clientKeyData": %q, "expirationTimestamp": %q}}`, cert, key, time.Now().Add(time.Hour).UTC().Format(time.RFC3339)),
	} {
		if err := executable.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return c.KubeconfigFor(t, "picker", fmt.Sprintf(
		"{exec: {apiVersion: client.authentication.k8s.io/v1, command: %s, interactiveMode: IfAvailable}}", filepath.Join(dir, "helper")), c.Server())
}
