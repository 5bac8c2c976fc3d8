package native

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/testdata/cluster"
	"github.com/localport-sh/localport/testdata/ports"
)

// waitCurrentFailure waits until the reason of the tunnel's CurrentFailure contains a text; if the text is empty, until there is no
// failure.
func waitCurrentFailure(t testing.TB, tunnel *tunnel, want string) *forwarder.Failure {
	t.Helper()
	limit := time.After(30 * time.Second)
	for {
		failure := tunnel.CurrentFailure()
		if failure != nil && strings.Contains(failure.Reason, want) || failure == nil && want == "" {
			return failure
		}
		select {
		case <-tunnel.FailureChanged():
		case <-limit:
			t.Fatalf("the failure is %+v, want %q", failure, want)
		}
	}
}

func TestOpen_FailureNamesTheMissingObjectAndTheNextStep(t *testing.T) {
	c := startCluster(t)
	ns := c.Namespace(t)
	c.Deploy(t, cluster.Deployment{Name: "web", Namespace: ns, Replicas: 1})
	pod := c.Pods(t, ns, "app=web")[0]
	c.Apply(t, fmt.Sprintf("{apiVersion: v1, kind: Service, metadata: {name: bare, namespace: %s}, spec: {ports: [{port: 80}]}}", ns))
	c.Apply(t, fmt.Sprintf("{apiVersion: v1, kind: Service, metadata: {name: alias, namespace: %s}, spec: {type: ExternalName, externalName: db.example.com}}", ns))
	c.Apply(t, fmt.Sprintf("{apiVersion: v1, kind: Service, metadata: {name: inside, namespace: %[1]s}, spec: {type: ExternalName, externalName: web.%[1]s.svc.cluster.local}}", ns))
	for _, tt := range []struct {
		target, namespace string
		class             forwarder.Class
		reason, hint      string
	}{
		{"service/none:80", ns, forwarder.Permanent, `Error from server (NotFound): services "none" not found`, "kubectl get services -n " + ns + " --context test"},
		{"pod/none:80", ns, forwarder.Permanent, `pods "none" not found`, "kubectl get pods -n " + ns},
		{"deployment/none:80", ns, forwarder.Permanent, `deployments.apps "none" not found`, "kubectl get deployments"},
		{"service/web:80", "nowhere", forwarder.Permanent, `namespaces "nowhere" not found`, "kubectl get namespaces"},
		{"service/web:81", ns, forwarder.Permanent, "service web does not have a port 81; it has 7000 (greet), 7001 (echo), 80 (http)", "describe service/web"},
		{"service/web:db", ns, forwarder.Permanent, "service web does not have a port named db", "describe service/web"},
		{"service/bare:80", ns, forwarder.Permanent, "service bare has no selector", "get endpointslices -l kubernetes.io/service-name=bare -n " + ns},
		{"service/alias:80", ns, forwarder.Permanent, "service alias is another name of the host db.example.com", `technology = "tcp" and connection = { remote_host = "db.example.com" }`},
		{"service/inside:80", ns, forwarder.Permanent, "service inside is another name of the host web." + ns + ".svc.cluster.local", `set resource_name = "web" and namespace = "` + ns + `"`},
	} {
		f := openExpectingFailure(t, c.Kubeconfig(), specFor(tt.target, tt.namespace))
		if f.Class != tt.class || !strings.Contains(f.Reason, tt.reason) || !strings.Contains(f.Hint, tt.hint) {
			t.Errorf("%s: %+v", tt.target, f)
		}
	}
	bySelector := specFor("", "nowhere")
	bySelector.Target = Target{Selector: "app=web", Port: "7000"}
	if f := openExpectingFailure(t, c.Kubeconfig(), bySelector); f.Class != forwarder.Permanent || !strings.Contains(f.Reason, `namespaces "nowhere" not found`) {
		t.Errorf("a selector in a namespace that does not exist: %+v", f)
	}
	// A port that the pod does not name does not end the tunnel: another pod may name it.
	tunnel := openTunnel(t, c.Kubeconfig(), specFor("pod/"+pod+":db", ns))
	if f := waitCurrentFailure(t, tunnel, "does not have a port named db"); !strings.Contains(f.Hint, "describe pod/"+pod) {
		t.Errorf("%+v", f)
	}
}

func TestTunnel_DescribesPodsThatAreNotReady(t *testing.T) {
	c := startCluster(t)
	ns := c.Namespace(t)
	for _, d := range []cluster.Deployment{
		{Name: "empty"},
		{Name: "crashing", Args: []string{"-exit-after", "1ms"}},
		{Name: "unready", Args: []string{"-greet", ":7009"}}, // the probe asks 7000
		{Name: "imageless", Image: "localhost/none:test", Ports: "[{port: 7000}]", Readiness: "{exec: {command: [/no]}}"},
	} {
		d.Namespace = ns
		c.Apply(t, d.YAML())
	}
	c.Kubectl(t, "scale", "deployment/empty", "-n", ns, "--replicas=0")
	c.WaitReady(t, ns, "app=empty", 0)
	c.Apply(t, fmt.Sprintf(`{apiVersion: v1, kind: Pod, metadata: {name: stuck, namespace: %s}, spec: {nodeSelector: {no: where}, containers: [{name: c, image: x}]}}`, ns))
	for _, tt := range []struct{ target, reason, hint string }{
		{"service/empty:7000", "service/empty has no pods (app=empty); clients wait for one", "get pods -l 'app=empty' -n " + ns},
		{"service/crashing:7000", "CrashLoopBackOff: back-off", "describe pod/crashing-"},
		{"service/unready:7000", "is Running, but not Ready: containers with unready status: [main]", "describe pod/unready-"},
		{"deployment/imageless:7000", "localhost/none:test", "describe pod/imageless-"},
		{"pod/stuck:7000", "pod stuck is Pending: 0/1 nodes are available", "describe pod/stuck"},
	} {
		tunnel := openTunnel(t, c.Kubeconfig(), specFor(tt.target, ns))
		f := waitCurrentFailure(t, tunnel, tt.reason)
		if f.Class != forwarder.Transient || !strings.Contains(f.Hint, tt.hint) {
			t.Errorf("%s: %+v", tt.target, f)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if conn, err := tunnel.Dial(ctx); err == nil {
			_ = conn.Close()
		} else if _, ok := errors.AsType[*forwarder.Failure](err); !ok {
			t.Errorf("%s: Dial failed with %v", tt.target, err)
		}
		cancel()
	}
	// After readyPodWait a running pod is used.
	unready := specFor("deployment/unready:7009", ns)
	if name := readGreeting(t, dial(t, openTunnel(t, c.Kubeconfig(), unready))); !strings.HasPrefix(name, "unready-") {
		t.Errorf("got %q", name)
	}
	// Scaled up from zero pods.
	empty := openTunnel(t, c.Kubeconfig(), specFor("service/empty:7000", ns))
	_ = waitCurrentFailure(t, empty, "has no pods")
	c.Kubectl(t, "scale", "deployment/empty", "-n", ns, "--replicas=1")
	if name := readGreeting(t, dial(t, empty)); !strings.HasPrefix(name, "empty-") {
		t.Errorf("got %q", name)
	}
	_ = waitCurrentFailure(t, empty, "")
}

func TestOpen_FailureOfServersAndContexts(t *testing.T) {
	c := startCluster(t)
	ns := c.Namespace(t)
	closed := fmt.Sprintf("https://127.0.0.1:%d", ports.FreePort(t))
	user := func(name string, who cluster.Identity) string {
		cert, key := c.Credential(t, name, who)
		return fmt.Sprintf("{client-certificate: %s, client-key: %s}", cert, key)
	}
	masters := []string{"system:masters"}
	admin := user("master", cluster.Identity{User: "master", Groups: masters})
	stranger := user("stranger", cluster.Identity{User: "stranger"})
	old := user("old", cluster.Identity{User: "old", Groups: masters, ExpiresAt: time.Now().Add(-time.Minute)})
	other := specFor("service/web:80", ns)
	other.Ref.Location.Context = "staging"
	for _, tt := range []struct {
		name, kubeconfig string
		spec             Spec
		class            forwarder.Class
		reason, hint     string
	}{
		{"refused", c.KubeconfigFor(t, "refused", admin, closed), specFor("service/web:80", ns), forwarder.Transient, "the API server " + closed + " cannot be reached: connect: connection refused", "cluster-info"},
		{"unresolvable", c.KubeconfigFor(t, "unresolvable", admin, "https://no.such.host.invalid:6443"), specFor("service/web:80", ns), forwarder.Transient, "cannot be resolved: no.such.host.invalid", "cluster-info"},
		{"no context", c.Kubeconfig(), other, forwarder.Permanent, `context "staging" does not exist`, "contexts: "},
		{"no kubeconfig", "/no/such/file", specFor("service/web:80", ns), forwarder.NeedsUser, "no cluster is configured (looked in /no/such/file)", "KUBECONFIG"},
		{"token", c.KubeconfigFor(t, "token", "{token: nonsense}", c.Server()), specFor("service/web:80", ns), forwarder.NeedsUser, "You must be logged in to the server", "log in"},
		{"expired", c.KubeconfigFor(t, "expired", old, c.Server()), specFor("service/web:80", ns), forwarder.NeedsUser, "You must be logged in to the server", "log in"},
		{
			"forbidden", c.KubeconfigFor(t, "forbidden", stranger, c.Server()), specFor("service/web:80", ns),
			forwarder.NeedsUser, `services "web" is forbidden: User "stranger" cannot get resource "services" in API group "" in the namespace "` + ns + `"`, "auth can-i --list -n " + ns,
		},
	} {
		f := openExpectingFailure(t, tt.kubeconfig, tt.spec)
		if f.Class != tt.class || !strings.Contains(f.Reason, tt.reason) || !strings.Contains(f.Hint, tt.hint) {
			t.Errorf("%s: %+v", tt.name, f)
		}
	}
}

// A server that moved, as that of kind and minikube does, is followed as soon as the kubeconfig says where it is.
func TestTunnel_FollowsAServerThatMoved(t *testing.T) {
	c := startCluster(t)
	ns := c.Namespace(t)
	c.Deploy(t, cluster.Deployment{Name: "web", Namespace: ns, Replicas: 1})
	cert, key := c.Credential(t, "moving", cluster.Identity{User: "moving", Groups: []string{"system:masters"}})
	user := fmt.Sprintf("{client-certificate: %s, client-key: %s}", cert, key)
	before, stopBefore := startDelayProxy(t, c.Server(), time.Millisecond)
	kubeconfig := c.KubeconfigFor(t, "moving", user, before)
	first := openTunnel(t, kubeconfig, specFor("service/web:greet", ns))
	readGreeting(t, dial(t, first))
	stopBefore()
	_ = waitCurrentFailure(t, first, "cannot be reached")
	after, _ := startDelayProxy(t, c.Server(), time.Millisecond)
	c.KubeconfigFor(t, "moving", user, after)
	<-first.Done()
	failure, ok := errors.AsType[*forwarder.Failure](first.Err())
	if !ok || failure.Class != forwarder.Transient || failure.Reason != "the kubeconfig has changed" {
		t.Errorf("the tunnel ended with %+v", first.Err())
	}
	second := openTunnel(t, kubeconfig, specFor("service/web:greet", ns))
	readGreeting(t, dial(t, second))
}

// A user who may not watch, and gets other credentials, is served with those: at once if that breaks no connection.
func TestTunnel_UsesOtherCredentialsWhereTheUserMayNotWatch(t *testing.T) {
	c := startCluster(t)
	ns := c.Namespace(t)
	c.Deploy(t, cluster.Deployment{Name: "web", Namespace: ns, Replicas: 1})
	const read = `{apiGroups: [""], resources: [services], verbs: [get]}, {apiGroups: [""], resources: [pods], verbs: [get, list]}, {apiGroups: [""], resources: [pods/portforward], verbs: [get]}`
	kubeconfig := c.User(t, "unsighted", ns, read)
	tunnel := openTunnel(t, kubeconfig, specFor("service/web:greet", ns))
	client := dial(t, tunnel)
	readGreeting(t, client)
	if !tunnel.finder.lacksWatch() || tunnel.mayNeedOtherCredentials() {
		t.Errorf("with a client: no watch %v, other credentials %v", tunnel.finder.lacksWatch(), tunnel.mayNeedOtherCredentials())
	}
	cert, key := c.Credential(t, "sighted", cluster.Identity{User: "sighted", Groups: []string{"system:masters"}})
	c.KubeconfigFor(t, "unsighted", fmt.Sprintf("{client-certificate: %s, client-key: %s}", cert, key), c.Server())
	_ = client.Close()
	<-tunnel.Done()
	if failure, ok := errors.AsType[*forwarder.Failure](tunnel.Err()); !ok || failure.Class != forwarder.Transient {
		t.Errorf("the tunnel ended with %+v", tunnel.Err())
	}
	next := openTunnel(t, kubeconfig, specFor("service/web:greet", ns))
	readGreeting(t, dial(t, next))
	if next.finder.lacksWatch() {
		t.Error("the new credentials are not used")
	}
}

// The rights that "kubectl port-forward" needs are enough.
func TestTunnel_NeedsNoMoreRightsThanKubectl(t *testing.T) {
	c := startCluster(t)
	ns := c.Namespace(t)
	c.Deploy(t, cluster.Deployment{Name: "web", Namespace: ns, Replicas: 1})
	pod := c.Pods(t, ns, "app=web")[0]
	const read = `{apiGroups: [""], resources: [services], verbs: [get]}, {apiGroups: [""], resources: [pods], verbs: [get, list]}`
	for name, tt := range map[string]struct{ rules, target string }{
		"service":   {read + `, {apiGroups: [""], resources: [pods/portforward], verbs: [get]}`, "service/web:7000"},
		"spdy":      {read + `, {apiGroups: [""], resources: [pods/portforward], verbs: [create]}`, "service/web:7000"},
		"namedpod":  {`{apiGroups: [""], resources: [pods], verbs: [get]}, {apiGroups: [""], resources: [pods/portforward], verbs: [create, get]}`, "pod/" + pod + ":7000"},
		"onlynamed": {fmt.Sprintf(`{apiGroups: [""], resources: [pods, pods/portforward], resourceNames: [%s], verbs: [get, create]}`, pod), "pod/" + pod + ":7000"},
	} {
		config := c.User(t, name, ns, tt.rules)
		tunnel := openTunnel(t, config, specFor(tt.target, ns))
		for range 3 {
			if got := readGreeting(t, dial(t, tunnel)); got != pod {
				t.Errorf("%s: %q", name, got)
			}
		}
	}
	config := c.User(t, "noforward", ns, read)
	f := openExpectingFailure(t, config, specFor("service/web:7000", ns))
	if f.Class != forwarder.NeedsUser || !strings.Contains(f.Reason, `cannot get resource "pods/portforward"`) {
		t.Errorf("%+v", f)
	}
	// A new pod is found without the right to watch.
	blind := openTunnel(t, c.User(t, "blind", ns, read+`, {apiGroups: [""], resources: [pods/portforward], verbs: [get]}`), specFor("service/web:7000", ns))
	c.Kubectl(t, "delete", "pod", pod, "-n", ns)
	c.WaitReady(t, ns, "app=web", 1)
	if got := readGreeting(t, dial(t, blind)); got == pod || got == "" {
		t.Errorf("after the pod: %q", got)
	}
}
