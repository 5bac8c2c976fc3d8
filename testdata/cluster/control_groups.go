package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// controlGroups are the paths of a cluster's control groups, one in each cgroup hierarchy: version 2 has one hierarchy, version 1 has
// many. containerd and the kubelet run in a child group "node". runc makes the groups of containers below "node" or, in version 2, where a
// group with processes can have no children, beside it.
type controlGroups []string

// controlGroupsNamed returns the paths of control groups with a name, which need not exist.
func controlGroupsNamed(name string) controlGroups {
	hierarchies := []string{cgroupRoot}
	if !isVersion2() {
		found, _ := filepath.Glob(filepath.Join(cgroupRoot, "*", "cgroup.procs"))
		hierarchies = nil
		for _, file := range found {
			hierarchies = append(hierarchies, filepath.Dir(file))
		}
	}
	var all controlGroups
	for _, hierarchy := range hierarchies {
		all = append(all, filepath.Join(hierarchy, name))
	}
	return all
}

const cgroupRoot = "/sys/fs/cgroup"

// isVersion2 reports whether the machine has cgroup version 2 alone.
func isVersion2() bool {
	_, err := os.Stat(filepath.Join(cgroupRoot, "cgroup.procs"))
	return err == nil
}

// checkControlGroups returns why control groups cannot be made, nil if they can.
func checkControlGroups() error {
	if isVersion2() {
		controllers, err := os.ReadFile(filepath.Join(cgroupRoot, "cgroup.subtree_control"))
		if err != nil {
			return err
		}
		if !strings.Contains(string(controllers), "memory") { // runc would enable it for the whole machine, or fail to
			return fmt.Errorf("groups in %s do not have the memory controller", cgroupRoot)
		}
	}
	trial := controlGroupsNamed(fmt.Sprintf("lpk-trial-%d", os.Getpid()))
	defer trial.remove()
	return trial.create()
}

func (c *Cluster) createControlGroups(context.Context) error { return c.groups.create() }

// create makes the groups, each with a child "node".
func (g controlGroups) create() error {
	for _, group := range g {
		for _, dir := range []string{group, filepath.Join(group, "node")} {
			if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) { // two hierarchies may be the same, by a symbolic link
				return err
			}
			if err := copyParentCPUSet(dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// remove removes groups that have no processes.
func (g controlGroups) remove() {
	for _, group := range g {
		os.Remove(filepath.Join(group, "node"))
		os.Remove(group)
	}
}

// copyParentCPUSet gives a new group the processors and memory nodes of its parent. In version 1, no process can enter a group without them.
func copyParentCPUSet(dir string) error {
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		file := filepath.Join(dir, name)
		if _, err := os.Stat(file); isVersion2() || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		value, err := os.ReadFile(filepath.Join(filepath.Dir(dir), name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(file, value, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// commandPrefix returns the beginning of a command line. The rest of the command line runs in the groups.
func (g controlGroups) commandPrefix() []string {
	argv := []string{"/bin/sh", "-c", `while [ "$1" != -- ]; do echo $$ >"$1/node/cgroup.procs" || exit; shift; done; shift; exec "$@"`, "enter"}
	return append(append(argv, g...), "--")
}
