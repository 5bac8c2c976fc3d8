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

// process is one run of a server.
type process struct {
	cmd     *exec.Cmd
	output  *output
	endedCh chan struct{} // closed when it has ended and been reaped
}

func startProcess(argv []string, spec Spec) (*process, error) {
	p := &process{
		cmd:     exec.Command(argv[0], argv[1:]...),
		output:  &output{readyText: spec.ReadyText, readyCh: make(chan struct{})},
		endedCh: make(chan struct{}),
	}
	p.cmd.Dir = spec.Dir
	p.cmd.Env = environment(spec.Dir)
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	p.cmd.WaitDelay = time.Second // a child of the server that outlives it does not hold us up
	p.cmd.SysProcAttr = sysProcAttr(spec.OrphanSignal)
	started := make(chan error)
	go p.run(started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("run %s: %w", argv[0], err)
	}
	return p, nil
}

// run is the process's life. Its goroutine keeps the thread to itself throughout: Linux tells a child that it is an
// orphan when the thread that forked it ends, and a thread is the runtime's to end.
func (p *process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := p.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	_ = p.cmd.Wait() // its error repeats the state
	close(p.endedCh)
}

// stop reports whether the process ended by itself: before, or when asked to by a signal. It is asked again and again:
// nginx forgets a signal that comes just before it begins to wait for events.
func (p *process) stop(polite syscall.Signal, grace time.Duration) bool {
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	limit := time.NewTimer(grace)
	defer limit.Stop()
	for {
		_ = p.cmd.Process.Signal(polite)
		select {
		case <-p.endedCh:
			return true
		case <-again.C:
		case <-limit.C:
			_ = p.cmd.Process.Kill()
			<-p.endedCh
			return false
		}
	}
}

// output keeps what a server prints, and closes ready when that holds the word in a whole line.
type output struct {
	readyText string
	readyCh   chan struct{}

	mu   sync.Mutex
	text strings.Builder
	line []byte
}

func (s *output) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text.Write(p)
	s.line = append(s.line, p...)
	for {
		line, rest, whole := bytes.Cut(s.line, []byte("\n"))
		if !whole {
			return len(p), nil
		}
		s.line = rest
		if s.readyText != "" && bytes.Contains(line, []byte(s.readyText)) {
			close(s.readyCh)
			s.readyText = ""
		}
	}
}

func (s *output) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}
