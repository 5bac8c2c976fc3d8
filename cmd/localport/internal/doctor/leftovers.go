package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/lockstate"
)

const fixCommand = "localport doctor --fix"

// checkLeases finds leases of processes that have ended, in states that no supervisor looks after.
func checkLeases(context.Context, *Subject) []Finding {
	dirs, err := lockstate.ListDirs()
	var findings []Finding
	live := 0
	for _, dir := range dirs {
		state := dir.ReadOrZero()
		var foreign int
		for _, lease := range state.Leases {
			if _, isVisible := lease.VisibleProcess(); !isVisible {
				foreign++
			}
		}
		dead := deadLeases(state)
		live += len(state.Leases) - dead
		if dead > 0 {
			findings = append(findings, warn(fmt.Sprintf("%s: %s", dir.Config, plural(dead, "lease of a process that has ended", "leases of processes that have ended")), fixCommand)...)
		}
		if foreign > 0 {
			findings = append(findings, ok(fmt.Sprintf("%s: %s in another container or sandbox", dir.Config, plural(foreign, "lease is held", "leases are held")))...)
		}
	}
	if err != nil {
		findings = append(findings, warn(err.Error(), "make the files readable for you")...)
	}
	if live == 0 {
		return orOK(findings, "none")
	}
	return orOK(findings, plural(live, "active lease", "active leases"))
}

// deadLeases counts the leases of a state whose processes have ended. A running supervisor removes them itself.
func deadLeases(state lockstate.State) int {
	if state.Supervisor != nil && state.Supervisor.IsAlive() {
		return 0
	}
	before := len(state.Leases)
	state.Leases = slices.Clone(state.Leases)
	state.PruneLeases()
	return before - len(state.Leases)
}

// checkLeftovers finds what no process needs any more.
func checkLeftovers(context.Context, *Subject) []Finding {
	dirs, err := lockstate.ScanDirs()
	var findings []Finding
	counts := make(map[lockstate.DirKind]int)
	for _, dir := range dirs {
		counts[dir.Kind]++
	}
	if n := counts[lockstate.DirOrphaned]; n > 0 {
		findings = append(findings, warn(plural(n, "state directory of a project that does not exist any more", "state directories of projects that do not exist any more"), fixCommand)...)
	}
	if n := counts[lockstate.DirDamaged]; n > 0 {
		findings = append(findings, warn(plural(n, "state directory without a usable state", "state directories without a usable state"), fixCommand)...)
	}
	if n := len(staleSockets(dirs)); n > 0 {
		findings = append(findings, warn(plural(n, "socket that nobody listens on", "sockets that nobody listens on"), fixCommand)...)
	}
	if n := len(lockstate.ListAbandonedRunDirs()); n > 0 {
		findings = append(findings, warn(plural(n, "directory of a supervisor that was killed", "directories of supervisors that were killed"), fixCommand)...)
	}
	if err != nil {
		findings = append(findings, warn(err.Error(), "make the files readable for you")...)
	}
	return orOK(findings, fmt.Sprintf("none; %s in use, %d idle", plural(counts[lockstate.DirUsed], "project", "projects"), counts[lockstate.DirIdle]))
}

// staleSockets returns the sockets in the runtime directory that nobody listens on and whose project nobody uses.
func staleSockets(dirs []lockstate.ScannedDir) []string {
	runtimeDir, err := lockstate.RuntimeDir()
	if err != nil {
		return nil
	}
	paths, _ := filepath.Glob(filepath.Join(runtimeDir, "*.sock"))
	return slices.DeleteFunc(paths, func(path string) bool {
		key := strings.TrimSuffix(filepath.Base(path), ".sock")
		isUsed := slices.ContainsFunc(dirs, func(dir lockstate.ScannedDir) bool {
			return filepath.Base(dir.Path) == key && dir.Kind == lockstate.DirUsed
		})
		return isUsed || !isRefused(path)
	})
}

func isRefused(socket string) bool {
	conn, err := net.Dial("unix", socket)
	if err == nil {
		conn.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

// Repair removes what no process holds: dead leases, state directories of projects that do not exist any more, stale sockets, what killed
// supervisors have left. It calls say with a line about each thing. What is held meanwhile is left alone.
func Repair(ctx context.Context, say func(text string)) error {
	errs := removeDeadLeases(ctx, say)
	dirs, err := lockstate.ScanDirs()
	errs = errors.Join(errs, err)
	for _, socket := range staleSockets(dirs) {
		if err := os.Remove(socket); err == nil {
			say("removed the socket " + socket)
		}
	}
	for _, dir := range dirs {
		if dir.Kind != lockstate.DirOrphaned && dir.Kind != lockstate.DirDamaged {
			continue
		}
		switch err := dir.Remove(); {
		case errors.As(err, new(*lockstate.HeldError)):
		case err != nil:
			errs = errors.Join(errs, err)
		default:
			say(fmt.Sprintf("removed the state directory %s: %s", dir.Path, dir.Reason))
		}
	}
	return errors.Join(errs, lockstate.RemoveAbandonedRunDirs(func(run string) {
		killed, _ := process.KillOrphans(run) // as the next supervisor would
		say(fmt.Sprintf("removed the files of the killed supervisor %s and ended %s that it had started", run, plural(killed, "process", "processes")))
	}))
}

func removeDeadLeases(ctx context.Context, say func(text string)) (errs error) {
	dirs, _ := lockstate.ListDirs()
	for _, dir := range dirs {
		if deadLeases(dir.ReadOrZero()) == 0 {
			continue
		}
		removed := 0
		_, err := dir.Update(ctx, func(tx *lockstate.Tx) error {
			if !tx.IsSupervisorRunning() {
				before := len(tx.Leases)
				tx.PruneLeases()
				removed = before - len(tx.Leases)
			}
			return nil
		})
		if err != nil {
			errs = errors.Join(errs, err)
		} else if removed > 0 {
			say(fmt.Sprintf("%s: removed %s", dir.Config, plural(removed, "lease of a process that has ended", "leases of processes that have ended")))
		}
	}
	return errs
}
