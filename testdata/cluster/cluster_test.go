package cluster

import (
	"testing"
	"time"
)

func TestClusterRunsPods(t *testing.T) {
	began := time.Now()
	c := Start(t)
	t.Logf("node ready after %v", time.Since(began))
	ns := c.Namespace(t)
	c.Deploy(t, Deployment{Name: "web", Namespace: ns, Replicas: 2})
	t.Logf("pods ready after %v", time.Since(began))
	if pods := c.Pods(t, ns, "app=web"); len(pods) != 2 {
		t.Errorf("got %q", pods)
	}
	c.Kubectl(t, "get", "pods", "-n", ns, "-o", "wide")
}
