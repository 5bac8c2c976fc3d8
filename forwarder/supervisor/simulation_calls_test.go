package supervisor

import (
	"bytes"
	"context"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/lockstate"
)

// simProcess is a process of a simulation: a shell, a command, or a supervisor. Its goroutines end at their next file system call once it
// has ended, like the threads of a killed process.
type simProcess struct {
	lockstate.Process
	name    string
	endedCh chan struct{}
	// electionsBefore is how often the election file had been destroyed when this process last locked it.
	electionsBefore int
}

func (p *simProcess) hasEnded() bool {
	select {
	case <-p.endedCh:
		return true
	default:
		return false
	}
}

// simProcesses is the process table. A pid is never used again.
type simProcesses struct {
	mu      sync.Mutex // guards all
	running map[lockstate.Process]*simProcess
	lastPID int
}

func (t *simProcesses) start(name string) *simProcess {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lastPID++
	p := &simProcess{lockstate.Process{PID: 1<<23 + t.lastPID, Start: uint64(t.lastPID)}, name, make(chan struct{}), 0} // above the highest pid of Linux
	t.running[p.Process] = p
	return p
}

func (t *simProcesses) end(p *simProcess) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running[p.Process] != nil {
		delete(t.running, p.Process)
		close(p.endedCh)
	}
}

func (t *simProcesses) find(p lockstate.Process) *simProcess {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.running[p]
}

func (t *simProcesses) IsAlive(p lockstate.Process) bool { return t.find(p) != nil }

func (t *simProcesses) WaitExit(ctx context.Context, p lockstate.Process) error {
	found := t.find(p)
	if found == nil {
		return nil
	}
	select {
	case <-found.endedCh:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// simCall is a file system call that waits to be made. One call is made at a time, so that their order is the seed's.
type simCall struct {
	process  *simProcess
	role     string // of the goroutine
	call     lockstate.Call
	name     string
	resultCh chan error // capacity 1
}

// String names the call, and orders those that wait at the same time.
func (c *simCall) String() string {
	return c.process.name + " " + c.role + ": " + string(c.call) + " " + c.name
}

// callYield stands for no file system call, but for a place where the order of goroutines decides what happens.
const callYield lockstate.Call = "yield"

// simCalls holds the calls that wait.
type simCalls struct {
	mu      sync.Mutex // guards all
	waiting []*simCall
	roles   map[string]string // by goroutine
}

// run runs fn in this goroutine, whose calls have a role.
func (c *simCalls) run(role string, fn func()) {
	id := goroutineID()
	c.mu.Lock()
	c.roles[id] = role
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.roles, id)
	}()
	fn()
}

// goroutineID returns N of "goroutine N [running]:".
func goroutineID() string {
	var buf [40]byte
	text := buf[:runtime.Stack(buf[:], false)]
	id, _, _ := bytes.Cut(bytes.TrimPrefix(text, []byte("goroutine ")), []byte(" "))
	return string(id)
}

// beforeCall returns the function for the lockstate.Dir of a process.
func (c *simCalls) beforeCall(p *simProcess) func(lockstate.Call, string) error {
	return func(call lockstate.Call, name string) error {
		if p.hasEnded() {
			runtime.Goexit()
		}
		waiting := &simCall{process: p, call: call, name: name, resultCh: make(chan error, 1)}
		id := goroutineID()
		c.mu.Lock()
		if waiting.role = c.roles[id]; waiting.role == "" {
			waiting.role = "task"
		}
		c.waiting = append(c.waiting, waiting)
		c.mu.Unlock()
		err := <-waiting.resultCh
		if p.hasEnded() {
			runtime.Goexit()
		}
		return err
	}
}

// list returns the calls that wait, except those that hang, in an order that does not depend on when they began.
func (c *simCalls) list(hangs func(*simCall) bool) []*simCall {
	c.mu.Lock()
	defer c.mu.Unlock()
	found := slices.DeleteFunc(slices.Clone(c.waiting), hangs)
	slices.SortStableFunc(found, func(a, b *simCall) int { return strings.Compare(a.String(), b.String()) })
	return found
}

// finish has a call made, or fail if err is not nil.
func (c *simCalls) finish(call *simCall, err error) {
	c.mu.Lock()
	c.waiting = slices.DeleteFunc(c.waiting, func(other *simCall) bool { return other == call })
	c.mu.Unlock()
	call.resultCh <- err
}

// simDisk says which calls fail.
type simDisk struct {
	isFull     bool
	isReadOnly bool
	isBroken   bool // one call of eight fails with EIO
	isNFS      bool // a file that is open for reading, as the state is, cannot be locked
}

func (d simDisk) String() string {
	switch {
	case d.isFull:
		return "full"
	case d.isReadOnly:
		return "read-only"
	case d.isBroken:
		return "broken"
	case d.isNFS:
		return "NFS"
	}
	return "ok"
}

// result returns the error of a call; draw returns a random number below its argument.
func (d simDisk) result(call *simCall, exists bool, draw func(int) int) error {
	isMade := call.call == lockstate.CallLock && !exists
	switch {
	case d.isFull && (call.call == lockstate.CallCreate || call.call == lockstate.CallMakeDir || isMade):
		return unix.ENOSPC
	case d.isReadOnly && (isMade || slices.Contains([]lockstate.Call{
		lockstate.CallCreate, lockstate.CallRename, lockstate.CallOverwrite, lockstate.CallMakeDir,
	}, call.call)):
		return unix.EROFS
	case d.isBroken && call.call != callYield && draw(8) == 0:
		return unix.EIO
	case d.isNFS && call.call == lockstate.CallFlock && call.name == "state.json":
		return unix.ENOLCK
	}
	return nil
}

// pseudorandom returns a number below n that depends on the seed, the time and the text, and on no order of goroutines.
func pseudorandom(seed uint64, text string, n int64) int64 {
	hash := seed ^ uint64(time.Now().UnixNano())
	for _, b := range []byte(text + strconv.FormatInt(n, 10)) {
		hash = (hash ^ uint64(b)) * 0x100000001b3 // FNV-1a
	}
	hash ^= hash >> 29
	return int64(hash % uint64(n))
}
