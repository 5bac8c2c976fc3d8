package client

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"

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

// Processes returns the project's running keepers and then its supervisors: the processes that have the election file open and whose
// arguments are those of a keeper or a supervisor. On systems without /proc it returns the supervisor that the state records, if that
// process is alive.
func (p *Project) Processes() []Process {
	var keepers, supervisors []Process
	paths, _ := filepath.Glob("/proc/[0-9]*")
	for _, path := range paths {
		pid, err := strconv.Atoi(filepath.Base(path))
		if err != nil {
			continue
		}
		role := processRole(readArguments(pid))
		if role == "" || !hasOpenFile(pid, p.electionPath()) {
			continue
		}
		process, alive := lockstate.FindProcess(pid)
		switch {
		case !alive:
		case role == KeeperRole:
			keepers = append(keepers, Process{process, role})
		default:
			supervisors = append(supervisors, Process{process, role})
		}
	}
	if recorded := p.Dir.ReadOrZero().Supervisor; len(paths) == 0 && recorded != nil && recorded.IsAlive() {
		supervisors = append(supervisors, Process{recorded.Process, SupervisorRole})
	}
	return append(keepers, supervisors...)
}

// isSupervisor reports whether a process is the project's supervisor, by its arguments and open files, and is alive.
func (p *Project) isSupervisor(process lockstate.Process) bool {
	return processRole(readArguments(process.PID)) == SupervisorRole && hasOpenFile(process.PID, p.electionPath()) && process.IsAlive()
}

// electionPath is the path of the election file, which the supervisor and the keeper always have open.
func (p *Project) electionPath() string { return filepath.Join(p.Dir.Path, "election") }

// processRole returns the role of a process with these arguments; empty if it has none.
func processRole(args []string) string {
	switch {
	case len(args) == 2 && args[1] == KeeperArg:
		return KeeperRole
	case len(args) > 1 && args[1] == SuperviseArg:
		return SupervisorRole
	}
	return ""
}

// readArguments returns the arguments of a process, the first of which is its program; nil if they cannot be read.
func readArguments(pid int) []string {
	data, err := os.ReadFile(procPath(pid, "cmdline"))
	if err != nil || len(data) == 0 {
		return nil
	}
	return strings.Split(string(bytes.TrimSuffix(data, []byte{0})), "\x00")
}

// hasOpenFile reports whether a process has the file at a path open, even if that was deleted meanwhile.
func hasOpenFile(pid int, path string) bool {
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
