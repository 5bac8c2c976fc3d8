// Package cluster runs a real Kubernetes for a test: etcd, an API server, controllers, a scheduler, and a kubelet with
// containerd and runc, whose pods have network namespaces of their own. Everything listens on loopback, on ports that the
// kernel chooses, and lives in one temporary directory and in namespaces that end with the process.
package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Cluster is a running cluster of one node, which is called "localhost".
type Cluster struct {
	Dir    string
	Server string // the API server's URL

	// The processes, for tests that kill or freeze them.
	APIServer, Kubelet, Containerd *Process

	bin   string
	auth  *authority
	space *space
	ports struct{ etcd, etcdPeer, api, kubelet, stream int }
	all   []*Process
	log   io.Writer
}

// startLimit bounds the start of a cluster, which takes some six seconds on a quiet machine.
const startLimit = time.Minute

// Start starts a cluster and stops it with the test. Where none can be run the test is skipped.
func Start(t testing.TB) *Cluster {
	t.Helper()
	if err := Possible(); err != nil {
		t.Skip(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	// Not t.TempDir: its path is long, and sockets have short ones.
	dir, err := os.MkdirTemp("", "lpk")
	if err != nil {
		t.Fatal(err)
	}
	c, err := Run(ctx, dir, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			c.lastWords(t)
		}
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// Run starts a cluster in a directory, which Stop removes. Nothing is left after an error.
func Run(ctx context.Context, dir string, log io.Writer) (*Cluster, error) {
	c := &Cluster{Dir: dir, log: log}
	if err := c.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start a cluster: %w", err), c.Stop())
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context) (err error) {
	if c.bin, err = Cache(); err != nil {
		return err
	}
	for _, port := range []*int{&c.ports.etcd, &c.ports.etcdPeer, &c.ports.api, &c.ports.kubelet, &c.ports.stream} {
		if *port, err = freePort(); err != nil {
			return err
		}
	}
	c.Server = fmt.Sprintf("https://127.0.0.1:%d", c.ports.api)
	if c.auth, err = newAuthority(filepath.Join(dir(c.Dir, "pki"), "ca")); err != nil {
		return err
	}
	if err := c.identities(); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{c.startControl, c.startNode, c.await} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func dir(parts ...string) string {
	path := filepath.Join(parts...)
	_ = os.MkdirAll(path, 0o755) // what is put there tells
	return path
}

func freePort() (int, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// Kubeconfig is the path of an administrator's kubeconfig.
func (c *Cluster) Kubeconfig() string { return filepath.Join(c.Dir, "admin.kubeconfig") }

// Stop ends the cluster and removes all of it.
func (c *Cluster) Stop() error {
	// The node first: its pods must not be left to nobody. It ends with its namespaces, all at once.
	if c.space != nil {
		c.space.end()
	}
	for i := len(c.all) - 1; i >= 0; i-- {
		c.all[i].Kill()
	}
	return errors.Join(removeCgroups(c.Dir), os.RemoveAll(c.Dir))
}

// await returns when the node is ready.
func (c *Cluster) await(ctx context.Context) error {
	client := c.client()
	defer client.CloseIdleConnections()
	return c.poll(ctx, "the node is not ready", func() bool {
		body, err := get(ctx, client, c.Server+"/api/v1/nodes/localhost")
		return err == nil && strings.Contains(body, `"reason":"KubeletReady"`)
	})
}

// poll asks until it is so.
func (c *Cluster) poll(ctx context.Context, not string, so func() bool) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w\n%s", not, ctx.Err(), c.ends())
		case <-tick.C:
		}
		for _, p := range c.all {
			if p.died() {
				return fmt.Errorf("%s: %s ended\n%s", not, p.Name, p.tail())
			}
		}
	}
	return nil
}

func (c *Cluster) ends() string {
	var b strings.Builder
	for _, p := range c.all {
		fmt.Fprintf(&b, "== %s\n%s\n", p.Name, p.tail())
	}
	return b.String()
}

func (c *Cluster) lastWords(t testing.TB) { t.Log(c.ends()) }

// client speaks to the API server as an administrator.
func (c *Cluster) client() *http.Client {
	roots := x509.NewCertPool()
	roots.AddCert(c.auth.cert)
	pair, _ := tls.LoadX509KeyPair(c.pki("admin.crt"), c.pki("admin.key"))
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}}}
}

func get(ctx context.Context, client *http.Client, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return string(body), err
}
