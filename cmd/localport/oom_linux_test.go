package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/localport-sh/localport/forwarder/eventlog"
	"github.com/localport-sh/localport/testdata/ports"
)

// memoryGroup is a control group with a limit of memory, of version 1 or 2 (cgroups(7)).
type memoryGroup struct {
	t                                  *testing.T
	dir, limitFile, usageFile, noLimit string // noLimit is what limitFile contains if there is no limit
}

func newMemoryGroup(t *testing.T) *memoryGroup {
	t.Helper()
	name := fmt.Sprintf("localport-test-%d", os.Getpid())
	g := &memoryGroup{t, filepath.Join("/sys/fs/cgroup/memory", name), "memory.limit_in_bytes", "memory.usage_in_bytes", "-1"}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		g = &memoryGroup{t, filepath.Join("/sys/fs/cgroup", name), "memory.max", "memory.current", "max"}
		_ = os.WriteFile("/sys/fs/cgroup/cgroup.subtree_control", []byte("+memory"), 0)
	}
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		t.Fatalf("make a control group: %v", err)
	}
	t.Cleanup(func() {
		eventually(t, "the control group is empty", func() bool { return os.Remove(g.dir) == nil })
	})
	return g
}

func (g *memoryGroup) setLimit(limit string) {
	g.t.Helper()
	if err := os.WriteFile(filepath.Join(g.dir, g.limitFile), []byte(limit), 0); err != nil {
		g.t.Fatal(err)
	}
}

func (g *memoryGroup) usage() int {
	g.t.Helper()
	text, err := os.ReadFile(filepath.Join(g.dir, g.usageFile))
	if err != nil {
		g.t.Fatal(err)
	}
	n, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return n
}

// command returns a command in the group.
func (g *memoryGroup) command(name string, args ...string) *exec.Cmd {
	return exec.Command("sh", append([]string{"-c", `echo $$ >"$0/cgroup.procs" && exec "$@"`, g.dir, name}, args...)...)
}

func TestKeeper_TellsThatMemoryRanOutNamespace(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	g := newMemoryGroup(t) // its cleanup runs before that of w
	root := w.allowedProject(tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
	start := g.command(w.exe, "start")
	start.Dir, start.Env = root, w.env
	if o := w.run(start); o.code != 0 {
		t.Fatalf("exit %d: %s%s", o.code, o.stdout, o.stderr)
	}
	w.waitKeeper(root)
	before := w.state(root).Supervisor
	// The kernel ends the supervisor first, then the program that fills the memory, and not the keeper: it chooses the process with the most memory, and
	// counts a thousandth of the group's limit more for each point (proc_pid_oom_score_adj(5)).
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", before.PID), []byte("1000"), 0); err != nil {
		t.Fatal(err)
	}
	g.setLimit(strconv.Itoa(g.usage() + 16<<20))
	memoryFiller := g.command("perl", "-e", `open my $f, ">", "/proc/self/oom_score_adj"; print $f 700; close $f; my $n = shift; my $x = "x" x ($n << 20)`, "128")
	if err := memoryFiller.Start(); err != nil {
		t.Fatal(err)
	}
	w.waitExit(before.Process)
	g.setLimit(g.noLimit) // for the next supervisor
	_ = memoryFiller.Wait()
	eventually(t, "the next supervisor runs", func() bool {
		now := w.state(root).Supervisor
		return now != nil && now.Run != before.Run && now.IsAlive()
	})
	// Where the kernel's log can be read it names the process; else the number of kills in the control group tells.
	const signal, reason = "killed by SIGKILL", "out of memory"
	eventually(t, "the events name the lack of memory", func() bool {
		return slices.ContainsFunc(w.events(root, eventlog.SupervisorEnded), func(e eventlog.Event) bool {
			return e.Run == before.Run && strings.HasPrefix(e.Reason, signal) && strings.Contains(e.Reason, reason)
		})
	})
	if out := w.mustRun(root, "status"); strings.Count(out, reason) != 1 {
		t.Errorf("status:\n%s", out)
	}
	if out := w.mustRun(root, "status"); strings.Contains(out, reason) {
		t.Errorf("status tells it again:\n%s", out)
	}
	w.stopProject(root)
	eventually(t, "all processes have ended", func() bool { return len(w.processes()) == 0 })
}
