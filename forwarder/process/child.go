// Package process runs a program in its own process group, delivers its output line by line, and ends the whole group:
// with SIGTERM, then SIGKILL, and with SIGKILL alone once the group's leader has exited.
package process

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/lockstate"
)

// DefaultGracePeriod is the time between SIGTERM and SIGKILL that Close leaves to a child.
const DefaultGracePeriod = 2 * time.Second

// drainTimeout is how long the end of the output is awaited after the group has been killed. All that it printed is in the pipe by then, and is read
// also later; only a process that left the group can keep the pipe open for longer.
const drainTimeout = 250 * time.Millisecond

// Command is the program to run. Its stdin is /dev/null; besides stdout and stderr it inherits no descriptor.
type Command struct {
	Argv []string // Argv[0] is resolved by LookPath, unless Path is set
	Path string   // the program, for an Argv[0] that is another name for it; may be empty
	Dir  string
	Env  []string // the whole environment
	// OnLine is called with each line that the child prints, never concurrently. Lines come without their line end, truncated to
	// MaxLineBytes. It may be nil, must not block for long and must not call Stop.
	OnLine func(stream Stream, line string)
	// OnRead, if not nil, is called after OnLine has been called with all lines that were read at once, never concurrently with it. A child
	// that prints a lot costs much less if its lines are written to the log then.
	OnRead func()
	// OnLines, if not nil, is called instead of OnLine and OnRead with all lines that were read at once, truncated and with their line ends, which
	// only the last line of the output may lack. They are valid during the call. A child that prints a lot costs much less if nobody looks at each of its lines.
	OnLines func(stream Stream, lines []byte)
	// Stdout, if not nil, receives the child's standard output unchanged; OnLine and OnLines are then called for stderr only. It is not
	// written to after Done.
	Stdout io.Writer
}

// Child is a running process group.
type Child struct {
	cmd         *exec.Cmd
	lines       *lineReader
	stdout      io.Writer // Command.Stdout
	doneCh      chan struct{}
	leaderStart uint64   // the leader's lockstate.Process.Start
	pipes       []string // the two outputs, as /proc shows them

	mu         sync.Mutex // held while signalling, so that no pid is signalled after it has been reaped
	isReaped   bool
	wasStopped bool
}

// Start starts the command. Its error is a *NotFoundError, or says why the program cannot be run.
//
// On Linux the child is killed when this process dies, however it dies. The child's own children are not: KillOrphans kills
// those.
func Start(c Command) (*Child, error) {
	path := c.Path
	if path == "" {
		var err error
		if path, err = LookPath(c.Argv[0], c.Env, c.Dir); err != nil {
			return nil, err
		}
	}
	setCloseOnExec()
	child := &Child{
		cmd:    &exec.Cmd{Path: path, Args: c.Argv, Dir: c.Dir, Env: c.Env, SysProcAttr: sysProcAttr()},
		lines:  &lineReader{onLine: c.OnLine, onRead: c.OnRead, onLines: c.OnLines},
		stdout: c.Stdout,
		doneCh: make(chan struct{}),
	}
	if child.cmd.Env == nil {
		child.cmd.Env = []string{} // with nil, exec.Cmd would pass our own environment
	}
	startErrCh := make(chan error)
	go child.supervise(startErrCh)
	if err := <-startErrCh; err != nil {
		return nil, fmt.Errorf("run %s: %w", path, err)
	}
	return child, nil
}

// Pid is the process id of the group's leader, which is also the id of the group.
func (c *Child) Pid() int { return c.cmd.Process.Pid }

// Path is the path of the program.
func (c *Child) Path() string { return c.cmd.Path }

// IsProcessStopped reports whether the leader is suspended, by SIGSTOP or a debugger. The kernel goes on accepting connections to its
// listener, so that a connect does not tell.
func (c *Child) IsProcessStopped() bool { return lockstate.Process{PID: c.Pid()}.IsStopped() }

// Done is closed when the leader has exited, its group has been killed and all its output has been delivered.
func (c *Child) Done() <-chan struct{} { return c.doneCh }

// ExitStatus is how the leader ended: "exit status 1", "signal: killed". Valid after Done.
func (c *Child) ExitStatus() string { return c.cmd.ProcessState.String() }

// HasSucceeded reports whether the leader exited with status 0. Valid after Done.
func (c *Child) HasSucceeded() bool { return c.cmd.ProcessState.Success() }

// LastLines are the last lines that the child printed, oldest first, without empty ones.
func (c *Child) LastLines() []string {
	c.lines.mu.Lock()
	defer c.lines.mu.Unlock()
	return slices.Clone(c.lines.lastLines)
}

// Close calls Stop with DefaultGracePeriod.
func (c *Child) Close() error {
	c.Stop(DefaultGracePeriod)
	return nil
}

// WasStopped reports whether Stop or Close was called before the child ended. Valid after Done.
func (c *Child) WasStopped() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wasStopped
}

// Kill sends SIGKILL to the group and does not wait. OnLine may call it. WasStopped stays false.
func (c *Child) Kill() { c.signal(syscall.SIGKILL) }

// Stop sends SIGTERM to the group, SIGKILL after the grace period, and returns when Done is closed.
func (c *Child) Stop(grace time.Duration) {
	c.mu.Lock()
	c.wasStopped = c.wasStopped || !c.isReaped
	c.mu.Unlock()
	c.signal(syscall.SIGTERM)
	c.signal(syscall.SIGCONT) // a suspended process does not handle SIGTERM
	if wait.IsClosedWithin(grace, c.doneCh) {
		return
	}
	c.signal(syscall.SIGKILL)
	<-c.doneCh
}

// signal signals the group. Its errors are ignored: they mean that no process is left that we may signal.
func (c *Child) signal(sig syscall.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.isReaped {
		_ = syscall.Kill(-c.Pid(), sig)
	}
}

// supervise starts the child and waits for its end. It stays locked to its thread: Linux kills a child with Pdeathsig when the
// thread that forked it exits, and the Go runtime may end an unlocked thread at any time.
func (c *Child) supervise(startErrCh chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	readers, err := c.start()
	startErrCh <- err
	if err != nil {
		return
	}
	defer close(c.doneCh)
	c.waitAndReap()
	readers.drain()
}

// start forks the child and starts a reader for each of its two outputs.
func (c *Child) start() (*outputReaders, error) {
	stdout, stdoutWriter, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	stderr, stderrWriter, err := os.Pipe()
	if err != nil {
		stdout.Close()
		stdoutWriter.Close()
		return nil, err
	}
	c.cmd.Stdout, c.cmd.Stderr = stdoutWriter, stderrWriter
	c.pipes = pipeNames(stdoutWriter, stderrWriter)
	err = c.cmd.Start()
	stdoutWriter.Close()
	stderrWriter.Close()
	if err != nil {
		stdout.Close()
		stderr.Close()
		return nil, err
	}
	ownChildren.add(c.Pid())
	c.leaderStart = startTime(c.Pid())
	readers := &outputReaders{files: []*os.File{stdout, stderr}}
	readers.wg.Go(func() {
		pipe := newOutputPipe(stdout)
		if c.stdout != nil {
			_, _ = io.Copy(c.stdout, pipe)
			return
		}
		c.lines.readLines(Stdout, pipe)
	})
	readers.wg.Go(func() { c.lines.readLines(Stderr, newOutputPipe(stderr)) })
	return readers, nil
}

// waitAndReap waits until the leader exits, kills the rest of its group, then reaps the leader: until the leader is reaped, the
// kernel gives the group's id to no other process.
func (c *Child) waitAndReap() {
	leader := lockstate.Process{PID: c.Pid(), Start: c.leaderStart}
	_ = lockstate.WaitExit(context.Background(), leader) // until it exits: Stop and Kill make it exit, not a context
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = syscall.Kill(-c.Pid(), syscall.SIGKILL)
	_ = c.cmd.Wait() // its error repeats ProcessState
	ownChildren.remove(c.Pid())
	c.isReaped = true
}
