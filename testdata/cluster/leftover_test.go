package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/localport-sh/localport/lockstate"
)

// roleVariable makes TestHelper_HangsWithCluster start a cluster and hang, in a process that TestCluster_KilledTestLeavesNothing starts.
const roleVariable = "LOCALPORT_TEST_ROLE"

// machineState returns everything on the machine that a cluster could change, by name.
func machineState(t *testing.T) map[string]string {
	t.Helper()
	state := map[string]string{}
	for _, file := range []string{
		"/proc/self/mounts", "/proc/sys/vm/overcommit_memory", "/proc/sys/vm/panic_on_oom", "/proc/sys/kernel/panic",
		"/proc/sys/kernel/panic_on_oops", "/proc/sys/kernel/keys/root_maxkeys", "/proc/sys/kernel/keys/root_maxbytes",
		"/proc/sys/net/ipv4/ip_forward", "/proc/net/ip_tables_names", "/proc/net/route",
	} {
		content, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			t.Fatal(err)
		}
		state[file] = string(content)
	}
	for _, pattern := range []string{
		"/etc/cni*", "/opt/cni*", "/opt/containerd*", "/etc/kubernetes*", "/usr/libexec/kubernetes*", "/var/lib/cni*", "/var/lib/kubelet*",
		"/var/lib/containerd*", "/var/log/pods*", "/var/log/containers*", "/run/containerd*", "/run/netns*", "/run/runc*", "/run/kubernetes*",
	} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		state[pattern] = strings.Join(found, "\n")
	}
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		state["link "+link.Name] = link.Flags.String()
	}
	return state
}

// findLeftovers returns the files, control groups and processes of the cluster in a directory.
func findLeftovers(dir string) []string {
	paths, _ := filepath.Glob(dir)
	for _, group := range controlGroupsNamed(filepath.Base(dir)) {
		found, _ := filepath.Glob(group)
		paths = append(paths, found...)
	}
	environments, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range environments {
		if content, err := os.ReadFile(path); err == nil && strings.Contains(string(content), dir) {
			paths = append(paths, path)
		}
	}
	return paths
}

func TestCluster_StopLeavesNothingBesideAnotherCluster(t *testing.T) {
	other := sharedCluster(t)
	before := machineState(t)
	var dir string
	t.Run("cluster", func(t *testing.T) {
		c := Start(t)
		dir = c.dir
		c.Deploy(t, Deployment{Name: "web", Namespace: c.Namespace(t)})
		if len(findLeftovers(dir)) == 0 {
			t.Error("findLeftovers finds nothing of a cluster that runs")
		}
		for name, now := range machineState(t) {
			if now != before[name] {
				t.Errorf("while it runs: %s was %q, is %q", name, before[name], now)
			}
		}
	})
	for _, path := range findLeftovers(dir) {
		t.Errorf("left: %s", path)
	}
	if after := machineState(t); !maps.Equal(before, after) {
		for _, name := range slices.Sorted(maps.Keys(after)) {
			if after[name] != before[name] {
				t.Errorf("%s was %q, is %q", name, before[name], after[name])
			}
		}
	}
	other.Kubectl(t, "get", "nodes")
}

func TestHelper_HangsWithCluster(t *testing.T) {
	if os.Getenv(roleVariable) == "" {
		return
	}
	c := Start(t)
	c.Deploy(t, Deployment{Name: "web", Namespace: c.Namespace(t)})
	fmt.Println("cluster", c.cleaner.pid, c.dir)
	select {}
}

func TestCluster_KilledTestLeavesNothing(t *testing.T) {
	if err := CheckAvailable(); err != nil {
		t.Skip(err)
	}
	before := machineState(t)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestHelper_HangsWithCluster$")
	cmd.Env = append(os.Environ(), roleVariable+"=hang")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	var dir string
	var output strings.Builder
	for lines := bufio.NewScanner(io.TeeReader(out, &output)); pid == 0 && lines.Scan(); {
		_, _ = fmt.Sscanf(lines.Text(), "cluster %d %s", &pid, &dir)
	}
	cleaner, ok := lockstate.FindProcess(pid)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if !ok {
		t.Fatalf("no cluster ran: %s", output.String())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := lockstate.WaitExit(ctx, cleaner); err != nil {
		t.Errorf("the cleaner still runs: %v", err)
	}
	for _, path := range findLeftovers(dir) {
		t.Errorf("left: %s", path)
	}
	if after := machineState(t); !maps.Equal(before, after) {
		t.Errorf("the machine was %q, is %q", before, after)
	}
}
