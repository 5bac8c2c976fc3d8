// Package cluster runs a real Kubernetes for tests: etcd, an API server, controllers, a scheduler, and a kubelet with
// containerd and runc or, where no containers can be run, a stand-in for it. Everything listens on loopback, on ports
// that the kernel chooses, and lives in one temporary directory and in namespaces and control groups of its own: any
// number of clusters run beside each other, and when one ends, or whoever runs it is killed, nothing is left.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/localport-sh/localport/testdata/ports"
)

// Node is the name of a cluster's only node.
const Node = "localhost"

// Cluster is a running cluster.
type Cluster struct {
	// For tests that kill or freeze them. When their Start returns nil, they are ready. Containerd is nil if the kubelet
	// is a stand-in, with which pods end.
	APIServer, Kubelet, Containerd *Process

	dir       string
	programs  string // the directory of Kubernetes' programs and of those from Debian
	standin   error  // why the kubelet is a stand-in, nil if it is real
	authority *authority
	api       *reservation
	kubelet   *ports.Port
	groups    groups
	sweeper   *sweeper
	space     *Process
	processes []*Process // in the order of their first start

	mu     sync.Mutex
	images map[Image]bool // those that are there
}

// startLimit bounds the start of a cluster, which takes four seconds where nothing else runs.
const startLimit = 2 * time.Minute

// Start starts a cluster and stops it with the test. Where none can be run the test is skipped; where another process tests with
// one, it waits for that.
func Start(tb testing.TB) *Cluster {
	tb.Helper()
	if err := CheckAvailable(); err != nil {
		tb.Skip(err)
	}
	done, err := AcquireLock(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(done)
	ctx, cancel := context.WithTimeout(tb.Context(), startLimit)
	defer cancel()
	dir, err := os.MkdirTemp("", "lpk-") //nolint:usetesting // t.TempDir is too long for sockets
	if err != nil {
		tb.Fatal(err)
	}
	c, err := Run(ctx, dir, tb.Output())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Log(c.lastWords())
		}
		if err := c.Stop(); err != nil {
			tb.Error(err)
		}
	})
	return c
}

// Run starts a cluster in an empty directory, which Stop removes, and says on log what it does. After an error
// everything is removed already. The directory's path must be short, for sockets, and its last element unique on the
// machine: control groups are called so.
func Run(ctx context.Context, dir string, log io.Writer) (*Cluster, error) {
	programs, err := CacheDir()
	if err != nil {
		return nil, err
	}
	c := &Cluster{
		dir: dir, programs: programs, standin: checkContainers(), groups: groupsCalled(filepath.Base(dir)), images: map[Image]bool{},
	}
	if c.api, err = reserve(); err != nil {
		return nil, err
	}
	if c.kubelet, err = ports.Reserve(); err != nil {
		return nil, errors.Join(err, c.api.close())
	}
	if c.sweeper, err = startSweeper(dir, c.groups, c.environment()); err != nil {
		c.kubelet.Release()
		return nil, errors.Join(err, c.api.close())
	}
	if c.standin != nil {
		fmt.Fprintf(log, "cluster: the kubelet is a stand-in, its pods are no containers: %v\n", c.standin)
	}
	for _, step := range c.steps() {
		began := time.Now()
		err := step.do(ctx)
		fmt.Fprintf(log, "cluster: %s: %.1fs\n", step.what, time.Since(began).Seconds())
		if err != nil {
			err = fmt.Errorf("start a cluster: %s: %w\n%s", step.what, err, c.lastWords())
			return nil, errors.Join(err, c.Stop())
		}
	}
	return c, nil
}

type step struct {
	what string
	do   func(context.Context) error
}

// steps are how a cluster starts.
func (c *Cluster) steps() []step {
	kubelet := []step{
		{"control groups", c.createGroups},
		{"namespaces and containerd", c.startContainerd},
		{"images", c.loadEcho},
		{"kubelet", c.startKubelet},
	}
	if c.standin != nil {
		kubelet = []step{{"stand-in for a kubelet", c.startStandin}}
	}
	return slices.Concat([]step{
		{"certificates", c.startAuthority},
		{"etcd and the API server", c.startAPI},
		{"controllers and scheduler", c.startControllers},
		{"the program of pods", c.buildEcho},
	}, kubelet, []step{{"the node to be ready", c.awaitNode}})
}

// Stop ends the cluster and returns when nothing of it is left, an error if something is. It may be called more than
// once.
func (c *Cluster) Stop() error {
	// The last first: the space takes all containers along, before anybody could start them again.
	for _, p := range slices.Backward(c.processes) {
		p.Kill()
	}
	err := c.sweeper.sweep()
	c.kubelet.Release()
	return errors.Join(err, c.api.close())
}

// Server is the API server's URL, https://127.0.0.1:PORT.
func (c *Cluster) Server() string { return fmt.Sprintf("https://127.0.0.1:%d", c.api.port) }

// path is that of a file of the cluster.
func (c *Cluster) path(elements ...string) string {
	return filepath.Join(append([]string{c.dir}, elements...)...)
}

// write writes a file of the cluster.
func (c *Cluster) write(name, text string) error {
	path := c.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o600)
}

// lastWords is what the programs said last.
func (c *Cluster) lastWords() string {
	var said strings.Builder
	for _, p := range c.processes {
		fmt.Fprintf(&said, "== %s\n%s\n", p.name, p.tail())
	}
	return said.String()
}
