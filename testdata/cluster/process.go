package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is one of a cluster's programs. The kernel kills it when the process that runs the cluster ends.
type Process struct {
	name       string
	argv       []string
	dir        string
	env        []string
	logFile    string
	isWrapped  bool // argv is a wrapper, which starts the program in namespaces as its only child
	extraFiles []*os.File
	waitReady  func(context.Context) error // returns nil when the program is ready; nil: it is ready when it has started

	mu              sync.Mutex    // guards the fields that follow
	wrapperPid, pid int           // the same if there is no wrapper
	endedCh         chan struct{} // closed when the wrapper and the program have ended; nil before the first start
}

// newProcess adds a program of the directory that Build makes to the cluster. It does not start it.
func (c *Cluster) newProcess(name, program string, args ...string) *Process {
	p := &Process{name: name, argv: append([]string{filepath.Join(c.programsDir, program)}, args...), dir: c.dir, env: c.environment(), logFile: c.path(name + ".log")}
	c.processes = append(c.processes, p)
	return p
}

// environment returns the whole environment of a cluster's programs. .ci/leftovers looks for LOCALPORT_TEST_CLUSTER.
func (c *Cluster) environment() []string {
	return []string{
		"HOME=" + c.dir, "TMPDIR=" + c.dir, "LC_ALL=C", "TZ=UTC", "LOCALPORT_TEST_CLUSTER=" + c.dir,
		"PATH=" + c.programsDir + ":" + os.Getenv("PATH") + ":/usr/sbin:/sbin",
		"LD_LIBRARY_PATH=" + c.programsDir, // for libseccomp, which runc needs
	}
}

// Start starts the program, also after it has ended, and returns when it is ready.
func (p *Process) Start() error {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	return p.start(ctx)
}

func (p *Process) start(ctx context.Context) error {
	if err := p.launch(); err != nil {
		return err
	}
	if p.isWrapped {
		if err := p.findWrapped(ctx); err != nil {
			return err
		}
	}
	if p.waitReady == nil {
		return nil
	}
	return p.waitReady(ctx)
}

// launch starts argv and returns.
func (p *Process) launch() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	log, err := os.OpenFile(p.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(p.argv[0], p.argv[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = p.dir, p.env, log, log, p.extraFiles
	cmd.SysProcAttr = sysProcAttr()
	endedCh, startedCh := make(chan struct{}), make(chan error)
	go func() {
		// Linux kills the child when the thread that started it ends, so the thread must not end.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		startedCh <- err
		if err == nil {
			_ = cmd.Wait() // the program's log says why it ended
			close(endedCh)
		}
	}()
	if err := <-startedCh; err != nil {
		return err
	}
	p.wrapperPid, p.pid, p.endedCh = cmd.Process.Pid, cmd.Process.Pid, endedCh
	return nil
}

// findWrapped waits until the wrapper has started the program, and records the program's pid.
func (p *Process) findWrapped(ctx context.Context) error {
	children := fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", p.Pid())
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		pids, _ := os.ReadFile(children)
		if pid, err := strconv.Atoi(strings.TrimSpace(string(pids))); err == nil {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.pid = pid
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-p.ended():
			return errors.New(p.name + " ended before it started its program")
		case <-tick.C:
		}
	}
}

// Pid returns the program's process id in this process's PID namespace.
func (p *Process) Pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pid
}

// Kill sends SIGKILL to the program and returns when it has ended. It may be called more than once.
func (p *Process) Kill() {
	if p.ended() == nil {
		return
	}
	p.send(syscall.SIGKILL)
	<-p.ended()
}

// Freeze sends SIGSTOP to the program. To its clients this looks like a network that drops all packets.
func (p *Process) Freeze() { p.send(syscall.SIGSTOP) }

// Thaw continues a frozen program.
func (p *Process) Thaw() { p.send(syscall.SIGCONT) }

// send sends a signal to the program unless it has ended.
func (p *Process) send(signal syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.endedCh: // the pids may belong to other processes by now
		return
	default:
	}
	_ = syscall.Kill(p.pid, signal)
	if p.wrapperPid != p.pid && signal != syscall.SIGSTOP {
		// nsenter stops itself when its child is stopped, and must run to see the child's end.
		_ = syscall.Kill(p.wrapperPid, syscall.SIGCONT)
	}
}

// ended returns a channel that is closed when the program has ended; nil before the first start.
func (p *Process) ended() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.endedCh
}

// lastOutput returns the end of the program's log.
func (p *Process) lastOutput() string {
	output, err := os.ReadFile(p.logFile)
	if err != nil {
		return err.Error()
	}
	const maxBytes = 3000
	return string(output[max(0, len(output)-maxBytes):])
}
