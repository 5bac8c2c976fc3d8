package cluster

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// podLimit bounds the start or end of pods, which takes a second or two where nothing else runs.
const podLimit = time.Minute

// WaitReady returns when n of the pods that a selector chooses are ready, and no other of them is unless it is being
// deleted; where n is 0, when they are gone.
func (c *Cluster) WaitReady(tb testing.TB, namespace, selector string, n int) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), podLimit)
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
	var err error
	switch runtime, name, _ := strings.Cut(id, "://"); runtime {
	case "containerd":
		err = c.ctr(tb.Context(), "tasks", "kill", "--signal=SIGKILL", name)
	case "standin":
		var pid int
		if pid, err = strconv.Atoi(name); err == nil {
			err = syscall.Kill(pid, syscall.SIGKILL)
		}
	default:
		err = fmt.Errorf("pod %s runs no container: %q", pod, id)
	}
	if err != nil {
		tb.Fatal(err)
	}
}
