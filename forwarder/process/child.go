// Package process runs one program in a process group of its own, hands over what it prints line by line, and ends
// the whole group: politely first, then by force, and also when only its leader has ended.
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

// Grace is how long a child may take to end politely, where nothing says otherwise.
const Grace = 2 * time.Second

// drainLimit is how long output is still read after the group has been killed. What was printed lies in the pipe by
// then; only a process that left the group can hold it open for longer.
const drainLimit = 250 * time.Millisecond

// Command is what to run. Its stdin is /dev/null, and no other descriptor of ours reaches it.
type Command struct {
	Argv []string // Argv[0] is looked for with Look
	Dir  string
	Env  []string // the whole environment
	// Line takes what the child prints, one line at a time and never two at once, without line ends and cut at
	// MaxLine bytes. It may be nil, must not block for long and must not call Stop.
	Line func(from Stream, line string)
	// Stdout, if not nil, takes what the child prints there, as it is, and Line what it prints on stderr alone. It is not
	// written to after Done.
	Stdout io.Writer
}

// Child is a running process group.
type Child struct {
	cmd   *exec.Cmd
	lines *lines
	out   io.Writer // Command.Stdout
	done  chan struct{}

	mu      sync.Mutex // held while signalling, so that no id is signalled after it was given back
	reaped  bool
	stopped bool
}

// Start starts the command. Its error is a *NotFoundError, or says why the program cannot be run.
//
// On Linux the child is killed when this process dies, however it dies. What it started in turn is not; Sweep is
// for that.
func Start(c Command) (*Child, error) {
	path, err := Look(c.Argv[0], c.Env, c.Dir)
	if err != nil {
		return nil, err
	}
	closeOnExec()
	child := &Child{
		cmd:   &exec.Cmd{Path: path, Args: c.Argv, Dir: c.Dir, Env: c.Env, SysProcAttr: attributes()},
		lines: &lines{take: c.Line},
		out:   c.Stdout,
		done:  make(chan struct{}),
	}
	if child.cmd.Env == nil {
		child.cmd.Env = []string{} // nil would mean ours
	}
	started := make(chan error)
	go child.run(started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("run %s: %w", path, err)
	}
	return child, nil
}

// Pid is the process id of the group's leader, and the id of the group.
func (c *Child) Pid() int { return c.cmd.Process.Pid }

// Frozen reports whether the leader is stopped, as by SIGSTOP or a debugger: it lives and does nothing. Its listener goes on
// accepting all the same, in the kernel's queue.
func (c *Child) Frozen() bool { return lockstate.Process{PID: c.Pid()}.IsStopped() }

// Done is closed when the leader has ended, nothing of its group is left and all its output has been handed over.
func (c *Child) Done() <-chan struct{} { return c.done }

// Status says how the leader ended: "exit status 1", "signal: killed". Valid after Done.
func (c *Child) Status() string { return c.cmd.ProcessState.String() }

// LastWords are the last lines that it printed, oldest first, with empty ones left out.
func (c *Child) LastWords() []string {
	c.lines.mu.Lock()
	defer c.lines.mu.Unlock()
	return slices.Clone(c.lines.last)
}

// Close is Stop with the usual grace.
func (c *Child) Close() error {
	c.Stop(Grace)
	return nil
}

// Stopped reports whether the child ended because of Stop or Close, and not by itself. Valid after Done.
func (c *Child) Stopped() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stopped
}

// Kill ends the group by force, and does not wait. A Line may call it. The child counts as ended by itself.
func (c *Child) Kill() { c.signal(syscall.SIGKILL) }

// Stop ends the group, by force when grace is over, and returns when Done is closed.
func (c *Child) Stop(grace time.Duration) {
	c.mu.Lock()
	c.stopped = c.stopped || !c.reaped
	c.mu.Unlock()
	c.signal(syscall.SIGTERM)
	c.signal(syscall.SIGCONT) // one that is frozen hears nothing else
	if wait.IsClosedWithin(grace, c.done) {
		return
	}
	c.signal(syscall.SIGKILL)
	<-c.done
}

// signal signals the group. An error means that there is nothing left which we may signal.
func (c *Child) signal(sig syscall.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.reaped {
		_ = syscall.Kill(-c.Pid(), sig)
	}
}

// run is the child's life. Its goroutine keeps the thread to itself throughout: Linux kills a child with Pdeathsig
// when the thread that forked it ends, and a thread is the runtime's to end.
func (c *Child) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pumps, err := c.start()
	started <- err
	if err != nil {
		return
	}
	defer close(c.done)
	c.await()
	pumps.finish()
}

// start forks, with a pump on each of the two outputs.
func (c *Child) start() (*pumps, error) {
	out, outEnd, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	errs, errsEnd, err := os.Pipe()
	if err != nil {
		out.Close()
		outEnd.Close()
		return nil, err
	}
	c.cmd.Stdout, c.cmd.Stderr = outEnd, errsEnd
	err = c.cmd.Start()
	outEnd.Close()
	errsEnd.Close()
	if err != nil {
		out.Close()
		errs.Close()
		return nil, err
	}
	p := &pumps{files: []*os.File{out, errs}}
	p.wg.Go(func() {
		if c.out != nil {
			_, _ = io.Copy(c.out, out)
			return
		}
		c.lines.pump(Stdout, out)
	})
	p.wg.Go(func() { c.lines.pump(Stderr, errs) })
	return p, nil
}

// await returns when the leader has been reaped and the rest of its group killed; in the other order, because an
// unreaped leader keeps the group's id from being given to anybody else.
func (c *Child) await() {
	leader, _ := lockstate.FindProcess(c.Pid())
	leader.PID = c.Pid()
	_ = lockstate.WaitExit(context.Background(), leader)
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = syscall.Kill(-c.Pid(), syscall.SIGKILL)
	_ = c.cmd.Wait() // its error repeats the state
	c.reaped = true
}
