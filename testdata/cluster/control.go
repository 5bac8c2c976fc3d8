package cluster

import (
	"context"
	"fmt"
	"strings"
)

// controllers are those that tests have a use for.
var controllers = []string{
	"deployment-controller", "replicaset-controller", "statefulset-controller", "daemonset-controller", "job-controller",
	"endpoints-controller", "endpointslice-controller", "serviceaccount-controller", "namespace-controller",
	"node-lifecycle-controller", "pod-garbage-collector-controller", "garbage-collector-controller",
}

// startAPI starts etcd and the API server.
func (c *Cluster) startAPI(ctx context.Context) error {
	// etcd takes no path in a URL: these are sockets in its working directory, which is the cluster's.
	const client, peer = "unix://etcd:1", "unix://etcd:2"
	etcd := c.process("etcd", "etcd", "--data-dir=etcd", "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=default="+peer)
	if err := etcd.Start(); err != nil {
		return err
	}
	c.APIServer = c.process("kube-apiserver", "kube-apiserver", "--etcd-servers="+client,
		"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", c.api.port),
		"--permit-port-sharing", // with its reservation
		"--endpoint-reconciler-type=none", "--service-cluster-ip-range=10.96.0.0/24",
		"--tls-cert-file="+c.path("server.crt"), "--tls-private-key-file="+c.path("server.key"),
		"--client-ca-file="+c.path("ca.crt"), "--authorization-mode=RBAC", "--allow-privileged",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file="+c.path("server.crt"),
		"--service-account-signing-key-file="+c.path("server.key"),
		// Without it a pod need not wait until its namespace has a service account, nor mount a token.
		"--disable-admission-plugins=ServiceAccount",
		"--kubelet-client-certificate="+c.path("admin.crt"), "--kubelet-client-key="+c.path("admin.key"),
		"--kubelet-certificate-authority="+c.path("ca.crt"), "--kubelet-preferred-address-types=Hostname",
		"--enable-priority-and-fairness=false", "--profiling=false")
	c.APIServer.ready = c.Ready
	return c.APIServer.start(ctx)
}

// Ready returns when the API server is ready.
func (c *Cluster) Ready(ctx context.Context) error {
	return c.awaitAnswer(ctx, c.APIServer, c.Server()+"/readyz")
}

// startControllers starts what makes pods of deployments, and puts them on the node.
func (c *Cluster) startControllers(context.Context) error {
	manager := c.process("kube-controller-manager", "kube-controller-manager", "--kubeconfig="+c.Kubeconfig(),
		"--controllers="+strings.Join(controllers, ","), "--leader-elect=false", "--secure-port=0", "--profiling=false",
		// A node is gone when it has not been heard of for so long; it is heard of each second.
		"--node-monitor-period=1s", "--node-monitor-grace-period=6s",
		"--kube-api-qps=200", "--kube-api-burst=200", "--concurrent-gc-syncs=4")
	scheduler := c.process("kube-scheduler", "kube-scheduler", "--kubeconfig="+c.Kubeconfig(),
		"--leader-elect=false", "--secure-port=0", "--profiling=false", "--kube-api-qps=200", "--kube-api-burst=200")
	if err := manager.Start(); err != nil {
		return err
	}
	return scheduler.Start()
}
