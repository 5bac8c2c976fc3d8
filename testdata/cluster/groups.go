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

// groups are the control groups of a cluster's own, one in each of the kernel's hierarchies: version 2 has one, version
// 1 many. In each, containerd and the kubelet are in a group called node. runc makes those of its containers below that
// or, in version 2, where a group with processes can have none below, beside it.
type groups []string

func groupsCalled(name string) groups {
	hierarchies := []string{root}
	if !unified() {
		found, _ := filepath.Glob(filepath.Join(root, "*", "cgroup.procs"))
		hierarchies = nil
		for _, file := range found {
			hierarchies = append(hierarchies, filepath.Dir(file))
		}
	}
	var all groups
	for _, hierarchy := range hierarchies {
		all = append(all, filepath.Join(hierarchy, name))
	}
	return all
}

const root = "/sys/fs/cgroup"

// unified reports whether the machine has version 2, and nothing of version 1.
func unified() bool {
	_, err := os.Stat(filepath.Join(root, "cgroup.procs"))
	return err == nil
}

// checkGroups says why a cluster's own cannot be made, nil if they can.
func checkGroups() error {
	if unified() {
		controlled, err := os.ReadFile(filepath.Join(root, "cgroup.subtree_control"))
		if err != nil {
			return err
		}
		if !strings.Contains(string(controlled), "memory") { // runc would change that for the whole machine, or fail to
			return fmt.Errorf("groups in %s have no controllers", root)
		}
	}
	trial := groupsCalled(fmt.Sprintf("lpk-trial-%d", os.Getpid()))
	defer trial.remove()
	return trial.create()
}

func (c *Cluster) createGroups(context.Context) error { return c.groups.create() }

// create makes the groups.
func (g groups) create() error {
	for _, group := range g {
		for _, dir := range []string{group, filepath.Join(group, "node")} {
			if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) { // two hierarchies may be one, by a link
				return err
			}
			if err := inherit(dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// remove removes the groups, in which nothing has ever run.
func (g groups) remove() {
	for _, group := range g {
		os.Remove(filepath.Join(group, "node"))
		os.Remove(group)
	}
}

// inherit gives a new group in version 1 its parent's processors and memory, without which it takes no process in.
func inherit(dir string) error {
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		file := filepath.Join(dir, name)
		if _, err := os.Stat(file); unified() || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		parents, err := os.ReadFile(filepath.Join(filepath.Dir(dir), name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(file, parents, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// enter is the beginning of a command line that runs the rest in the groups.
func (g groups) enter() []string {
	argv := []string{"/bin/sh", "-c", `while [ "$1" != -- ]; do echo $$ >"$1/node/cgroup.procs" || exit; shift; done; shift; exec "$@"`, "enter"}
	return append(append(argv, g...), "--")
}
