package process

import "github.com/localport-sh/localport/lockstate"

// Detached is a process that a child has started and that is not in the child's group.
type Detached struct {
	lockstate.Process
	Name       string // the program's short name
	IsListener bool   // it listens on the child's port
}

// RecordDetached records the processes in a tunnel's directory, so that KillOrphans ends them if this process is killed.
func RecordDetached(dir string, processes []Detached) error {
	recorded := make([]lockstate.Process, len(processes))
	for i, p := range processes {
		recorded[i] = p.Process
	}
	return lockstate.RecordRunProcesses(dir, recorded)
}
