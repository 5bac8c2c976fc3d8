// Package client is how commands and prompts work on a project: it starts the project's supervisor if none is running, and calls it.
package client

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/trust"
)

// PromptTimeout is how long a prompt may wait for the lock, a start and a supervisor's answer in total: two seconds,
// or LOCALPORT_LIMIT, for slow machines.
func PromptTimeout() time.Duration { return PromptTimeoutFrom(os.Getenv) }

// PromptTimeoutFrom is PromptTimeout with another environment.
func PromptTimeoutFrom(getenv func(name string) string) time.Duration {
	if limit, err := project.ParseDuration(getenv("LOCALPORT_LIMIT")); err == nil {
		return limit
	}
	return 2 * time.Second
}

// CommandTimeout is how long a command may wait for the same: ten seconds, or PromptTimeout if that is longer.
func CommandTimeout() time.Duration { return max(10*time.Second, PromptTimeout()) }

// Project is the project that a command acts on.
type Project struct {
	Config string // the project's identity
	Root   string
	Dir    *lockstate.Dir
	Store  trust.Store
	// AnswerTimeout is how long the caller waits for an answer; NoAnswerError shows it.
	AnswerTimeout time.Duration
	// Getenv looks up a variable of the environment in which the caller's commands run: os.Getenv, unless this process works for another.
	Getenv   func(name string) string
	logLevel string // of the supervisor's log
	// version is this program's: a supervisor of an older release is replaced.
	version string
}

// Open returns the project of a config file, whose path must have no symbolic links. onWarning is called with each warning. A supervisor
// that is started logs at logLevel, info if that is empty; a running one of a release older than version is replaced by this program.
func Open(config string, onWarning func(text string), logLevel, version string) (*Project, error) {
	dir, err := lockstate.Open(config)
	if _, isWriteError := errors.AsType[*lockstate.WriteError](err); err != nil && !isWriteError { // the project may be running nevertheless
		return nil, err
	}
	dir.Warn = onWarning
	data, err := lockstate.DataHome()
	if err != nil {
		return nil, err
	}
	return &Project{
		Config: config, Root: filepath.Dir(config), Dir: dir,
		Store: trust.Store{Dir: filepath.Join(data, "trust")}, AnswerTimeout: CommandTimeout(), Getenv: os.Getenv, logLevel: logLevel, version: version,
	}, nil
}

// AskTrust reads the files and asks the trust store about exactly these bytes.
func (p *Project) AskTrust() (trust.Verdict, *project.Files, error) {
	files, err := project.ReadFiles(p.Config)
	if err != nil {
		return trust.Unknown, nil, err
	}
	return p.Store.Ask(files)
}
