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

// startContainerd makes the namespaces of a node and starts containerd in them.
func (c *Cluster) startContainerd(ctx context.Context) error {
	if err := c.startSpace(ctx); err != nil {
		return err
	}
	plugins := c.path("plugins")
	if err := errors.Join(
		c.fill("containerd.toml", "containerd.toml", nil),
		c.fill("network.conflist", "network/10-pod.conflist", nil),
		c.fill("network.sh", "plugins/network", nil),
		os.Chmod(filepath.Join(plugins, "network"), 0o755),
		os.Symlink(filepath.Join(c.programs, "loopback"), filepath.Join(plugins, "loopback")),
	); err != nil {
		return err
	}
	c.Containerd = c.inside("containerd", "containerd", "--config="+c.path("containerd.toml"), "--log-level=warn")
	c.Containerd.ready = func(ctx context.Context) error {
		socket := fmt.Sprintf("/proc/%d/root/run/containerd/containerd.sock", c.space.Pid())
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

// startSpace starts the process that the node's namespaces end with.
func (c *Cluster) startSpace(ctx context.Context) error {
	script, err := nodeFiles.ReadFile("node/space.sh")
	if err != nil {
		return err
	}
	finished, finish, err := os.Pipe()
	if err != nil {
		return err
	}
	defer finished.Close()
	c.space = c.process("space", "")
	c.space.argv = append(c.groups.enter(), "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "/bin/sh", "-c", string(script))
	c.space.inner, c.space.files = true, []*os.File{finish}
	err = c.space.start(ctx)
	finish.Close()
	if err != nil {
		return err
	}
	if _, err := finished.Read(make([]byte, 1)); err != nil { // it has ended, and holds the other end no more
		return errors.New("the namespaces cannot be made")
	}
	return nil
}

// startKubelet starts the kubelet.
func (c *Cluster) startKubelet(ctx context.Context) error {
	if err := c.fill("kubelet.yaml", "kubelet.yaml", map[string]any{"Port": c.kubelet.Number}); err != nil {
		return err
	}
	c.Kubelet = c.inside("kubelet", "kubelet", "--config="+c.path("kubelet.yaml"), "--kubeconfig="+c.Kubeconfig(), "--hostname-override="+Node)
	c.Kubelet.ready = c.kubeletReady
	return c.Kubelet.start(ctx)
}

// kubeletReady returns when the kubelet answers.
func (c *Cluster) kubeletReady(ctx context.Context) error {
	return c.awaitAnswer(ctx, c.Kubelet, fmt.Sprintf("https://127.0.0.1:%d/healthz", c.kubelet.Number))
}

// awaitNode returns when pods can be put on the node.
func (c *Cluster) awaitNode(ctx context.Context) error {
	return c.watch(ctx, "/api/v1/nodes", "", func(nodes []object) bool {
		return len(nodes) == 1 && nodes[0].is("Ready")
	})
}

// inside makes a program of the cluster that runs in the node's namespaces and control groups.
func (c *Cluster) inside(name, program string, args ...string) *Process {
	p := c.process(name, program, args...)
	p.argv, p.inner = c.enter(p.argv), true
	return p
}

// enter is a command line that runs another in the node's namespaces and control groups.
func (c *Cluster) enter(argv []string) []string {
	return slices.Concat(c.groups.enter(), []string{"nsenter", "--target", fmt.Sprint(c.space.Pid()), "--mount", "--pid", "--"}, argv)
}

// ctr runs containerd's client.
func (c *Cluster) ctr(ctx context.Context, args ...string) error {
	argv := c.enter(append([]string{filepath.Join(c.programs, "ctr"), "--namespace=k8s.io"}, args...))
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = c.dir, c.environment()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ctr %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// fill writes a file of the cluster from a template in node.
func (c *Cluster) fill(name, to string, values map[string]any) error {
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
	return c.write(to, text.String())
}
