package project

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// NotFoundError says that a directory belongs to no project.
type NotFoundError struct {
	Tried []string // every directory looked in, the innermost first
}

func (e *NotFoundError) Error() string {
	return fmt.Sprintf("no %s in %s", ConfigName, strings.Join(e.Tried, ", "))
}

// ErrDirectoryDeleted says that the current directory has been deleted, so that it has no parents to look in.
var ErrDirectoryDeleted = errors.New("the current directory has been deleted")

// Find walks up from dir, physically, to the nearest directory with a .localport.toml: the project's root, without
// symbolic links in it. searched holds every directory that it looked in, the root included. When there is no project the
// error is a *NotFoundError; when dir is the current directory and has been deleted, it is ErrDirectoryDeleted.
func Find(dir string) (root string, searched []string, err error) {
	if dir, err = PhysicalPath(dir); err != nil {
		return "", nil, err
	}
	for ; ; dir = filepath.Dir(dir) {
		searched = append(searched, dir)
		if _, err := os.Stat(filepath.Join(dir, ConfigName)); err == nil {
			return dir, searched, nil
		}
		if dir == filepath.Dir(dir) {
			return "", searched, &NotFoundError{Tried: searched}
		}
	}
}

// PhysicalPath returns the absolute path of dir without symbolic links, which identifies a project.
func PhysicalPath(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", asDirectoryDeleted(err)
	}
	real, err := filepath.EvalSymlinks(abs)
	if err != nil && !filepath.IsAbs(dir) {
		return "", asDirectoryDeleted(err) // the shell's $PWD still names a directory that is not there
	}
	return real, err
}

// asDirectoryDeleted returns ErrDirectoryDeleted if the current directory is what is missing, else err.
func asDirectoryDeleted(err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if wd, wdErr := os.Getwd(); wdErr == nil {
		if _, statErr := os.Stat(wd); statErr == nil {
			return err
		}
	}
	return ErrDirectoryDeleted
}
