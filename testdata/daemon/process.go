package daemon

import (
	"bytes"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a process of a server.
type process struct {
	cmd     *exec.Cmd
	output  *output
	endedCh chan struct{} // closed when the process has been waited for
}

// startProcess returns when the process has been started. The caller waits for endedCh, or calls stop.
func startProcess(argv []string, spec Spec) (*process, error) {
	p := &process{
		cmd:     exec.Command(argv[0], argv[1:]...),
		output:  &output{readyText: spec.ReadyText, readyCh: make(chan struct{})},
		endedCh: make(chan struct{}),
	}
	p.cmd.Dir = spec.Dir
	p.cmd.Env = environment(spec.Dir)
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	p.cmd.WaitDelay = time.Second // do not wait longer for a child of the server that outlives it
	p.cmd.SysProcAttr = sysProcAttr(spec.OrphanSignal)
	startedCh := make(chan error)
	go p.run(startedCh)
	if err := <-startedCh; err != nil {
		return nil, fmt.Errorf("run %s: %w", argv[0], err)
	}
	return p, nil
}

// run starts the process and waits for its end, on a locked thread: Linux sends the parent-death signal when the thread that forked
// the child ends, and the Go runtime may end a thread that is not locked at any time.
func (p *process) run(startedCh chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := p.cmd.Start()
	startedCh <- err
	if err != nil {
		return
	}
	_ = p.cmd.Wait() // its error repeats the state
	close(p.endedCh)
}

// stop ends the process by a signal or, after limit, by SIGKILL, and returns when it has ended. It reports whether SIGKILL was
// not needed. It repeats the signal: a server may lose one that comes just before it begins to wait for events.
func (p *process) stop(signal syscall.Signal, limit time.Duration) bool {
	repeat := time.NewTicker(100 * time.Millisecond)
	defer repeat.Stop()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	for {
		_ = p.cmd.Process.Signal(signal)
		select {
		case <-p.endedCh:
			return true
		case <-repeat.C:
		case <-deadline.C:
			_ = p.cmd.Process.Kill()
			<-p.endedCh
			return false
		}
	}
}

// output is the io.Writer that a server prints to.
type output struct {
	readyCh chan struct{} // closed after the first whole line that contains readyText

	mu        sync.Mutex // guards the fields that follow
	readyText string     // "" once readyCh is closed
	text      strings.Builder
	line      []byte // the last line, which has no end yet
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Write(p)
	o.line = append(o.line, p...)
	for {
		line, rest, isWhole := bytes.Cut(o.line, []byte("\n"))
		if !isWhole {
			return len(p), nil
		}
		o.line = rest
		if o.readyText != "" && bytes.Contains(line, []byte(o.readyText)) {
			close(o.readyCh)
			o.readyText = ""
		}
	}
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}
