package cluster

import (
	"net"
	"testing"
)

func TestStandin_ForwardsLikeKubelet(t *testing.T) {
	if err := CheckAvailable(); err != nil {
		t.Skip(err)
	}
	t.Setenv("LOCALPORT_TEST_KUBELET", "standin")
	c := Start(t)
	namespace := c.Namespace(t)
	c.Deploy(t, Deployment{Name: "web", Namespace: namespace})
	pod := c.Pods(t, namespace, "app=web")[0]
	address := startPortForward(t, c, namespace, "service/web", "7000")
	if got := exchange(t, address, "and back"); got != "hello "+pod+"\nand back" {
		t.Errorf("received %q", got)
	}

	// The forward goes on when the container is restarted.
	c.KillContainer(t, namespace, pod)
	c.Kubectl(t, "wait", "pod/"+pod, "--namespace="+namespace, "--for=jsonpath={.status.containerStatuses[0].restartCount}=1", "--timeout=50s")
	c.WaitReady(t, namespace, "app=web", 1)
	if got := exchange(t, address, ""); got != "hello "+pod+"\n" {
		t.Errorf("received %q from the restarted container", got)
	}

	// When the pod ends, an open connection ends, and the next one fails.
	open, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	greeting := make([]byte, len("hello "+pod+"\n"))
	if _, err := open.Read(greeting); err != nil {
		t.Fatal(err)
	}
	c.Kubectl(t, "delete", "deployment/web", "--namespace="+namespace)
	c.WaitReady(t, namespace, "app=web", 0)
	if n, err := open.Read(greeting); err == nil {
		t.Errorf("received %q from a pod that was deleted", greeting[:n])
	}
	if got := exchange(t, address, ""); got != "" {
		t.Errorf("received %q from a pod that was deleted, on a new connection", got)
	}
}
