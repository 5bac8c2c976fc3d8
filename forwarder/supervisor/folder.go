package supervisor

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/localport-sh/localport/lockstate"
)

// folder holds what the tunnels of one supervisor have on disk while they live, such as sockets.
type folder struct {
	run string // whose name it bears

	mu   sync.Mutex
	path string
}

// begin makes the folder.
func (f *folder) begin() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.make()
}

// make makes the folder where folders for sockets are now. f.mu is held.
func (f *folder) make() error {
	dir, err := lockstate.RuntimeDir()
	if err != nil {
		return err
	}
	f.path = filepath.Join(dir, f.run)
	return os.Mkdir(f.path, 0o700)
}

// add makes a folder in it. All may have been removed meanwhile: what is old in /tmp is, and what belongs to a session is when
// its user logs out.
func (f *folder) add(name string) (path string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	path = filepath.Join(f.path, name)
	err = os.Mkdir(path, 0o700)
	if !errors.Is(err, fs.ErrNotExist) {
		return path, err
	}
	if err := f.make(); err != nil {
		return "", err
	}
	path = filepath.Join(f.path, name)
	return path, os.Mkdir(path, 0o700)
}

// clean removes the folder with all that is in it.
func (f *folder) clean() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return os.RemoveAll(f.path)
}
