// Package daemon has what the packages that start a real server for a test share: a folder, a free port, a user who is
// not root, and a process that ends with the test, however that ends.
package daemon

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/localport-sh/localport/testdata/ports"
)

// Spec says how a server is run.
type Spec struct {
	Dir  string // from Dir
	Argv func(port int) []string
	// ReadyText is part of the line by which the server says that it listens.
	ReadyText string
	// StopSignal ends it politely; SIGTERM if it is 0.
	StopSignal syscall.Signal
	// OrphanSignal is what it gets when the test process dies; SIGKILL if it is 0. Linux only.
	OrphanSignal syscall.Signal
}

// Server is a server that runs, or has run, in a folder of its own.
type Server struct {
	Host string // a numeric address
	Port int
	Dir  string // belongs to the user that the server runs as

	t       testing.TB
	spec    Spec
	process *process
}

const (
	startLimit = 60 * time.Second
	stopLimit  = 20 * time.Second
)

// Start starts a server on a free port and returns when it listens. It ends with the test.
func Start(t testing.TB, spec Spec) *Server {
	t.Helper()
	if spec.StopSignal == 0 {
		spec.StopSignal = syscall.SIGTERM
	}
	if spec.OrphanSignal == 0 {
		spec.OrphanSignal = syscall.SIGKILL
	}
	s := &Server{Host: "127.0.0.1", Dir: spec.Dir, t: t, spec: spec}
	t.Cleanup(s.Stop)
	for range 5 {
		s.Port = ports.FreePort(t)
		err := s.start()
		if err == nil {
			return s
		}
		if !strings.Contains(s.Log(), "ddress already in use") {
			t.Fatal(err)
		}
	}
	t.Fatalf("five free ports were not free: %s", s.Log())
	return nil
}

// Addr is Host:Port.
func (s *Server) Addr() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// Pid is the process id of the server, or of the one that ran last.
func (s *Server) Pid() int { return s.process.cmd.Process.Pid }

// Log is what the server has said since it was started last.
func (s *Server) Log() string {
	if s.process == nil {
		return ""
	}
	return s.process.output.String()
}

// Stop ends the server politely and returns when it has ended. It may be called more than once.
func (s *Server) Stop() {
	s.t.Helper()
	if s.process != nil && !s.process.stop(s.spec.StopSignal, stopLimit) {
		s.t.Errorf("%s did not end by itself: %s", s.process.cmd.Path, s.Log())
	}
}

// Restart stops the server, if it runs, and starts it on the same port and folder.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	if err := s.start(); err != nil {
		s.t.Fatal(err)
	}
}

// start returns when the server listens.
func (s *Server) start() error {
	argv := s.spec.Argv(s.Port)
	p, err := startProcess(argv, s.spec)
	if err != nil {
		return err
	}
	s.process = p
	select {
	case <-p.output.readyCh:
		return nil
	case <-p.endedCh:
		return fmt.Errorf("%s: %s: %s", argv[0], p.cmd.ProcessState, s.Log())
	case <-time.After(startLimit):
		return fmt.Errorf("%s does not listen after %v: %s", argv[0], startLimit, s.Log())
	}
}

// environment is all that a server gets to know of ours. .ci/leftovers looks for the variable.
func environment(dir string) []string {
	return []string{"HOME=" + dir, "TMPDIR=" + dir, "PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC", "LOCALPORT_TEST_DAEMON=1"}
}
