package lockstate

import (
	"encoding/json"
	"os"
	"path/filepath"
)

// runProcessesName is the file in a subdirectory of a run directory that records processes of a tunnel.
const runProcessesName = "processes"

// runProcesses is that file. A pid means nothing after a boot or in another PID namespace.
type runProcesses struct {
	Boot         string    `json:"boot"`
	PIDNamespace uint64    `json:"pid_ns,omitempty"`
	Processes    []Process `json:"processes"`
}

// RecordRunProcesses records, in a tunnel's directory below a run directory, processes that nothing but their pids identifies. The record
// replaces an earlier one and goes with the directory.
func RecordRunProcesses(dir string, processes []Process) error {
	boot, err := bootID()
	if err != nil {
		return err
	}
	data, err := json.Marshal(runProcesses{Boot: boot, PIDNamespace: ownNamespaces().pid, Processes: processes})
	if err != nil {
		return err
	}
	path := filepath.Join(dir, runProcessesName)
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// RecordedRunProcesses returns the processes that were recorded in a run's directory and still run.
func RecordedRunProcesses(run string) []Process {
	if run == "" || filepath.Base(run) != run || run == "." || run == ".." {
		return nil
	}
	boot, err := bootID()
	if err != nil {
		return nil
	}
	var running []Process
	for _, dir := range runtimeDirs() {
		if info, err := os.Lstat(dir); err != nil || !isOwnDirectory(info) || info.Mode().Perm()&0o077 != 0 {
			continue // anybody may have written there
		}
		entries, _ := os.ReadDir(filepath.Join(dir, run))
		for _, entry := range entries {
			var recorded runProcesses
			data, err := os.ReadFile(filepath.Join(dir, run, entry.Name(), runProcessesName))
			if err != nil || json.Unmarshal(data, &recorded) != nil || recorded.Boot != boot || recorded.PIDNamespace != ownNamespaces().pid {
				continue
			}
			for _, p := range recorded.Processes {
				if p.PID > 1 && p.Start != 0 && p.IsAlive() {
					running = append(running, p)
				}
			}
		}
	}
	return running
}
