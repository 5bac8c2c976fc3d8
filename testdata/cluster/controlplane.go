package cluster

import (
	"context"
	"fmt"
	"strings"
)

// enabledControllers are the controllers that tests need.
var enabledControllers = []string{
	"deployment-controller", "replicaset-controller", "statefulset-controller", "daemonset-controller", "job-controller",
	"endpoints-controller", "endpointslice-controller", "serviceaccount-controller", "namespace-controller",
	"node-lifecycle-controller", "pod-garbage-collector-controller", "garbage-collector-controller",
}

// startAPIServer starts etcd and the API server, and returns when that is ready.
func (c *Cluster) startAPIServer(ctx context.Context) error {
	// etcd accepts no path in a URL: these are sockets in its working directory, which is the cluster's.
	const client, peer = "unix://etcd:1", "unix://etcd:2"
	etcd := c.newProcess("etcd", "etcd", "--data-dir=etcd", "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=default="+peer)
	if err := etcd.Start(); err != nil {
		return err
	}
	c.APIServer = c.newProcess("kube-apiserver", "kube-apiserver", "--etcd-servers="+client,
		"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", c.apiPort.port),
		"--permit-port-sharing", // with portReservation
		"--endpoint-reconciler-type=none", "--service-cluster-ip-range=10.96.0.0/24",
		"--tls-cert-file="+c.path("server.crt"), "--tls-private-key-file="+c.path("server.key"),
		"--client-ca-file="+c.path("ca.crt"), "--authorization-mode=RBAC", "--allow-privileged",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file="+c.path("server.crt"),
		"--service-account-signing-key-file="+c.path("server.key"),
		// So that a pod need not wait until its namespace has a service account, and mounts no token.
		"--disable-admission-plugins=ServiceAccount",
		"--kubelet-client-certificate="+c.path("admin.crt"), "--kubelet-client-key="+c.path("admin.key"),
		"--kubelet-certificate-authority="+c.path("ca.crt"), "--kubelet-preferred-address-types=Hostname",
		"--enable-priority-and-fairness=false", "--profiling=false")
	c.APIServer.waitReady = c.WaitAPIServerReady
	return c.APIServer.start(ctx)
}

// WaitAPIServerReady returns nil when the API server is ready.
func (c *Cluster) WaitAPIServerReady(ctx context.Context) error {
	return c.waitAnswer(ctx, c.APIServer, c.Server()+"/readyz")
}

// startControllers starts the controller manager and the scheduler.
func (c *Cluster) startControllers(context.Context) error {
	manager := c.newProcess("kube-controller-manager", "kube-controller-manager", "--kubeconfig="+c.Kubeconfig(),
		"--controllers="+strings.Join(enabledControllers, ","), "--leader-elect=false", "--secure-port=0", "--profiling=false",
		// A node is unknown after 6 s without a heartbeat. It sends one a second.
		"--node-monitor-period=1s", "--node-monitor-grace-period=6s",
		"--kube-api-qps=200", "--kube-api-burst=200", "--concurrent-gc-syncs=4")
	scheduler := c.newProcess("kube-scheduler", "kube-scheduler", "--kubeconfig="+c.Kubeconfig(),
		"--leader-elect=false", "--secure-port=0", "--profiling=false", "--kube-api-qps=200", "--kube-api-burst=200")
	if err := manager.Start(); err != nil {
		return err
	}
	return scheduler.Start()
}
