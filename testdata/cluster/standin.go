package cluster

import (
	"context"
	"fmt"
)

// startStandin starts the stand-in for the kubelet, which runs pods as ordinary processes, and returns when it answers.
func (c *Cluster) startStandin(ctx context.Context) error {
	c.Kubelet = c.newProcess("standin", "standin", "--kubeconfig="+c.Kubeconfig(), "--node="+Node, fmt.Sprintf("--port=%d", c.kubeletPort.Number),
		"--image="+string(Echo), "--entrypoint=/echo", "--program="+c.path("echo"), "--dir="+c.path("pods"),
		"--cert="+c.path("server.crt"), "--key="+c.path("server.key"), "--authority="+c.path("ca.crt"))
	c.Kubelet.waitReady = c.waitKubeletReady
	return c.Kubelet.start(ctx)
}
