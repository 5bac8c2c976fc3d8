// Package cluster runs a real Kubernetes for tests: etcd, an API server, controllers, a scheduler, and a kubelet with containerd and
// runc or, where containers cannot be run, a stand-in for the kubelet. Everything listens on loopback, on free ports. Each cluster has its
// own temporary directory, namespaces and control groups, so that several can run at the same time. When a cluster ends, or the
// process that runs it is killed, nothing of it is left.
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

// Node is the name of the only node of a cluster.
const Node = "localhost"

// Cluster is a running cluster.
type Cluster struct {
	// Tests may kill, freeze and start these. Containerd is nil if the kubelet is a stand-in. Pods end with a stand-in.
	APIServer, Kubelet, Containerd *Process

	dir             string
	programsDir     string // the directory that Build makes
	standinReason   error  // why the kubelet is a stand-in; nil if it is not
	authority       *authority
	apiPort         *portReservation
	kubeletPort     *ports.Port
	groups          controlGroups
	cleaner         *cleaner
	namespaceHolder *Process
	processes       []*Process // in the order of their first start

	mu           sync.Mutex     // guards the field that follows
	loadedImages map[Image]bool // besides Echo and Pause
}

// startLimit bounds the start of a cluster. It takes four seconds on a machine that does nothing else.
const startLimit = 2 * time.Minute

// Start starts a cluster, which ends with the test. It skips the test if no cluster can be run. It first waits until no other process
// of this machine tests with a cluster.
func Start(tb testing.TB) *Cluster {
	tb.Helper()
	if err := CheckAvailable(); err != nil {
		tb.Skip(err)
	}
	release, err := AcquireLock(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(release)
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
			tb.Log(c.programLogs())
		}
		if err := c.Stop(); err != nil {
			tb.Error(err)
		}
	})
	return c
}

// Run starts a cluster in an empty directory, prints to log how long each step takes, and returns when pods can run. The caller calls
// Stop, which also removes the directory; if Run returns an error it has removed everything. The path of the directory must be
// short, because sockets are made there, and its last element must be unique on the machine: it is the name of the control groups.
func Run(ctx context.Context, dir string, log io.Writer) (*Cluster, error) {
	programs, err := CacheDir()
	if err != nil {
		return nil, err
	}
	c := &Cluster{
		dir: dir, programsDir: programs, standinReason: checkContainersAvailable(), groups: controlGroupsNamed(filepath.Base(dir)), loadedImages: map[Image]bool{},
	}
	if c.apiPort, err = reservePort(); err != nil {
		return nil, err
	}
	if c.kubeletPort, err = ports.Reserve(); err != nil {
		return nil, errors.Join(err, c.apiPort.close())
	}
	if c.cleaner, err = startCleaner(dir, c.groups, c.environment()); err != nil {
		c.kubeletPort.Release()
		return nil, errors.Join(err, c.apiPort.close())
	}
	if c.standinReason != nil {
		fmt.Fprintf(log, "cluster: using a stand-in for the kubelet, which runs no containers: %v\n", c.standinReason)
	}
	for _, step := range c.startSteps() {
		startTime := time.Now()
		err := step.run(ctx)
		fmt.Fprintf(log, "cluster: %s: %.1fs\n", step.name, time.Since(startTime).Seconds())
		if err != nil {
			err = fmt.Errorf("start a cluster: %s: %w\n%s", step.name, err, c.programLogs())
			return nil, errors.Join(err, c.Stop())
		}
	}
	return c, nil
}

// startStep is one step of the start of a cluster.
type startStep struct {
	name string
	run  func(context.Context) error
}

// startSteps returns the steps in their order.
func (c *Cluster) startSteps() []startStep {
	kubelet := []startStep{
		{"control groups", c.createControlGroups},
		{"namespaces and containerd", c.startContainerd},
		{"images", c.importBaseImages},
		{"kubelet", c.startKubelet},
	}
	if c.standinReason != nil {
		kubelet = []startStep{{"stand-in for a kubelet", c.startStandin}}
	}
	return slices.Concat([]startStep{
		{"certificates", c.makeCertificates},
		{"etcd and the API server", c.startAPIServer},
		{"controllers and scheduler", c.startControllers},
		{"the program of pods", c.buildEcho},
	}, kubelet, []startStep{{"the node to be ready", c.waitNodeReady}})
}

// Stop ends the cluster and removes its files and control groups. Its error says what could not be removed. It may be called more
// than once.
func (c *Cluster) Stop() error {
	// In reverse order: what starts containers ends before the namespaces, with which all containers end.
	for _, p := range slices.Backward(c.processes) {
		p.Kill()
	}
	err := c.cleaner.removeAll()
	c.kubeletPort.Release()
	return errors.Join(err, c.apiPort.close())
}

// Server returns the API server's URL, https://127.0.0.1:PORT.
func (c *Cluster) Server() string { return fmt.Sprintf("https://127.0.0.1:%d", c.apiPort.port) }

// path returns the path of a file in the cluster's directory.
func (c *Cluster) path(elements ...string) string {
	return filepath.Join(append([]string{c.dir}, elements...)...)
}

// writeFile writes a file in the cluster's directory.
func (c *Cluster) writeFile(name, text string) error {
	path := c.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o600)
}

// programLogs returns the end of each program's log.
func (c *Cluster) programLogs() string {
	var logs strings.Builder
	for _, p := range c.processes {
		fmt.Fprintf(&logs, "== %s\n%s\n", p.name, p.lastOutput())
	}
	return logs.String()
}
