package cluster

import (
	"context"
	"fmt"
)

// startStandin starts a program that plays the kubelet, whose pods are processes beside each other.
func (c *Cluster) startStandin(ctx context.Context) error {
	c.Kubelet = c.process("standin", "standin", "--kubeconfig="+c.Kubeconfig(), "--node="+Node, fmt.Sprintf("--port=%d", c.kubelet.Number),
		"--image="+string(Echo), "--entrypoint=/echo", "--program="+c.path("echo"), "--dir="+c.path("pods"),
		"--cert="+c.path("server.crt"), "--key="+c.path("server.key"), "--authority="+c.path("ca.crt"))
	c.Kubelet.ready = c.kubeletReady
	return c.Kubelet.start(ctx)
}
