package cluster

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// WaitReady returns when n of the pods that a selector chooses are ready, and no other of them is unless it is being
// deleted; where n is 0, when they are gone.
func (c *Cluster) WaitReady(tb testing.TB, namespace, selector string, n int) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), startLimit)
	defer cancel()
	var seen []object
	err := c.watch(ctx, "/api/v1/namespaces/"+namespace+"/pods", selector, func(pods []object) bool {
		seen = pods
		ready := 0
		for _, pod := range pods {
			if pod.is("Ready") && pod.Metadata.DeletionTimestamp == "" {
				ready++
			}
		}
		return ready == n && (n > 0 || len(pods) == 0)
	})
	if err != nil {
		tb.Fatalf("%d ready pods of %s: %v\n%+v", n, selector, err, seen)
	}
}

// Pods are the names of the pods that a selector chooses.
func (c *Cluster) Pods(tb testing.TB, namespace, selector string) []string {
	tb.Helper()
	return strings.Fields(c.Kubectl(tb, "get", "pods", "--namespace="+namespace, "--selector="+selector, "--output=jsonpath={.items[*].metadata.name}"))
}

// KillContainer kills the program in a pod of one container, which crashes and is started again in the same pod.
func (c *Cluster) KillContainer(tb testing.TB, namespace, pod string) {
	tb.Helper()
	id := c.Kubectl(tb, "get", "pod", pod, "--namespace="+namespace, "--output=jsonpath={.status.containerStatuses[0].containerID}")
	if err := c.ctr(tb.Context(), "tasks", "kill", "--signal=SIGKILL", strings.TrimPrefix(id, "containerd://")); err != nil {
		tb.Fatal(err)
	}
}

// Deployment is a number of pods that run the same, and a service in front of them. Its zero value but for the names
// is one pod of Echo, which greets on port 7000, echoes on 7001, and speaks HTTP on 8080, or 80 of the service.
type Deployment struct {
	Name      string // of both, and the value of the label "app"
	Namespace string
	Replicas  int      // 0: 1
	Image     Image    // "": Echo
	Args      []string // of the image's program
	Ports     string   // of the service, in YAML
	Readiness string   // what its pods are ready by, in YAML
	Grace     int      // seconds that a pod has to end; 0: 1
}

// YAML is the deployment and the service.
func (d Deployment) YAML() string {
	args := make([]string, len(d.Args))
	for i, arg := range d.Args {
		args[i] = fmt.Sprintf("%q", arg)
	}
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s, namespace: %[2]s}
spec:
  replicas: %[3]d
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      terminationGracePeriodSeconds: %[8]d
      enableServiceLinks: false
      containers:
      - name: main
        image: %[4]s
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
`, d.Name, d.Namespace, d.Replicas, d.Image, strings.Join(args, ", "), d.Ports, d.Readiness, d.Grace)
}

// complete is the deployment with what it leaves out.
func (d Deployment) complete() Deployment {
	if d.Image == "" {
		d.Image = Echo
	}
	if d.Image == Echo && d.Args == nil {
		d.Args = []string{"-greet", ":7000", "-echo", ":7001", "-http", ":8080"}
	}
	if d.Ports == "" {
		d.Ports = "[{name: greet, port: 7000}, {name: echo, port: 7001}, {name: web, port: 80, targetPort: http}]"
	}
	if d.Readiness == "" {
		d.Readiness = `{exec: {command: ["/echo", "ready", "127.0.0.1:7000"]}, periodSeconds: 1, timeoutSeconds: 5}`
	}
	d.Replicas, d.Grace = max(d.Replicas, 1), max(d.Grace, 1)
	return d
}

// Deploy applies a deployment and returns when its pods are ready.
func (c *Cluster) Deploy(tb testing.TB, d Deployment) {
	tb.Helper()
	d = d.complete()
	c.Apply(tb, d.YAML())
	c.WaitReady(tb, d.Namespace, "app="+d.Name, d.Replicas)
}
