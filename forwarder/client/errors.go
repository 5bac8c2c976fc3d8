package client

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
)

// NotAllowedError says that the current contents of a project's files are not allowed.
type NotAllowedError struct{ Config string }

func (e *NotAllowedError) Error() string {
	if filepath.Base(e.Config) == project.ConfigName { // it is allowed together with the other files of its directory
		return "the config in " + filepath.Dir(e.Config) + " is new or changed"
	}
	return e.Config + " is new or changed"
}

// SandboxError says that this process cannot reach the socket of a running supervisor, as in a sandbox that hides it or refuses unix sockets.
type SandboxError struct {
	Socket string
	Err    error // of the system call that was refused; nil if the socket is not visible here
	// Recorded is what the supervisor has recorded in the state.
	Recorded *lockstate.Supervisor
}

func (e *SandboxError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("this process may not connect to the supervisor at %s: %v", e.Socket, e.Err)
	}
	return fmt.Sprintf("the supervisor's socket %s is not visible here", e.Socket)
}

func (e *SandboxError) Unwrap() error { return e.Err }

// NoAnswerError says that a running process of a project does not answer.
type NoAnswerError struct {
	Role   string // of the process: supervisor or keeper
	PID    int    // 0: unknown
	Waited time.Duration
	// Stopped is set for a keeper that was stopped (SIGSTOP) and whose supervisor has exited. Waited is 0 then.
	Stopped bool
	// ForeignSocket is the socket of a supervisor that runs in another PID namespace; else empty.
	ForeignSocket string
}

func (e *NoAnswerError) Error() string {
	if e.ForeignSocket != "" {
		return fmt.Sprintf("the supervisor runs in another PID namespace and did not answer at %s within %v", e.ForeignSocket, e.Waited)
	}
	process := e.Role
	if e.PID > 0 {
		process = fmt.Sprintf("%s (pid %d)", e.Role, e.PID)
	}
	if e.Stopped {
		return fmt.Sprintf("the %s is stopped (SIGSTOP) and its supervisor has exited", process)
	}
	return fmt.Sprintf("the %s did not answer within %v", process, e.Waited)
}
