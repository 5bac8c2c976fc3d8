package cluster

import (
	"fmt"
	"strings"
	"testing"
)

// Deployment is a number of pods that run the same, and a service in front of them. What is not said depends on the
// image.
type Deployment struct {
	Name      string // of both, and the value of the label "app"
	Namespace string
	Replicas  int      // 0: 1
	Image     Image    // "": Echo
	Args      []string // of the image's program; nil, Echo: greet on 7000, echo on 7001, speak HTTP on 8080
	Ports     string   // of the service, in YAML; "": those that the image listens on, and Echo's 8080 as 80
	Readiness string   // the readiness probe, in YAML; "": the program answers
	Grace     int      // seconds that a pod has to end; 0: 1
}

// defaults are what a deployment of an image does not say.
var defaults = map[Image]Deployment{
	Echo: {
		Args:      []string{"-greet", ":7000", "-echo", ":7001", "-http", ":8080"},
		Ports:     "[{name: greet, port: 7000}, {name: echo, port: 7001}, {name: http, port: 80, targetPort: http}]",
		Readiness: probe("/echo", "ready", "127.0.0.1:7000"),
	},
	Redis:    {Ports: "[{name: redis, port: 6379}]", Readiness: probe("redis-cli", "ping")},
	Postgres: {Ports: "[{name: postgres, port: 5432}]", Readiness: probe("pg_isready", "--host=127.0.0.1")},
}

// probe is a readiness probe that runs a program in the container.
func probe(argv ...string) string {
	return fmt.Sprintf("{exec: {command: [%s]}, periodSeconds: 1, timeoutSeconds: 5}", quoted(argv))
}

// quoted is a list's content in YAML.
func quoted(words []string) string {
	all := make([]string, len(words))
	for i, word := range words {
		all[i] = fmt.Sprintf("%q", word)
	}
	return strings.Join(all, ", ")
}

// complete is the deployment with all that it does not say.
func (d Deployment) complete() Deployment {
	if d.Image == "" {
		d.Image = Echo
	}
	usual := defaults[d.Image]
	if d.Args == nil {
		d.Args = usual.Args
	}
	if d.Ports == "" {
		d.Ports = usual.Ports
	}
	if d.Readiness == "" {
		d.Readiness = usual.Readiness
	}
	d.Replicas, d.Grace = max(d.Replicas, 1), max(d.Grace, 1)
	return d
}

// YAML is the deployment and the service.
func (d Deployment) YAML() string {
	d = d.complete()
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
      terminationGracePeriodSeconds: %[4]d
      enableServiceLinks: false
      containers:
      - name: main
        image: %[5]s
        args: [%[6]s]
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: %[7]s
---
apiVersion: v1
kind: Service
metadata: {name: %[1]s, namespace: %[2]s}
spec:
  selector: {app: %[1]s}
  ports: %[8]s
`, d.Name, d.Namespace, d.Replicas, d.Grace, d.Image, quoted(d.Args), d.Readiness, d.Ports)
}

// Deploy applies a deployment and returns when its pods are ready.
func (c *Cluster) Deploy(tb testing.TB, d Deployment) {
	tb.Helper()
	c.Image(tb, d.complete().Image)
	c.Apply(tb, d.YAML())
	c.WaitReady(tb, d.Namespace, "app="+d.Name, d.complete().Replicas)
}
