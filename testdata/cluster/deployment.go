package cluster

import (
	"fmt"
	"strings"
	"testing"
)

// Deployment is a Kubernetes deployment and a service for its pods. The defaults of empty fields depend on the image.
type Deployment struct {
	Name         string // of the deployment and of the service, and the value of the pods' label "app"
	Namespace    string
	Replicas     int      // 0: 1
	Image        Image    // "": Echo
	Args         []string // of the image's program; nil for Echo: greet on port 7000, echo on 7001, HTTP on 8080
	Ports        string   // of the service, in YAML; "": the ports of the image, but 80 for Echo's 8080
	Readiness    string   // the readiness probe, in YAML; "": one that asks the program
	GraceSeconds int      // how long a pod may take to end; 0: 1
}

// imageDefaults has the defaults of a deployment for each image.
var imageDefaults = map[Image]Deployment{
	Echo: {
		Args:      []string{"-greet", ":7000", "-echo", ":7001", "-http", ":8080"},
		Ports:     "[{name: greet, port: 7000}, {name: echo, port: 7001}, {name: http, port: 80, targetPort: http}]",
		Readiness: execProbe("/echo", "ready", "127.0.0.1:7000"),
	},
	Redis:    {Ports: "[{name: redis, port: 6379}]", Readiness: execProbe("redis-cli", "ping")},
	Postgres: {Ports: "[{name: postgres, port: 5432}]", Readiness: execProbe("pg_isready", "--host=127.0.0.1")},
}

// execProbe returns a readiness probe, in YAML, that runs a program in the container.
func execProbe(argv ...string) string {
	return fmt.Sprintf("{exec: {command: [%s]}, periodSeconds: 1, timeoutSeconds: 5}", quoteList(argv))
}

// quoteList returns the elements of a YAML list, quoted.
func quoteList(words []string) string {
	all := make([]string, len(words))
	for i, word := range words {
		all[i] = fmt.Sprintf("%q", word)
	}
	return strings.Join(all, ", ")
}

// withDefaults returns the deployment with the defaults of its image.
func (d Deployment) withDefaults() Deployment {
	if d.Image == "" {
		d.Image = Echo
	}
	defaults := imageDefaults[d.Image]
	if d.Args == nil {
		d.Args = defaults.Args
	}
	if d.Ports == "" {
		d.Ports = defaults.Ports
	}
	if d.Readiness == "" {
		d.Readiness = defaults.Readiness
	}
	d.Replicas, d.GraceSeconds = max(d.Replicas, 1), max(d.GraceSeconds, 1)
	return d
}

// YAML returns the deployment and the service as Kubernetes objects.
func (d Deployment) YAML() string {
	d = d.withDefaults()
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
`, d.Name, d.Namespace, d.Replicas, d.GraceSeconds, d.Image, quoteList(d.Args), d.Readiness, d.Ports)
}

// Deploy applies a deployment and returns when its pods are ready.
func (c *Cluster) Deploy(tb testing.TB, d Deployment) {
	tb.Helper()
	c.EnsureImage(tb, d.withDefaults().Image)
	c.Apply(tb, d.YAML())
	c.WaitReady(tb, d.Namespace, "app="+d.Name, d.withDefaults().Replicas)
}
