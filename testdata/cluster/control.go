package cluster

import (
	"context"
	"fmt"
	"path/filepath"
)

// controllers are those that tests have a use for.
const controllers = "deployment-controller,replicaset-controller,statefulset-controller,daemonset-controller,job-controller," +
	"endpointslice-controller,namespace-controller,node-lifecycle-controller,garbage-collector-controller,pod-garbage-collector-controller"

// startControl starts what a cluster is without nodes.
func (c *Cluster) startControl(ctx context.Context) error {
	etcd := fmt.Sprintf("http://127.0.0.1:%d", c.ports.etcd)
	peer := fmt.Sprintf("http://127.0.0.1:%d", c.ports.etcdPeer)
	programs := []*Process{
		c.process("etcd", filepath.Join(c.bin, "etcd"), "--data-dir", filepath.Join(c.Dir, "etcd"), "--unsafe-no-fsync",
			"--listen-client-urls", etcd, "--advertise-client-urls", etcd, "--listen-peer-urls", peer,
			"--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer, "--log-level", "warn"),
		c.process("kube-apiserver", filepath.Join(c.bin, "kube-apiserver"), "--etcd-servers", etcd,
			"--bind-address", "127.0.0.1", "--advertise-address", "127.0.0.1", "--secure-port", fmt.Sprint(c.ports.api),
			"--tls-cert-file", c.pki("server.crt"), "--tls-private-key-file", c.pki("server.key"), "--client-ca-file", c.pki("ca.crt"),
			"--kubelet-client-certificate", c.pki("admin.crt"), "--kubelet-client-key", c.pki("admin.key"),
			"--kubelet-certificate-authority", c.pki("ca.crt"), "--kubelet-preferred-address-types", "Hostname",
			"--service-account-issuer", "https://test", "--service-account-key-file", c.pki("server.crt"),
			"--service-account-signing-key-file", c.pki("server.key"), "--service-cluster-ip-range", "10.96.0.0/24",
			"--endpoint-reconciler-type", "none", "--authorization-mode", "RBAC", "--anonymous-auth=true", "--allow-privileged",
			"--disable-admission-plugins", "ServiceAccount", "--enable-priority-and-fairness=false", "--profiling=false",
			"--watch-cache=true", "--shutdown-delay-duration", "0s"),
		c.process("kube-controller-manager", filepath.Join(c.bin, "kube-controller-manager"), "--kubeconfig", c.Kubeconfig(),
			"--controllers", controllers, "--leader-elect=false", "--bind-address", "127.0.0.1", "--secure-port", "0",
			"--node-monitor-period", "1s", "--node-monitor-grace-period", "10s", "--kube-api-qps", "200", "--kube-api-burst", "200",
			"--concurrent-gc-syncs", "4", "--profiling=false"),
		c.process("kube-scheduler", filepath.Join(c.bin, "kube-scheduler"), "--kubeconfig", c.Kubeconfig(), "--leader-elect=false",
			"--bind-address", "127.0.0.1", "--secure-port", "0", "--profiling=false"),
	}
	c.APIServer = programs[1]
	for _, p := range programs[:2] {
		if err := p.Start(); err != nil {
			return err
		}
	}
	if err := c.Ready(ctx); err != nil {
		return err
	}
	for _, p := range programs[2:] {
		if err := p.Start(); err != nil {
			return err
		}
	}
	return nil
}

// Ready returns when the API server is ready.
func (c *Cluster) Ready(ctx context.Context) error {
	client := c.client()
	defer client.CloseIdleConnections()
	return c.poll(ctx, "the API server is not ready", func() bool {
		_, err := get(ctx, client, c.Server+"/readyz")
		return err == nil
	})
}
