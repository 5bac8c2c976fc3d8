package cluster

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Kubectl runs the real kubectl as the administrator and returns what it printed.
func (c *Cluster) Kubectl(t testing.TB, args ...string) string {
	t.Helper()
	return c.kubectl(t, "", args...)
}

func (c *Cluster) kubectl(t testing.TB, input string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "kubectl", args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig(), "HOME="+c.Dir)
	cmd.Stdin = strings.NewReader(input)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("kubectl %s: %v\n%s%s", strings.Join(args, " "), err, errs.String(), c.APIServer.tail())
	}
	return out.String()
}

// Apply creates or changes objects.
func (c *Cluster) Apply(t testing.TB, manifest string) {
	t.Helper()
	c.kubectl(t, manifest, "apply", "-f", "-")
}

var namespaces atomic.Int64

// Namespace makes a namespace for the test, which is deleted with it.
func (c *Cluster) Namespace(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test-%d", namespaces.Add(1))
	c.Kubectl(t, "create", "namespace", name)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, "kubectl", "delete", "namespace", name, "--wait=false")
		cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig(), "HOME="+c.Dir)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("delete the namespace: %v\n%s", err, out)
		}
	})
	return name
}

// Deployment is a manifest of pods that run the pods' program with arguments, and of a service in front of them.
type Deployment struct {
	Name      string // of both, and the value of the label "app"
	Namespace string
	Replicas  int
	Args      []string // nil: greet on 7000, echo on 7001 and HTTP on 8080
	Image     string   // empty: the pods' program
	Ports     string   // of the service, in YAML; empty: greet, echo and http, the last on 80
	Probe     string   // a readiness probe, in YAML; empty: the pods' program asks whether port 7000 answers
	Grace     int      // seconds; 0: 1
}

// String is the manifest.
func (d Deployment) String() string {
	args := d.Args
	if args == nil {
		args = []string{"-greet", ":7000", "-echo", ":7001", "-http", ":8080"}
	}
	quoted := make([]string, len(args))
	for i, arg := range args {
		quoted[i] = fmt.Sprintf("%q", arg)
	}
	image, ports, probe, grace := d.Image, d.Ports, d.Probe, d.Grace
	if image == "" {
		image = podImage
	}
	if ports == "" {
		ports = "[{name: greet, port: 7000}, {name: echo, port: 7001}, {name: web, port: 80, targetPort: http}]"
	}
	if probe == "" {
		probe = `{exec: {command: ["/pod", "ready", "127.0.0.1:7000"]}, periodSeconds: 1, timeoutSeconds: 5}`
	}
	if grace == 0 {
		grace = 1
	}
	return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s, namespace: %[2]s}
spec:
  replicas: %[3]d
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      terminationGracePeriodSeconds: %[8]d
      automountServiceAccountToken: false
      enableServiceLinks: false
      containers:
      - name: main
        image: %[4]s
        imagePullPolicy: Never
        args: [%[5]s]
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: %[7]s
---
apiVersion: v1
kind: Service
metadata: {name: %[1]s, namespace: %[2]s}
spec:
  selector: {app: %[1]s}
  ports: %[6]s
`, d.Name, d.Namespace, d.Replicas, image, strings.Join(quoted, ", "), ports, probe, grace)
}

// Deploy applies a deployment and returns when its pods are ready.
func (c *Cluster) Deploy(t testing.TB, d Deployment) {
	t.Helper()
	c.Apply(t, d.String())
	c.WaitReady(t, d.Namespace, "app="+d.Name)
}

// WaitReady returns when a deployment's pods are rolled out and ready.
func (c *Cluster) WaitReady(t testing.TB, namespace, selector string) {
	t.Helper()
	name := strings.TrimPrefix(selector, "app=")
	c.Kubectl(t, "rollout", "status", "deployment/"+name, "-n", namespace, "--timeout=50s")
}

// User makes a user who may do only what the rules of a role in the namespace allow, in YAML, and returns a kubeconfig.
func (c *Cluster) User(t testing.TB, name, namespace, rules string) (kubeconfig string) {
	t.Helper()
	if err := c.auth.sign(c.pki(name), identity{name: name}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(c.Dir, name+".kubeconfig")
	if err := c.kubeconfig(path, c.pki(name)); err != nil {
		t.Fatal(err)
	}
	if rules != "" {
		c.Apply(t, fmt.Sprintf(`apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: %[1]s, namespace: %[2]s}
rules: %[3]s
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: %[1]s, namespace: %[2]s}
subjects: [{kind: User, name: %[1]s, apiGroup: rbac.authorization.k8s.io}]
roleRef: {kind: Role, name: %[1]s, apiGroup: rbac.authorization.k8s.io}
`, name, namespace, rules))
	}
	return path
}

// Credential makes a certificate for a user of a group until a time, and returns the files of it and its key.
func (c *Cluster) Credential(t testing.TB, name, group string, until time.Time) (certFile, keyFile string) {
	t.Helper()
	if err := c.auth.sign(c.pki(name), identity{name: name, group: group, until: until}); err != nil {
		t.Fatal(err)
	}
	return c.pki(name + ".crt"), c.pki(name + ".key")
}

// KubeconfigWith writes a kubeconfig with a user in YAML, such as {exec: {…}}, for a server: the cluster's own if it is
// empty.
func (c *Cluster) KubeconfigWith(t testing.TB, name, user, server string) string {
	t.Helper()
	path := filepath.Join(c.Dir, name+".kubeconfig")
	if err := c.kubeconfigAs(path, user); err != nil {
		t.Fatal(err)
	}
	if server != "" {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, bytes.ReplaceAll(data, []byte(c.Server), []byte(server)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// KillContainer kills a pod's program, so that the pod's container crashes.
func (c *Cluster) KillContainer(t testing.TB, namespace, pod string) {
	t.Helper()
	id := c.Kubectl(t, "get", "pod", pod, "-n", namespace, "-o", "jsonpath={.status.containerStatuses[0].containerID}")
	id = strings.TrimPrefix(id, "containerd://")
	if err := c.ctr(t.Context(), "tasks", "kill", "--signal", "SIGKILL", id); err != nil {
		t.Fatal(err)
	}
}

// Pods are the names of the pods with a label.
func (c *Cluster) Pods(t testing.TB, namespace, selector string) []string {
	t.Helper()
	return strings.Fields(c.Kubectl(t, "get", "pods", "-n", namespace, "-l", selector, "-o", "jsonpath={.items[*].metadata.name}"))
}
