package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// space is the namespaces that a node lives in. Its first process takes everything in it along when it ends: containers,
// their mounts and networks.
type space struct {
	first *Process
	end   func()
}

// enter is the beginning of a command line that puts a program into the space.
func (s *space) enter() []string {
	return []string{"nsenter", "--target", fmt.Sprint(s.first.Pid()), "--mount", "--pid", "--cgroup", "--"}
}

// sysctls are what a kubelet wants of the kernel and would set for the whole machine: it is shown that all is as it
// wants it.
var sysctls = map[string]string{
	"vm/overcommit_memory": "1", "vm/panic_on_oom": "0", "kernel/panic": "10", "kernel/panic_on_oops": "1",
	"kernel/keys/root_maxkeys": "1000000", "kernel/keys/root_maxbytes": "25000000",
}

// groupScript makes control groups of the node's own and enters them, and then a namespace in which they are all there is.
const groupScript = `set -e
for at in /sys/fs/cgroup/*/cgroup.procs; do
	at=${at%/cgroup.procs}/NAME
	mkdir -p $at
	for file in cpuset.cpus cpuset.mems; do # a new cpuset has none
		[ ! -e $at/$file ] || cat $at/../$file > $at/$file
	done
	echo $$ > $at/cgroup.procs
done
exec unshare --cgroup --mount --pid --fork --kill-child sh -c "$0"
`

// spaceScript makes the space: control groups and directories of the machine that a node writes to are its own there, the
// directories in memory.
func (c *Cluster) spaceScript() string {
	var b strings.Builder
	b.WriteString(`set -e
mount --make-rslave /
mount --make-rshared /
mount -t proc proc /proc
grep ' cgroup2\? ' /proc/mounts | while read -r _ at kind options _; do
	umount -l $at
	case $kind in
	cgroup2) mount -t cgroup2 none $at ;;
	*) mount -t cgroup -o $(echo $options | sed 's/^rw,//; s/relatime,\?//; s/nosuid,//; s/nodev,//; s/noexec,//; s/^name=/none,name=/') none $at ;;
	esac
done
`)
	for name, value := range sysctls {
		shown := filepath.Join(dir(c.Dir, "sysctl"), strings.ReplaceAll(name, "/", "."))
		_ = os.WriteFile(shown, []byte(value+"\n"), 0o644)
		fmt.Fprintf(&b, "[ ! -e /proc/sys/%s ] || mount --bind %s /proc/sys/%s\n", name, shown, name)
	}
	for _, path := range []string{"/run", "/var/lib", "/var/log"} {
		fmt.Fprintf(&b, "mount -t tmpfs tmpfs %s\n", path)
	}
	fmt.Fprintf(&b, "mkdir -p /run/lock /var/lib/kubelet /var/log/pods\n: > %s\nexec sleep infinity\n", filepath.Join(c.Dir, "space"))
	return b.String()
}

// startNode starts a containerd and a kubelet in namespaces of their own.
func (c *Cluster) startNode(ctx context.Context) error {
	first := c.process("space", "sh", "-c", strings.ReplaceAll(groupScript, "NAME", cgroupOf(c.Dir)), c.spaceScript())
	if err := first.Start(); err != nil {
		return err
	}
	c.space = &space{first: first, end: sync.OnceFunc(first.Kill)}
	err := c.poll(ctx, "the namespaces are not there", func() bool {
		_, err := os.Stat(filepath.Join(c.Dir, "space"))
		return err == nil
	})
	if err != nil {
		return err
	}
	if err := first.findInner(); err != nil {
		return err
	}
	if err := c.nodeFiles(); err != nil {
		return err
	}
	c.Containerd = c.inNode("containerd", "containerd", "--config", filepath.Join(c.Dir, "containerd.toml"))
	if err := c.Containerd.Start(); err != nil {
		return err
	}
	if err := c.poll(ctx, "containerd does not answer", func() bool { return c.ctr(ctx, "version") == nil }); err != nil {
		return err
	}
	if err := c.importPod(ctx); err != nil {
		return err
	}
	c.Kubelet = c.inNode("kubelet", "kubelet", "--config", filepath.Join(c.Dir, "kubelet.yaml"), "--kubeconfig", c.Kubeconfig(),
		"--hostname-override", "localhost")
	return c.Kubelet.Start()
}

// inNode is a program that runs in the space.
func (c *Cluster) inNode(name, program string, args ...string) *Process {
	argv := append(c.space.enter(), filepath.Join(c.bin, program))
	p := c.process(name, append(argv, args...)...)
	p.env, p.inner = c.nodeEnv(), true
	return p
}

func (c *Cluster) nodeEnv() []string {
	return []string{"PATH=" + c.bin + ":" + os.Getenv("PATH"), "LD_LIBRARY_PATH=" + c.bin}
}

// runInNode runs a command in the space to its end.
func (c *Cluster) runInNode(ctx context.Context, argv ...string) (string, error) {
	argv = append(c.space.enter(), argv...)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), c.nodeEnv()...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, out)
	}
	return string(out), nil
}

const containerdSocket = "/run/containerd/containerd.sock"

func (c *Cluster) ctr(ctx context.Context, args ...string) error {
	_, err := c.runInNode(ctx, append([]string{filepath.Join(c.bin, "ctr"), "-a", containerdSocket, "-n", "k8s.io"}, args...)...)
	return err
}

// podImage is the image of pods, and of what holds a pod's namespaces.
const podImage = "localhost/pod:test"

// nodeFiles writes the configuration of containerd, of the pods' network, and of the kubelet.
func (c *Cluster) nodeFiles() error {
	cni := dir(c.Dir, "cni")
	files := map[string]string{
		"containerd.toml": fmt.Sprintf(`version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]
[grpc]
address = %q
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = %q
restrict_oom_score_adj = true
disable_apparmor = true
stream_server_address = "127.0.0.1"
stream_server_port = "%d"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = %q
conf_dir = %q
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
BinaryName = %q
`, containerdSocket, podImage, c.ports.stream, filepath.Join(c.Dir, "plugins"), cni, filepath.Join(c.bin, "runc")),
		// A pod has its own loopback and nothing else: whoever comes to it enters its namespace.
		"cni/10-pod.conflist": `{"cniVersion": "0.4.0", "name": "pod", "plugins": [{"type": "pod"}]}`,
		"kubelet.yaml": fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: 127.0.0.1
port: %d
healthzPort: 0
tlsCertFile: %q
tlsPrivateKeyFile: %q
authentication: {anonymous: {enabled: false}, webhook: {enabled: false}, x509: {clientCAFile: %q}}
authorization: {mode: AlwaysAllow}
containerRuntimeEndpoint: unix://%s
cgroupDriver: cgroupfs
cgroupsPerQOS: false
enforceNodeAllocatable: []
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0
makeIPTablesUtilChains: false
localStorageCapacityIsolation: false
evictionHard: {memory.available: "0%%", nodefs.available: "0%%", imagefs.available: "0%%"}
imageGCHighThresholdPercent: 100
nodeStatusUpdateFrequency: 2s
nodeLeaseDurationSeconds: 10
maxPods: 200
volumePluginDir: /var/lib/kubelet/plugins
logging: {verbosity: 0}
`, c.ports.kubelet, c.pki("server.crt"), c.pki("server.key"), c.pki("ca.crt"), containerdSocket),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(c.Dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// removeCgroups removes the empty groups that runc leaves where its containers are killed from outside. Containers of a
// cluster have the cluster's directory in their groups' name.
func removeCgroups(dir string) error {
	name := cgroupOf(dir)
	var all error
	roots, _ := filepath.Glob("/sys/fs/cgroup/*")
	for _, root := range append(roots, "/sys/fs/cgroup") {
		at := filepath.Join(root, name)
		var folders []string
		_ = filepath.WalkDir(at, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				folders = append(folders, path)
			}
			return nil
		})
		for i := len(folders) - 1; i >= 0; i-- {
			if err := syscall.Rmdir(folders[i]); err != nil && !errors.Is(err, fs.ErrNotExist) {
				all = errors.Join(all, &os.PathError{Op: "rmdir", Path: folders[i], Err: err})
			}
		}
	}
	return all
}

func cgroupOf(dir string) string { return filepath.Base(dir) }
