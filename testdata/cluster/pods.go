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

// podLimit bounds the start or end of pods. It takes a second or two on a machine that does nothing else.
const podLimit = time.Minute

// WaitReady returns when exactly n of the pods that a label selector matches are ready, without those that are being deleted; if n is 0,
// when there are no such pods. The test fails after podLimit.
func (c *Cluster) WaitReady(tb testing.TB, namespace, selector string, n int) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), podLimit)
	defer cancel()
	var lastSeen []object
	err := c.watch(ctx, "/api/v1/namespaces/"+namespace+"/pods", selector, func(pods []object) bool {
		lastSeen = pods
		ready := 0
		for _, pod := range pods {
			if pod.hasCondition("Ready") && pod.Metadata.DeletionTimestamp == "" {
				ready++
			}
		}
		return ready == n && (n > 0 || len(pods) == 0)
	})
	if err != nil {
		tb.Fatalf("wait for %d ready pods of %s: %v\n%+v", n, selector, err, lastSeen)
	}
}

// Pods returns the names of the pods that a label selector matches.
func (c *Cluster) Pods(tb testing.TB, namespace, selector string) []string {
	tb.Helper()
	return strings.Fields(c.Kubectl(tb, "get", "pods", "--namespace="+namespace, "--selector="+selector, "--output=jsonpath={.items[*].metadata.name}"))
}

// KillContainer kills the program in a pod with one container. To Kubernetes the container crashes, and is started again in the same pod.
func (c *Cluster) KillContainer(tb testing.TB, namespace, pod string) {
	tb.Helper()
	id := c.Kubectl(tb, "get", "pod", pod, "--namespace="+namespace, "--output=jsonpath={.status.containerStatuses[0].containerID}")
	var err error
	switch runtime, name, _ := strings.Cut(id, "://"); runtime {
	case "containerd":
		err = c.runCtr(tb.Context(), "tasks", "kill", "--signal=SIGKILL", name)
	case "standin":
		var pid int
		if pid, err = strconv.Atoi(name); err == nil {
			err = syscall.Kill(pid, syscall.SIGKILL)
		}
	default:
		err = fmt.Errorf("pod %s has no running container: its container id is %q", pod, id)
	}
	if err != nil {
		tb.Fatal(err)
	}
}
