// Package client is the project that a command acts on, and the way into it: it starts a supervisor where none lives, and calls
// the one that does.
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

// Limit is how long a prompt may wait for the lock, for a start and for a supervisor's answer, all together: two seconds,
// or what LOCALPORT_LIMIT says, which is for machines on which those are nothing.
func Limit() time.Duration {
	if limit, err := project.ParseDuration(os.Getenv("LOCALPORT_LIMIT")); err == nil {
		return limit
	}
	return 2 * time.Second
}

// Patience is how long a command waits for the same.
func Patience() time.Duration { return max(10*time.Second, Limit()) }

// Place is the project that a command acts on.
type Place struct {
	Config string // the project's identity
	Root   string
	Dir    *lockstate.Dir
	Store  trust.Store
	// Limit is how long the command waits for an answer, for its message.
	Limit time.Duration
	level string // of the supervisor's log
	// version is this program's: a supervisor of an older release is replaced.
	version string
}

// At is the project of a config file, whose path has no symbolic links in it. onWarning is told of each warning; a supervisor that is
// started logs from the level on, info where that is empty. One of a release older than version is replaced by this program.
func At(config string, onWarning func(text string), level, version string) (*Place, error) {
	dir, err := lockstate.Open(config)
	if _, full := errors.AsType[*lockstate.WriteError](err); err != nil && !full { // it may be up all the same
		return nil, err
	}
	dir.Warn = onWarning
	data, err := lockstate.DataHome()
	if err != nil {
		return nil, err
	}
	return &Place{
		Config: config, Root: filepath.Dir(config), Dir: dir,
		Store: trust.Store{Dir: filepath.Join(data, "trust")}, Limit: Patience(), level: level, version: version,
	}, nil
}

// Files reads the project's files as they stand, without asking trust.
func (p *Place) Files() (*project.Files, error) {
	if filepath.Base(p.Config) == project.ConfigName {
		return project.Read(p.Root)
	}
	return project.ReadFile(p.Config)
}

// Ask reads the files and asks trust about just these bytes.
func (p *Place) Ask() (trust.Verdict, *project.Files, error) {
	files, err := p.Files()
	if err != nil {
		return trust.Unknown, nil, err
	}
	return p.Store.Ask(files)
}
