package supervisor

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/localport-sh/localport/lockstate"
)

// runDirectory holds what the tunnels of one supervisor have on disk while they live, such as sockets.
type runDirectory struct {
	runID string // whose name it bears

	mu   sync.Mutex
	path string
}

// create makes the folder.
func (f *runDirectory) create() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.createLocked()
}

// createLocked makes the folder where folders for sockets are now. f.mu is held.
func (f *runDirectory) createLocked() error {
	dir, err := lockstate.RuntimeDir()
	if err != nil {
		return err
	}
	f.path = filepath.Join(dir, f.runID)
	return os.Mkdir(f.path, 0o700)
}

// createSubdirectory makes a folder in it. All may have been removed meanwhile: what is old in /tmp is, and what belongs to a session is when
// its user logs out.
func (f *runDirectory) createSubdirectory(name string) (path string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	path = filepath.Join(f.path, name)
	err = os.Mkdir(path, 0o700)
	if !errors.Is(err, fs.ErrNotExist) {
		return path, err
	}
	if err := f.createLocked(); err != nil {
		return "", err
	}
	path = filepath.Join(f.path, name)
	return path, os.Mkdir(path, 0o700)
}

// remove removes the folder with all that is in it.
func (f *runDirectory) remove() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return os.RemoveAll(f.path)
}
