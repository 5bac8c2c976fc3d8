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
	address := forward(t, c, namespace, "service/web", "7000")
	if got := talk(t, address, "and back"); got != "hello "+pod+"\nand back" {
		t.Errorf("greeted with %q", got)
	}

	// The forward outlives the container.
	c.KillContainer(t, namespace, pod)
	c.Kubectl(t, "wait", "pod/"+pod, "--namespace="+namespace, "--for=jsonpath={.status.containerStatuses[0].restartCount}=1", "--timeout=50s")
	c.WaitReady(t, namespace, "app=web", 1)
	if got := talk(t, address, ""); got != "hello "+pod+"\n" {
		t.Errorf("greeted again with %q", got)
	}

	// An open connection ends with the pod, and so does the next one, and kubectl with it.
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
		t.Errorf("a connection to a pod that is gone says %q", greeting[:n])
	}
	if got := talk(t, address, ""); got != "" {
		t.Errorf("a pod that is gone says %q", got)
	}
}
