package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/localport-sh/localport/lockstate"
)

// runDirectory is the directory for the private sockets of a supervisor's tunnels. It is safe for concurrent use.
type runDirectory struct {
	runID string // its name

	slot chan struct{} // a semaphore that guards dir, also during file system calls
	dir  lockstate.RunDir
}

func newRunDirectory(runID string) *runDirectory {
	return &runDirectory{runID: runID, slot: make(chan struct{}, 1)}
}

// acquire waits until no other goroutine uses the directory. The error is the context's.
func (d *runDirectory) acquire(ctx context.Context) error {
	select {
	case d.slot <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d *runDirectory) release() { <-d.slot }

// create creates the directory.
func (d *runDirectory) create(ctx context.Context) error {
	if err := d.acquire(ctx); err != nil {
		return err
	}
	defer d.release()
	return d.createLocked()
}

// createLocked creates the directory in the current runtime directory, for a caller that has acquired d.
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
func (d *runDirectory) createSubdirectory(ctx context.Context, name string) (path string, err error) {
	if err := d.acquire(ctx); err != nil {
		return "", err
	}
	defer d.release()
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

// remove removes the directory with its contents. A directory that is being used, because its file system hangs, is left to the next
// sweep.
func (d *runDirectory) remove() error {
	select {
	case d.slot <- struct{}{}:
		defer d.release()
	default:
		return fmt.Errorf("remove the run directory %s: it is being used", d.runID)
	}
	return d.dir.Remove()
}
