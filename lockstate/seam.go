package lockstate

import (
	"context"
	"sync/atomic"
)

// Call is a kind of file system call on a state directory.
type Call string

// The calls that Dir.BeforeCall sees. CallCreate, CallRename, CallOverwrite and CallMakeDir change the disk; the others do not.
const (
	CallLock      Call = "lock"      // opens, or makes, and locks a lock file; the election file is locked by CallFlock
	CallFlock     Call = "flock"     // locks a file that is open
	CallOpen      Call = "open"      // for reading
	CallRead      Call = "read"      // the whole file
	CallStat      Call = "stat"      // whether a locked file is the one at its path
	CallCreate    Call = "create"    // writes a file under a temporary name
	CallRename    Call = "rename"    // to the name
	CallOverwrite Call = "overwrite" // in place
	CallMakeDir   Call = "mkdir"
	CallIdentify  Call = "identify" // all files, for a Fingerprint; it cannot fail
)

// beforeCall calls d.BeforeCall, if there is one, for a file of the directory.
func (d *Dir) beforeCall(call Call, name string) error {
	if d.BeforeCall == nil {
		return nil
	}
	return d.BeforeCall(call, name)
}

// ProcessTable is where this package looks processes up. It is safe for concurrent use.
type ProcessTable interface {
	IsAlive(p Process) bool
	// WaitExit returns nil when the process has ended, or the context's error.
	WaitExit(ctx context.Context, p Process) error
}

var simulatedTable atomic.Pointer[ProcessTable]

// SimulateProcesses replaces the system's process table in this process, for tests. The caller calls restore in the end.
func SimulateProcesses(table ProcessTable) (restore func()) {
	simulatedTable.Store(&table)
	return func() { simulatedTable.Store(nil) }
}
