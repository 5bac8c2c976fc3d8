package kubectl

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/testdata/executable"
	"github.com/localport-sh/localport/testdata/fakekubectl"
)

func TestMain(m *testing.M) {
	if fakekubectl.IsKubectl() {
		os.Exit(fakekubectl.Main())
	}
	goleak.VerifyTestMain(m)
}

func writeFile(t *testing.T, path, text string) string {
	t.Helper()
	if err := executable.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// newDriver makes a driver that is closed at the end of the test.
func newDriver(t *testing.T) forwarder.Driver {
	t.Helper()
	driver := New(t.Context(), forwarder.Host{})
	t.Cleanup(func() { _ = driver.Close() })
	return driver
}

func TestDriver_KeepsTheLocationOfTheFirstOpen(t *testing.T) {
	k := fakekubectl.Install(t, fakekubectl.Script{Backend: "127.0.0.1:1"})
	config := writeFile(t, filepath.Join(k.Dir, "config"), "current-context: a\ncontexts:\n- {name: a}\n- {name: b}\n")
	driver, svc := newDriver(t), (project.Service{RemotePort: "5432", Connection: project.Connection{Settings: project.Settings{"resource_name": "postgres", "engine": "kubectl"}}})
	if got, want := driver.Target(svc), "kubectl service/postgres:5432"; got != want {
		t.Errorf("before: %q, want %q", got, want)
	}
	r := forwarder.Run{Dir: t.TempDir(), Env: k.Env(), Log: io.Discard}
	reopen := func(config string) {
		t.Helper()
		opened := r
		opened.Env = append(slices.Clone(r.Env), "KUBECONFIG="+config)
		tunnel, err := driver.Open(t.Context(), svc, opened)
		if err != nil {
			t.Fatal(err)
		}
		_ = tunnel.Close()
	}
	reopen(config)
	writeFile(t, config, "current-context: b\ncontexts:\n- {name: a}\n- {name: b}\n") // kubectl config use-context b
	reopen(config)
	if got, want := driver.Target(svc), "kubectl a/default service/postgres:5432"; got != want {
		t.Errorf("after: %q, want %q", got, want)
	}
	for i, start := range k.Starts(t) {
		if !slices.Contains(start.Args, "a") || !slices.Contains(start.Args, "default") {
			t.Errorf("start %d: %q", i, start.Args)
		}
	}
	reopen(writeFile(t, config+"2", "current-context: c\n"))
	if got, want := driver.Target(svc), "kubectl c service/postgres:5432"; got != want {
		t.Errorf("with another KUBECONFIG: %q, want %q", got, want)
	}
}

// A kubeconfig that is missing when a service starts, or that does not have the context yet, may give it another namespace than "default".
func TestDriver_ResolvesTheNamespaceWhenTheContextExists(t *testing.T) {
	config := filepath.Join(t.TempDir(), "config")
	svc := project.Service{RemotePort: "5432", Connection: project.Connection{Settings: project.Settings{"resource_name": "postgres", "context": "a"}}}
	driver := newDriver(t)
	const user = "clusters: [{name: a, cluster: {server: \"https://127.0.0.1:1\"}}]\nusers: [{name: a, user: {token: x}}]\n"
	for _, tt := range []struct{ kubeconfig, want string }{
		{"", "kubectl a service/postgres:5432"},
		{user + "contexts: [{name: b, context: {cluster: a, user: a}}]\n", "kubectl a service/postgres:5432"},
		{user + "contexts: [{name: a, context: {cluster: a, user: a, namespace: shop}}]\n", "kubectl a/shop service/postgres:5432"},
		{user + "contexts: [{name: a, context: {cluster: a, user: a, namespace: other}}]\n", "kubectl a/shop service/postgres:5432"},
	} {
		if tt.kubeconfig != "" {
			writeFile(t, config, tt.kubeconfig)
		}
		tunnel, err := driver.Open(t.Context(), svc, forwarder.Run{Dir: t.TempDir(), Env: []string{"KUBECONFIG=" + config}, Log: io.Discard})
		if err == nil {
			_ = tunnel.Close()
			t.Error("it has opened")
		}
		if got := driver.Target(svc); got != tt.want {
			t.Errorf("with %q: %q, want %q", tt.kubeconfig, got, tt.want)
		}
	}
}

func TestDriver_UsesThePodsNamespaceInACluster(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
	env := []string{"KUBERNETES_SERVICE_HOST=127.0.0.1", "POD_NAMESPACE=mine"}
	for namespace, want := range map[string]string{"": "kubectl mine service/postgres:5432", "other": "kubectl other service/postgres:5432"} {
		svc := project.Service{RemotePort: "5432", Connection: project.Connection{Settings: project.Settings{"resource_name": "postgres", "namespace": namespace}}}
		driver := newDriver(t)
		if tunnel, err := driver.Open(t.Context(), svc, forwarder.Run{Dir: t.TempDir(), Env: env, Log: io.Discard}); err == nil {
			_ = tunnel.Close()
		}
		if got := driver.Target(svc); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestDriver_RestartUsesTheCurrentContext(t *testing.T) {
	k := fakekubectl.Install(t, fakekubectl.Script{Backend: "127.0.0.1:1"})
	config := writeFile(t, filepath.Join(k.Dir, "config"), "current-context: a\ncontexts:\n- {name: a}\n- {name: b}\n")
	driver, svc := newDriver(t), (project.Service{RemotePort: "5432", Connection: project.Connection{Settings: project.Settings{"resource_name": "postgres", "engine": "kubectl"}}})
	for i, step := range []struct {
		current, want string
		asked         time.Time
	}{{"a", "a", time.Unix(1, 0)}, {"b", "a", time.Unix(1, 0)}, {"b", "b", time.Unix(2, 0)}} {
		writeFile(t, config, "current-context: "+step.current+"\ncontexts:\n- {name: a}\n- {name: b}\n")
		tunnel, err := driver.Open(t.Context(), svc, forwarder.Run{
			Dir: t.TempDir(), Env: append(slices.Clone(k.Env()), "KUBECONFIG="+config), Log: io.Discard, RequestedAt: step.asked,
		})
		if err != nil {
			t.Fatal(err)
		}
		_ = tunnel.Close()
		if got, want := driver.Target(svc), "kubectl "+step.want+"/default service/postgres:5432"; got != want {
			t.Errorf("opening %d: %q, want %q", i, got, want)
		}
	}
}

func TestDriver_ForgetsTheLocationOfAnotherDefinition(t *testing.T) {
	k := fakekubectl.Install(t, fakekubectl.Script{Backend: "127.0.0.1:1"})
	config := writeFile(t, filepath.Join(k.Dir, "config"), "current-context: a\ncontexts:\n- {name: a}\n")
	driver, svc := newDriver(t), (project.Service{Name: "db", RemotePort: "5432", Connection: project.Connection{Settings: project.Settings{"resource_name": "postgres", "engine": "kubectl"}}})
	tunnel, err := driver.Open(t.Context(), svc, forwarder.Run{
		Dir: t.TempDir(), Env: append(slices.Clone(k.Env()), "KUBECONFIG="+config), Log: io.Discard,
	})
	if err != nil {
		t.Fatal(err)
	}
	_ = tunnel.Close()
	svc.Description = "another description"
	if got, want := driver.Target(svc), "kubectl a/default service/postgres:5432"; got != want {
		t.Errorf("with another description: %q, want %q", got, want)
	}
	svc.Connection.Settings["resource_name"] = "mysql"
	if got, want := driver.Target(svc), "kubectl service/mysql:5432"; got != want {
		t.Errorf("with another resource: %q, want %q", got, want)
	}
}

func TestDriver_EngineComesFromConfigOrEnvironment(t *testing.T) {
	k := fakekubectl.Install(t, fakekubectl.Script{Backend: "127.0.0.1:1"})
	for _, tt := range []struct {
		engine, variable, selector string
		reason                     string // "": kubectl ran
	}{
		{"kubectl", "", "", ""},
		{"", "kubectl", "", ""},
		{"native", "kubectl", "", "no cluster is configured"},
		{"", "", "", "no cluster is configured"},
		{"kubectl", "", "app=web", "does not support selectors"},
		{"", "", "app=web", "no cluster is configured"},
	} {
		driver, svc := newDriver(t), (project.Service{RemotePort: "80", Connection: project.Connection{Settings: project.Settings{"resource_name": "web", "selector": tt.selector, "engine": tt.engine}}})
		tunnel, err := driver.Open(t.Context(), svc, forwarder.Run{
			Dir: t.TempDir(), Env: append(slices.Clone(k.Env()), "KUBECONFIG=/no/such/file", programVariable+"="+tt.variable), Log: io.Discard,
		})
		if err == nil {
			_ = tunnel.Close()
		}
		if err == nil != (tt.reason == "") || err != nil && !strings.Contains(err.Error(), tt.reason) {
			t.Errorf("%+v: %v", tt, err)
		}
	}
}

func TestService_HoldsNoMutexWhileAKubeconfigIsRead(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "config")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	s := newService(serviceSpec{kubeconfig: fifo})
	doneCh := make(chan struct{})
	go func() {
		defer close(doneCh)
		s.resolveLocation(forwarder.Run{})
	}()
	writer, err := os.OpenFile(fifo, os.O_WRONLY, 0) // returns when the reader is there
	if err != nil {
		t.Fatal(err)
	}
	if !s.mu.TryLock() {
		t.Error("the mutex is held while the file is read")
	} else {
		s.mu.Unlock()
	}
	writer.Close()
	<-doneCh
}

func TestVariableUse_IsWhatChoosesTheClusterOrTheIdentity(t *testing.T) {
	const cluster = "current-context: a\nclusters:\n- {name: a, cluster: {server: \"https://127.0.0.1:1\"}}\ncontexts:\n- {name: a, context: {cluster: a, user: a}}\nusers:\n- name: a\n"
	dir := t.TempDir()
	token := writeFile(t, filepath.Join(dir, "token"), cluster+"  user: {token: x}\n")
	helper := writeFile(t, filepath.Join(dir, "helper"), cluster+"  user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: aws, interactiveMode: Never}}\n")
	for _, tt := range []struct {
		settings   project.Settings
		kubeconfig string
		used       string
	}{
		{project.Settings{}, token, "KUBECONFIG HTTPS_PROXY"},
		{project.Settings{}, helper, "KUBECONFIG HTTPS_PROXY AWS_PROFILE"},
		{project.Settings{"kubeconfig": helper}, token, "HTTPS_PROXY AWS_PROFILE"},
	} {
		tt.settings["resource_name"] = "web"
		uses := variableUse(project.Service{Connection: project.Connection{Settings: tt.settings}}, dir, []string{"KUBECONFIG=" + tt.kubeconfig})
		var used []string
		for _, name := range []string{"KUBECONFIG", "HTTPS_PROXY", "AWS_PROFILE", "LOG_LEVEL"} {
			if uses(name) {
				used = append(used, name)
			}
		}
		if got := strings.Join(used, " "); got != tt.used {
			t.Errorf("%v with %s: %q are used, want %q", tt.settings, filepath.Base(tt.kubeconfig), got, tt.used)
		}
	}
}

func TestDriver_PanicWhileLoginHelperIsReportedEndsOnlyTheReports(t *testing.T) {
	k := fakekubectl.Install(t, fakekubectl.Script{Backend: "127.0.0.1:1"})
	helper := writeFile(t, filepath.Join(k.Dir, "helper"), `#!/bin/sh
until [ -e "$0.reported" ]; do sleep 0.05; done
echo '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "x"}}'
`)
	if err := os.Chmod(helper, 0o700); err != nil {
		t.Fatal(err)
	}
	config := writeFile(t, filepath.Join(k.Dir, "config"), "current-context: a\nclusters: [{name: a, cluster: {server: \"https://127.0.0.1:1\"}}]\n"+
		"contexts: [{name: a, context: {cluster: a, user: a}}]\nusers: [{name: a, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: "+helper+", interactiveMode: Never}}}]\n")
	svc := project.Service{Name: "db", RemotePort: "5432", Connection: project.Connection{Settings: project.Settings{"resource_name": "db", "engine": "kubectl"}}}
	log, err := os.Create(filepath.Join(k.Dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	tunnel, err := newDriver(t).Open(t.Context(), svc, forwarder.Run{
		Dir: t.TempDir(), Env: append(slices.Clone(k.Env()), "KUBECONFIG="+config), Log: log,
		OnProgress: func(string) {
			writeFile(t, helper+".reported", "")
			panic("the report broke")
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	_ = tunnel.Close()
	text, err := os.ReadFile(log.Name())
	if err != nil || !strings.Contains(string(text), "internal error: the report broke\n") || !strings.Contains(string(text), "WatchLoginHelper") {
		t.Errorf("%v; the log:\n%s", err, text)
	}
}

// kubectl gets the same login as the native engine: a login helper that is offline is run once for all services of a context, and again after
// its backoff or a change of the network; the words are about the login.
func TestDriver_ChecksTheLoginBeforeItRunsKubectl(t *testing.T) {
	k := fakekubectl.Install(t, fakekubectl.Script{Backend: "127.0.0.1:1"})
	helper := writeFile(t, filepath.Join(k.Dir, "helper"), `#!/bin/sh
echo run >> "$0.runs"
[ -e "$0.online" ] || { echo "dial tcp: lookup sso.example.com: no such host" >&2; exit 1; }
echo '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "x"}}'
`)
	if err := os.Chmod(helper, 0o700); err != nil {
		t.Fatal(err)
	}
	config := writeFile(t, filepath.Join(k.Dir, "config"), "current-context: a\nclusters: [{name: a, cluster: {server: \"https://127.0.0.1:1\"}}]\n"+
		"contexts: [{name: a, context: {cluster: a, user: a}}]\nusers: [{name: a, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: "+helper+", interactiveMode: Never}}}]\n")
	driver, dir := newDriver(t), t.TempDir()
	open := func(service string) *forwarder.Failure {
		t.Helper()
		svc := project.Service{Name: service, RemotePort: "5432", Connection: project.Connection{Settings: project.Settings{"resource_name": service, "engine": "kubectl"}}}
		tunnel, err := driver.Open(t.Context(), svc, forwarder.Run{Dir: dir, Env: append(slices.Clone(k.Env()), "KUBECONFIG="+config), Log: io.Discard})
		if err == nil {
			_ = tunnel.Close()
			return nil
		}
		failure, ok := errors.AsType[*forwarder.Failure](err)
		if !ok {
			t.Fatal(err)
		}
		return failure
	}
	countRuns := func() int {
		data, _ := os.ReadFile(helper + ".runs")
		return strings.Count(string(data), "run")
	}
	for _, service := range []string{"db", "web", "db"} {
		if f := open(service); f == nil || f.Class != forwarder.Transient || !strings.Contains(f.Reason, "the login helper "+helper+" failed: exit status 1: dial tcp: lookup sso") {
			t.Errorf("%s, offline: %+v", service, f)
		}
	}
	if runs, starts := countRuns(), len(k.Starts(t)); runs != 1 || starts != 0 {
		t.Errorf("the helper ran %d times, kubectl %d times", runs, starts)
	}
	writeFile(t, helper+".online", "")
	driver.(forwarder.NetworkObserver).OnNetworkChange()
	for _, service := range []string{"db", "web"} {
		if f := open(service); f != nil {
			t.Errorf("%s, online: %+v", service, f)
		}
	}
	if runs, starts := countRuns(), len(k.Starts(t)); runs != 2 || starts != 2 {
		t.Errorf("online, the helper ran %d times, kubectl %d times", runs, starts)
	}
	// A helper that fails for kubectl only is not run again for the next service either.
	k.SetScript(t, fakekubectl.Script{StartError: "dial tcp: lookup sso.example.com: no such host\nUnable to connect to the server: getting credentials: exec: executable x failed with exit code 1"})
	for _, service := range []string{"db", "web"} {
		if f := open(service); f == nil || f.Class != forwarder.Transient || !strings.Contains(f.Reason, "the login helper failed: executable x failed with exit code 1: dial tcp: lookup sso") {
			t.Errorf("%s, when kubectl cannot log in: %+v", service, f)
		}
	}
	if runs, starts := countRuns(), len(k.Starts(t)); runs != 2 || starts != 3 {
		t.Errorf("when kubectl cannot log in, the helper ran %d times, kubectl %d times", runs, starts)
	}
}

// The state of a cluster names the file that keeps new attempts from being made, not what the last session met.
func TestDriver_ClusterNamesTheFileThatHasGone(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }))
	defer server.Close()
	dir := t.TempDir()
	token := writeFile(t, filepath.Join(dir, "token"), "expired")
	config := writeFile(t, filepath.Join(dir, "config"), "current-context: a\nclusters:\n- {name: a, cluster: {server: \""+server.URL+"\"}}\ncontexts:\n- {name: a, context: {cluster: a, user: a}}\nusers:\n- {name: a, user: {tokenFile: "+token+"}}\n")
	driver := newDriver(t)
	svc := project.Service{Name: "db", RemotePort: "5432", Connection: project.Connection{Settings: project.Settings{"resource_name": "db", "cluster_health": true}}}
	trouble := func() string {
		t.Helper()
		tunnel, err := driver.Open(t.Context(), svc, forwarder.Run{Dir: dir, Env: []string{"KUBECONFIG=" + config}, Log: io.Discard})
		if err == nil {
			_ = tunnel.Close()
			t.Fatal("opened")
		}
		info, ok := driver.(forwarder.ClusterReporter).Cluster(svc)
		if !ok || info.Failure == nil || info.Name != "a" || info.Address != server.URL {
			t.Fatalf("%v: the cluster is %+v, %t", err, info, ok)
		}
		return info.Failure.Reason
	}
	if got := trouble(); !strings.Contains(got, "Unauthorized") {
		t.Errorf("with the token: %q", got)
	}
	if err := os.Remove(token); err != nil {
		t.Fatal(err)
	}
	if got := trouble(); got != "the kubeconfig's token file, "+token+", cannot be read: no such file or directory" {
		t.Errorf("without the token: %q", got)
	}
	writeFile(t, token, "another")
	if got := trouble(); !strings.Contains(got, "Unauthorized") || strings.Contains(got, token) {
		t.Errorf("with another token: %q", got)
	}
	if err := os.Remove(config); err != nil {
		t.Fatal(err)
	}
	if got := trouble(); !strings.Contains(got, "no cluster is configured") || !strings.Contains(got, config) {
		t.Errorf("without the kubeconfig: %q", got)
	}
}
