package supervisor

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/localport-sh/localport/lockstate"
)

// runDirectory is the directory for the private sockets of a supervisor's tunnels. It is safe for concurrent use.
type runDirectory struct {
	runID string // its name

	mu  sync.Mutex
	dir lockstate.RunDir
}

// create creates the directory.
func (d *runDirectory) create() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.createLocked()
}

// createLocked creates the directory in the current runtime directory. d.mu is held.
func (d *runDirectory) createLocked() error {
	dir, err := lockstate.CreateRunDir(d.runID)
	if err == nil {
		d.dir.Release()
		d.dir = dir
	}
	return err
}

// createSubdirectory creates a directory in it, and the whole path if that was deleted: /tmp is cleaned by age, and the runtime
// directory is removed at logout.
func (d *runDirectory) createSubdirectory(name string) (path string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	path = filepath.Join(d.dir.Path, name)
	err = os.Mkdir(path, 0o700)
	if !errors.Is(err, fs.ErrNotExist) {
		return path, err
	}
	if err := d.createLocked(); err != nil {
		return "", err
	}
	path = filepath.Join(d.dir.Path, name)
	return path, os.Mkdir(path, 0o700)
}

// remove removes the directory with its contents.
func (d *runDirectory) remove() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dir.Remove()
}
