// Package daemon starts a real server for a test: in its own directory, on a free port, as a user who is not root. The server ends
// with the test, also when the test's process is killed.
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
	Dir          string                  // the working directory, made by NewDir
	Argv         func(port int) []string // returns the command line; called again for another port if one is in use
	ReadyText    string                  // part of the line that the server prints when it listens
	StopSignal   syscall.Signal          // requests an orderly end; 0: SIGTERM
	OrphanSignal syscall.Signal          // sent by the kernel when the test's process dies, on Linux; 0: SIGKILL
}

// Server is a server that runs, or that ran and was stopped.
type Server struct {
	Host string // a numeric address
	Port int
	Dir  string // its working directory

	t       testing.TB
	spec    Spec
	process *process
}

const (
	startLimit = 180 * time.Second
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
	t.Fatalf("five ports in a row were in use: %s", s.Log())
	return nil
}

// Addr returns Host:Port.
func (s *Server) Addr() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// Pid returns the process id of the last start.
func (s *Server) Pid() int { return s.process.cmd.Process.Pid }

// Log returns what the server has printed since its last start.
func (s *Server) Log() string {
	if s.process == nil {
		return ""
	}
	return s.process.output.String()
}

// Stop ends the server in an orderly way and returns when it has ended. It may be called more than once.
func (s *Server) Stop() {
	s.t.Helper()
	if s.process != nil && !s.process.stop(s.spec.StopSignal, stopLimit) {
		s.t.Errorf("%s did not end after its stop signal: %s", s.process.cmd.Path, s.Log())
	}
}

// Restart stops the server, if it runs, and starts it again with the same port and directory.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	if err := s.start(); err != nil {
		s.t.Fatal(err)
	}
}

// start starts the server and returns when it listens.
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

// environment returns the whole environment of a server. .ci/leftovers looks for LOCALPORT_TEST_DAEMON.
func environment(dir string) []string {
	return []string{"HOME=" + dir, "TMPDIR=" + dir, "PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC", "LOCALPORT_TEST_DAEMON=1"}
}
