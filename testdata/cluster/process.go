package cluster

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// Process is one of a cluster's programs. It dies with the test process.
type Process struct {
	Name string

	argv  []string
	env   []string
	log   string
	inner bool // the program is the child of what is started, which only puts it into namespaces

	mu   sync.Mutex
	cmd  *exec.Cmd
	pid  int
	done chan struct{}
}

func (c *Cluster) process(name string, argv ...string) *Process {
	p := &Process{Name: name, argv: argv, log: filepath.Join(c.Dir, name+".log")}
	c.all = append(c.all, p)
	return p
}

// Start runs the program, again if it has run before.
func (p *Process) Start() error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(p.argv[0], p.argv[1:]...)
	cmd.Env = append(os.Environ(), p.env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	done, started := make(chan struct{}), make(chan error)
	go func() { // which keeps its thread: Linux tells a child that it is an orphan when that ends
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
			close(done)
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	p.mu.Lock()
	p.cmd, p.done, p.pid = cmd, done, cmd.Process.Pid
	p.mu.Unlock()
	if p.inner {
		return p.findInner()
	}
	return nil
}

// findInner waits for the child that is the program.
func (p *Process) findInner() error {
	outer := p.Pid()
	for !p.over() {
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", outer, outer))
		if err != nil {
			return err
		}
		if fields := strings.Fields(string(children)); len(fields) > 0 {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.pid, err = strconv.Atoi(fields[0])
			return err
		}
		runtime.Gosched()
	}
	return fmt.Errorf("%s ended at once\n%s", p.Name, p.tail())
}

// Pid is the program's, as this process sees it.
func (p *Process) Pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pid
}

// Kill ends the program at once and returns when it has.
func (p *Process) Kill() {
	p.mu.Lock()
	done := p.done
	p.mu.Unlock()
	if done == nil || p.over() {
		return
	}
	p.signal(syscall.SIGKILL)
	<-done
}

// Freeze stops the program where it is, and Thaw lets it go on.
func (p *Process) Freeze() { p.signal(syscall.SIGSTOP) }

// Thaw lets a frozen program go on.
func (p *Process) Thaw() { p.signal(syscall.SIGCONT) }

func (p *Process) signal(sig syscall.Signal) { _ = syscall.Kill(p.Pid(), sig) }

func (p *Process) over() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.done:
		return true
	default:
		return p.done == nil
	}
}

// died reports whether the program has ended that was started.
func (p *Process) died() bool {
	p.mu.Lock()
	begun := p.done != nil
	p.mu.Unlock()
	return begun && p.over()
}

// tail is the end of what the program said.
func (p *Process) tail() string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	const enough = 3000
	if len(data) > enough {
		data = data[len(data)-enough:]
	}
	return string(data)
}
