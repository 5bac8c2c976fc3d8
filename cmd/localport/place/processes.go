package place

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/localport-sh/localport/forwarder/control"
	"github.com/localport-sh/localport/lockstate"
)

// The roles of a project's processes, for messages.
const (
	SupervisorRole = "supervisor"
	KeeperRole     = "keeper"
)

// Process is one of the project's own processes: its supervisor, or the keeper that holds copies of its listeners.
type Process struct {
	lockstate.Process
	Role string
}

// Processes are the project's keeper and its supervisor, in this order, as far as they live. They are looked up in the
// state file, and only a process that is surely the one recorded there is among them.
func (p *Place) Processes() []Process {
	recorded := p.Dir.Peek().Supervisor
	if recorded == nil {
		return nil
	}
	var processes []Process
	if keeper, alive := lockstate.Find(recorded.Keeper); recorded.Keeper > 0 && alive && p.isKeeper(keeper.PID) {
		processes = append(processes, Process{keeper, KeeperRole})
	}
	// Pid and start time together are one process's alone; its arguments are asked where the system tells them.
	if args := arguments(recorded.PID); recorded.Alive() && (args == nil || slices.Contains(args, control.SuperviseArg)) {
		processes = append(processes, Process{recorded.Process, SupervisorRole})
	}
	return processes
}

// isKeeper reports whether a process is the keeper of this project: the state has its pid alone, which may be another
// process's by now. It says so by its argument, and holds the project's election. Where /proc is not there to tell, no
// process is.
func (p *Place) isKeeper(pid int) bool {
	args := arguments(pid)
	return len(args) == 2 && args[1] == control.KeeperArg && holds(pid, filepath.Join(p.Dir.Path, "election"))
}

// arguments are a process's, with its program as the first; nil if the system does not tell.
func arguments(pid int) []string {
	data, err := os.ReadFile(procPath(pid, "cmdline"))
	if err != nil || len(data) == 0 {
		return nil
	}
	return strings.Split(string(bytes.TrimSuffix(data, []byte{0})), "\x00")
}

// holds reports whether a process has a file open. One that was deleted meanwhile counts.
func holds(pid int, path string) bool {
	entries, err := os.ReadDir(procPath(pid, "fd"))
	if err != nil {
		return false
	}
	for _, entry := range entries {
		target, err := os.Readlink(procPath(pid, "fd/"+entry.Name()))
		if err == nil && strings.TrimSuffix(target, " (deleted)") == path {
			return true
		}
	}
	return false
}

func procPath(pid int, name string) string { return "/proc/" + strconv.Itoa(pid) + "/" + name }
