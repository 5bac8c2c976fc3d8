package cluster

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAClusterRunsPods(t *testing.T) {
	c := Start(t)
	namespace := c.Namespace(t)
	c.Deploy(t, Deployment{Name: "web", Namespace: namespace, Replicas: 2})
	if pods := c.Pods(t, namespace, "app=web"); len(pods) != 2 {
		t.Errorf("pods %q", pods)
	}
}
