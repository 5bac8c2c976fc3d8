package cluster

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
)

//go:embed node
var nodeFiles embed.FS

// startContainerd makes the node's namespaces and starts containerd in them. It returns when containerd accepts connections.
func (c *Cluster) startContainerd(ctx context.Context) error {
	if err := c.startNamespaceHolder(ctx); err != nil {
		return err
	}
	plugins := c.path("plugins")
	if err := errors.Join(
		c.writeTemplate("containerd.toml", "containerd.toml", nil),
		c.writeTemplate("network.conflist", "network/10-pod.conflist", nil),
		c.writeTemplate("network.sh", "plugins/network", nil),
		os.Chmod(filepath.Join(plugins, "network"), 0o755),
		os.Symlink(filepath.Join(c.programsDir, "loopback"), filepath.Join(plugins, "loopback")),
	); err != nil {
		return err
	}
	c.Containerd = c.newNodeProcess("containerd", "containerd", "--config="+c.path("containerd.toml"), "--log-level=warn")
	c.Containerd.waitReady = func(ctx context.Context) error {
		socket := fmt.Sprintf("/proc/%d/root/run/containerd/containerd.sock", c.namespaceHolder.Pid())
		return c.poll(ctx, c.Containerd, func() bool {
			conn, err := net.Dial("unix", socket)
			if err == nil {
				conn.Close()
			}
			return err == nil
		})
	}
	return c.Containerd.start(ctx)
}

// startNamespaceHolder makes the node's namespaces and starts their first process. When it ends, the kernel ends every process in them.
func (c *Cluster) startNamespaceHolder(ctx context.Context) error {
	script, err := nodeFiles.ReadFile("node/namespaces.sh")
	if err != nil {
		return err
	}
	readyReader, readyWriter, err := os.Pipe() // the script writes to it when everything is mounted
	if err != nil {
		return err
	}
	defer readyReader.Close()
	c.namespaceHolder = c.newProcess("namespaces", "")
	c.namespaceHolder.argv = append(c.groups.commandPrefix(), "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "/bin/sh", "-c", string(script))
	c.namespaceHolder.isWrapped, c.namespaceHolder.extraFiles = true, []*os.File{readyWriter}
	err = c.namespaceHolder.start(ctx)
	readyWriter.Close()
	if err != nil {
		return err
	}
	if _, err := readyReader.Read(make([]byte, 1)); err != nil { // the script ended without writing
		return errors.New("the namespaces cannot be made")
	}
	return nil
}

// startKubelet starts the kubelet and returns when it answers.
func (c *Cluster) startKubelet(ctx context.Context) error {
	if err := c.writeTemplate("kubelet.yaml", "kubelet.yaml", map[string]any{"Port": c.kubeletPort.Number}); err != nil {
		return err
	}
	c.Kubelet = c.newNodeProcess("kubelet", "kubelet", "--config="+c.path("kubelet.yaml"), "--kubeconfig="+c.Kubeconfig(), "--hostname-override="+Node)
	c.Kubelet.waitReady = c.waitKubeletReady
	return c.Kubelet.start(ctx)
}

// waitKubeletReady returns nil when the kubelet answers.
func (c *Cluster) waitKubeletReady(ctx context.Context) error {
	return c.waitAnswer(ctx, c.Kubelet, fmt.Sprintf("https://127.0.0.1:%d/healthz", c.kubeletPort.Number))
}

// waitNodeReady returns nil when pods can be scheduled on the node.
func (c *Cluster) waitNodeReady(ctx context.Context) error {
	return c.watch(ctx, "/api/v1/nodes", "", func(nodes []object) bool {
		return len(nodes) == 1 && nodes[0].hasCondition("Ready")
	})
}

// newNodeProcess is newProcess for a program that runs in the node's namespaces and control groups.
func (c *Cluster) newNodeProcess(name, program string, args ...string) *Process {
	p := c.newProcess(name, program, args...)
	p.argv, p.isWrapped = c.nodeCommand(p.argv), true
	return p
}

// nodeCommand returns the command line that runs argv in the node's namespaces and control groups.
func (c *Cluster) nodeCommand(argv []string) []string {
	return slices.Concat(c.groups.commandPrefix(), []string{"nsenter", "--target", fmt.Sprint(c.namespaceHolder.Pid()), "--mount", "--pid", "--"}, argv)
}

// runCtr runs ctr, containerd's client.
func (c *Cluster) runCtr(ctx context.Context, args ...string) error {
	argv := c.nodeCommand(append([]string{filepath.Join(c.programsDir, "ctr"), "--namespace=k8s.io"}, args...))
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = c.dir, c.environment()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ctr %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// writeTemplate fills in a template of the directory node, and writes it to a file in the cluster's directory.
func (c *Cluster) writeTemplate(name, path string, values map[string]any) error {
	t, err := template.ParseFS(nodeFiles, "node/"+name)
	if err != nil {
		return err
	}
	all := map[string]any{"Dir": c.dir, "Pause": Pause}
	maps.Copy(all, values)
	var text strings.Builder
	if err := t.Execute(&text, all); err != nil {
		return err
	}
	return c.writeFile(path, text.String())
}
