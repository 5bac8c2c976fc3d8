package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/forwarder/api"
)

// readyFD is the descriptor of the readiness pipe in a supervisor that is being started.
const readyFD = 3

// ExtraFD is the descriptor of Spawner.Extra in the supervisor.
const ExtraFD = 4

// Readiness is the message that a starting supervisor writes to its readiness pipe.
type Readiness struct {
	Outcome Outcome `json:"outcome"`
	Error   string  `json:"error,omitempty"`
	// LoginLoss is set if that is the error.
	LoginLoss *api.LoginLossError `json:"login_loss,omitempty"`
}

// Outcome is the outcome of a start.
type Outcome string

// The outcomes.
const (
	OutcomeReady      Outcome = "ready"       // the supervisor runs, and has bound every port that was free
	OutcomeBusy       Outcome = "busy"        // another supervisor has won the election, or the project was stopped
	OutcomeNotAllowed Outcome = "not_allowed" // the current files are not allowed
	OutcomeInvalid    Outcome = "invalid"     // the config is invalid; Error has every diagnostic
	OutcomeFailed     Outcome = "failed"      // anything else
)

// ReportReadiness writes the message to the readiness pipe and closes the pipe. Without one, as under a debugger, it does nothing.
func ReportReadiness(r Readiness) {
	pipe := os.NewFile(readyFD, "readiness pipe")
	if pipe == nil {
		return
	}
	defer pipe.Close()
	// An error means that the client has timed out; others may still wait for this project.
	_ = json.NewEncoder(pipe).Encode(r)
}

// StartError is the error of a start whose outcome is neither OutcomeReady nor OutcomeBusy.
type StartError struct {
	Readiness
	Log        string // path of the supervisor's log
	IsReported bool   // the supervisor reported the outcome itself: it neither exited before nor timed out
}

func (e *StartError) Error() string { return e.Readiness.Error }

// DetachedArg is the argument for which this program calls Detach with the arguments that follow it.
const DetachedArg = "supervise-detached"

// Spawner starts supervisors.
type Spawner struct {
	Exe    string   // localport itself
	Args   []string // the arguments of the supervisor
	Env    []string // the supervisor's environment
	Log    string   // path of the file for its stdout and stderr
	Detach bool     // start it with Detach: for a caller that will exec another program
	Extra  *os.File // given to it as ExtraFD; closed by Spawn. Not with Detach. May be nil.
	Reap   bool     // wait for the process in the background: for a caller that keeps running
}

// Spawn starts a supervisor in a new session and returns its message. The error is a *StartError, or why no process could be started.
func (s Spawner) Spawn(ctx context.Context) (Readiness, error) {
	readiness, err := s.spawn(ctx)
	if err != nil {
		return Readiness{}, err
	}
	if readiness.Outcome == OutcomeReady || readiness.Outcome == OutcomeBusy {
		return readiness, nil
	}
	return readiness, &StartError{readiness, s.Log, true}
}

func (s Spawner) spawn(ctx context.Context) (Readiness, error) {
	if s.Extra != nil {
		defer s.Extra.Close()
	}
	log, err := s.openLog()
	if err != nil {
		return Readiness{}, fmt.Errorf("open the supervisor's log: %w", err)
	}
	defer log.Close()
	offset, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return Readiness{}, err
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		return Readiness{}, err
	}
	defer reader.Close()

	cmd := s.newCommand(log, writer)
	err = cmd.Start()
	writer.Close()
	if err == nil {
		err = s.release(cmd)
	}
	if err != nil {
		return Readiness{}, fmt.Errorf("start the supervisor: %w", err)
	}
	readiness, err := s.readReadiness(ctx, reader, offset)
	if err != nil && s.Reap && ctx.Err() != nil {
		_ = cmd.Process.Kill() // it has a copy of the election lock, like the one that is started instead
	}
	return readiness, err
}

// openLog opens the log, or /dev/null if the disk is full or read-only: the supervisor runs without a log then.
func (s Spawner) openLog() (*os.File, error) {
	err := os.MkdirAll(filepath.Dir(s.Log), 0o700)
	if err == nil {
		var log *os.File
		if log, err = os.OpenFile(s.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err == nil {
			return log, nil
		}
	}
	for _, unwritable := range []error{unix.EROFS, unix.ENOSPC, unix.EDQUOT} {
		if errors.Is(err, unwritable) {
			return os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		}
	}
	return nil, err
}

// release waits for or releases the started process, as Detach and Reap demand.
func (s Spawner) release(cmd *exec.Cmd) error {
	switch {
	case s.Detach: // it has started the supervisor and exits
		return cmd.Wait()
	case s.Reap:
		go func() { _ = cmd.Wait() }()
		return nil
	}
	return cmd.Process.Release()
}

func (s Spawner) newCommand(log, pipe *os.File) *exec.Cmd {
	args := s.Args
	if s.Detach {
		args = append([]string{DetachedArg}, args...)
	}
	cmd := exec.Command(s.Exe, args...)
	cmd.Env = s.Env
	// In the project's directory, the supervisor would keep its file system from being unmounted.
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{pipe} // becomes readyFD
	if s.Extra != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, s.Extra) // becomes ExtraFD
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd
}

// readReadiness waits for the message. End of file before it means that the supervisor has exited: the end of its log says why.
func (s Spawner) readReadiness(ctx context.Context, pipe *os.File, offset int64) (Readiness, error) {
	stop := context.AfterFunc(ctx, func() { pipe.Close() })
	defer stop()
	var readiness Readiness
	err := json.NewDecoder(pipe).Decode(&readiness)
	switch {
	case err == nil:
		return readiness, nil
	case ctx.Err() != nil:
		return Readiness{}, &StartError{Readiness{Outcome: OutcomeFailed, Error: "the supervisor did not become ready in time"}, s.Log, false}
	case errors.Is(err, io.EOF):
		return Readiness{}, &StartError{Readiness{Outcome: OutcomeFailed, Error: "the supervisor exited while starting" + s.readLogTail(offset)}, s.Log, false}
	}
	return Readiness{}, fmt.Errorf("read the supervisor's readiness: %w", err)
}

// readLogTail returns the end of what was logged since offset, for a message; empty if there is nothing.
func (s Spawner) readLogTail(offset int64) string {
	const maxSize = 600
	file, err := os.Open(s.Log)
	if err != nil {
		return ""
	}
	defer file.Close()
	data, err := io.ReadAll(io.NewSectionReader(file, offset, 1<<20))
	text := strings.TrimSpace(string(data))
	if err != nil || text == "" {
		return ""
	}
	if len(text) > maxSize {
		text = "…" + text[len(text)-maxSize:]
	}
	return ": " + text
}
