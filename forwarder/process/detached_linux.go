package process

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/process/holder"
	"github.com/localport-sh/localport/lockstate"
)

// FindDetached returns the processes outside the child's group that listen on port and that the child has started, with what belongs to
// them: their sessions, groups and descendants. A process that AdoptOrphans has not made this one's descendant is never among them, whatever
// it listens on. Other processes that the child has left behind, the user's browser for example, are not its server.
func (c *Child) FindDetached(port uint16) []Detached {
	return c.findDetached(c.readDescendants(), port)
}

// descendants are the processes that a child has, or may have, started, in a picture of all processes.
type descendants struct {
	table processTable
	roots []int // the child itself, and orphans that are not older
}

func (c *Child) readDescendants() descendants {
	d := descendants{table: readProcessTable()}
	for _, e := range d.table {
		if e.parent == os.Getpid() && !e.isZombie && (e.PID == c.Pid() || e.Start >= c.leaderStart && !ownChildren.contains(e.PID)) {
			d.roots = append(d.roots, e.PID)
		}
	}
	return d
}

// all returns the roots with their descendants, outside the child's group.
func (d descendants) all(group int) []tableEntry {
	var all []tableEntry
	for _, root := range d.roots {
		all = append(all, d.table.tree(root)...)
	}
	return slices.DeleteFunc(all, func(e tableEntry) bool { return e.group == group })
}

func (c *Child) findDetached(d descendants, port uint16) []Detached {
	all := d.all(c.Pid())
	pids := make([]int, len(all))
	for i, e := range all {
		pids[i] = e.PID
	}
	isFound := make(map[int]bool)
	listeners := holder.PortListeners(port, pids)
	own := d.table[os.Getpid()]
	for _, listener := range listeners {
		l := d.table[listener]
		for _, e := range all {
			if e.group == l.group || e.session == l.session && e.session != own.session {
				for _, member := range d.table.tree(e.PID) {
					isFound[member.PID] = member.group != c.Pid()
				}
			}
		}
	}
	var found []Detached
	for _, e := range all {
		if isFound[e.PID] {
			found = append(found, Detached{Process: e.Process, Name: processName(e.PID), IsListener: slices.Contains(listeners, e.PID)})
		}
	}
	return found
}

// findDaemons returns what a child that has put itself into the background has left: the orphans that hold one of its output pipes or have
// port in their arguments, with their descendants. hasUnknown is set if there are others that it may have left.
func (c *Child) findDaemons(d descendants, port uint16) (found []Detached, hasUnknown bool) {
	for _, root := range d.roots {
		tree := d.table.tree(root)
		if !slices.ContainsFunc(tree, func(e tableEntry) bool { return c.holdsOutput(e.PID) || hasArgument(e.PID, port) }) {
			hasUnknown = hasUnknown || !hasVariable(root, forwarder.TunnelVariable)
			continue
		}
		for _, e := range tree {
			found = append(found, Detached{Process: e.Process, Name: processName(e.PID)})
		}
	}
	return found, hasUnknown
}

// daemonDelay is how long KillDetached waits for the orphans of a child that has put itself into the background to show, by listening, that
// they are the child's.
const daemonDelay = 500 * time.Millisecond

// KillDetached kills what FindDetached finds and what it has found before, until nothing is left, and returns it. After a child that has
// ended with status 0 by itself, as a program does that puts itself into the background, it kills all that is known to be the child's. Call
// it after Done.
func (c *Child) KillDetached(port uint16, before []Detached) []Detached {
	killed := killEach(before)
	for began := time.Now(); ; time.Sleep(listenerInterval) {
		d := c.readDescendants()
		found, hasUnknown := c.findDetached(d, port), false
		if len(found) == 0 && c.HasSucceeded() && !c.WasStopped() {
			found, hasUnknown = c.findDaemons(d, port)
		}
		killed = append(killed, killEach(found)...)
		if elapsed := time.Since(began); elapsed > orphansTimeout || len(found) == 0 && (!hasUnknown || elapsed > daemonDelay) {
			return killed
		}
	}
}

const listenerInterval = 20 * time.Millisecond

func killEach(processes []Detached) (killed []Detached) {
	for _, p := range processes {
		if killProcess(p.Process) {
			killed = append(killed, p)
		}
	}
	return killed
}

// killProcess kills a process and waits up to a second for its end. False if it has ended, or may not be killed.
func killProcess(p lockstate.Process) bool {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }()
	if now, isRunning := lockstate.FindProcess(p.PID); !isRunning || now != p || isPersistentSSHMaster(p.PID) {
		return false
	}
	if unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) != nil {
		return false
	}
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 1000)
	return true
}

// killRecorded kills the processes that a run has recorded in its directory, with their descendants.
func killRecorded(run string) (killed int) {
	recorded := lockstate.RecordedRunProcesses(run)
	if len(recorded) == 0 {
		return 0
	}
	table := readProcessTable()
	for _, p := range recorded {
		if table[p.PID].Process != p || !isOwn(p.PID) {
			continue
		}
		for _, e := range table.tree(p.PID) {
			if e.PID != os.Getpid() && killProcess(e.Process) {
				killed++
			}
		}
	}
	return killed
}

// isOwn reports whether a process is this user's.
func isOwn(pid int) bool {
	var info unix.Stat_t
	return unix.Stat(fmt.Sprintf("/proc/%d", pid), &info) == nil && info.Uid == uint32(os.Geteuid())
}

// holdsOutput reports whether a process has one of the child's output pipes open for writing. A process that is just being forked may have
// the ends from which this process reads.
func (c *Child) holdsOutput(pid int) bool {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(entries, func(e os.DirEntry) bool {
		path := filepath.Join(dir, e.Name())
		target, err := os.Readlink(path)
		if err != nil || !slices.Contains(c.pipes, target) {
			return false
		}
		info, err := os.Lstat(path) // its mode is how the file was opened
		return err == nil && info.Mode().Perm()&0o200 != 0
	})
}

// pipeNames returns how /proc/PID/fd shows these files.
func pipeNames(files ...*os.File) []string {
	var names []string
	for _, file := range files {
		if name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", file.Fd())); err == nil && strings.HasPrefix(name, "pipe:") {
			names = append(names, name)
		}
	}
	return names
}

// hasArgument reports whether the arguments of a process contain a number.
func hasArgument(pid int, number uint16) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && slices.Contains(strings.FieldsFunc(string(data), func(r rune) bool { return r < '0' || r > '9' }), strconv.Itoa(int(number)))
}

// hasVariable reports whether the environment that a process was started with has a variable.
func hasVariable(pid int, name string) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	return err == nil && strings.Contains("\x00"+string(data), "\x00"+name+"=")
}

func processName(pid int) string {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return strings.TrimSpace(string(data))
}
