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

// Process is one of a cluster's programs. It dies with the process that runs the cluster.
type Process struct {
	name  string
	argv  []string
	dir   string
	env   []string
	log   string
	inner bool // the program is the only child of argv, which puts it into namespaces
	files []*os.File
	ready func(context.Context) error // if any, returns when the program does what it is for

	mu         sync.Mutex
	outer, pid int
	done       chan struct{} // closed when outer has ended, and with it the program; nil: it has not been started
}

// process makes a program of the cluster, by its name in the cache.
func (c *Cluster) process(name, program string, args ...string) *Process {
	p := &Process{name: name, argv: append([]string{filepath.Join(c.programs, program)}, args...), dir: c.dir, env: c.environment(), log: c.path(name + ".log")}
	c.processes = append(c.processes, p)
	return p
}

// environment is all that a cluster's programs get to know of ours. .ci/leftovers looks for the variable.
func (c *Cluster) environment() []string {
	return []string{
		"HOME=" + c.dir, "TMPDIR=" + c.dir, "LC_ALL=C", "TZ=UTC", "LOCALPORT_TEST_CLUSTER=" + c.dir,
		"PATH=" + c.programs + ":" + os.Getenv("PATH") + ":/usr/sbin:/sbin",
		"LD_LIBRARY_PATH=" + c.programs, // runc has a library with it
	}
}

// Start starts the program that has ended, as it was started before, and returns when it is ready.
func (p *Process) Start() error {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	return p.start(ctx)
}

func (p *Process) start(ctx context.Context) error {
	if err := p.launch(); err != nil {
		return err
	}
	if p.inner {
		if err := p.find(ctx); err != nil {
			return err
		}
	}
	if p.ready == nil {
		return nil
	}
	return p.ready(ctx)
}

// launch starts argv.
func (p *Process) launch() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(p.argv[0], p.argv[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = p.dir, p.env, log, log, p.files
	cmd.SysProcAttr = attributes()
	done, started := make(chan struct{}), make(chan error)
	go func() {
		// Linux kills the child when the thread ends that started it, so the thread must stay.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is in its log
			close(done)
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	p.outer, p.pid, p.done = cmd.Process.Pid, cmd.Process.Pid, done
	return nil
}

// find finds the program that has been launched into namespaces.
func (p *Process) find(ctx context.Context) error {
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
			return errors.New(p.name + " ended at once")
		case <-tick.C:
		}
	}
}

// Pid is the program's, as the caller sees it.
func (p *Process) Pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pid
}

// Kill ends the program at once and returns when it has ended. It may be called more than once.
func (p *Process) Kill() {
	if p.ended() == nil {
		return
	}
	p.signal(syscall.SIGKILL)
	<-p.ended()
}

// Freeze stops the program where it stands, as a network that drops all packets would seem to its clients.
func (p *Process) Freeze() { p.signal(syscall.SIGSTOP) }

// Thaw lets a frozen program go on.
func (p *Process) Thaw() { p.signal(syscall.SIGCONT) }

// signal signals the program.
func (p *Process) signal(signal syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.done: // the numbers may be somebody else's by now
		return
	default:
	}
	_ = syscall.Kill(p.pid, signal)
	if p.outer != p.pid && signal != syscall.SIGSTOP {
		// nsenter stops when its child does, and would never see it continue or end.
		_ = syscall.Kill(p.outer, syscall.SIGCONT)
	}
}

// ended is closed when the program has ended; nil if it has not been started.
func (p *Process) ended() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done
}

// tail is what the program said last.
func (p *Process) tail() string {
	said, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	const enough = 3000
	return string(said[max(0, len(said)-enough):])
}
