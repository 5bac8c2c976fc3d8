package project

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ErrNotFound says that a directory belongs to no project.
type ErrNotFound struct {
	Tried []string // every directory looked in, the innermost first
}

func (e *ErrNotFound) Error() string {
	return fmt.Sprintf("no %s in %s", ConfigName, strings.Join(e.Tried, ", "))
}

// ErrGone says that the current directory has been deleted, so that it has no parents to look in.
var ErrGone = errors.New("the current directory has been deleted")

// Find walks up from dir, physically, to the nearest directory with a .localport.toml: the project's root, without
// symbolic links in it. tried holds every directory that it looked in, the root included. When there is no project the
// error is an *ErrNotFound; when dir is the current directory and has been deleted, it is ErrGone.
func Find(dir string) (root string, tried []string, err error) {
	if dir, err = Physical(dir); err != nil {
		return "", nil, err
	}
	for ; ; dir = filepath.Dir(dir) {
		tried = append(tried, dir)
		if _, err := os.Stat(filepath.Join(dir, ConfigName)); err == nil {
			return dir, tried, nil
		}
		if dir == filepath.Dir(dir) {
			return "", tried, &ErrNotFound{Tried: tried}
		}
	}
}

// Physical is the absolute path of dir without symbolic links: what tells two projects apart.
func Physical(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", gone(err)
	}
	real, err := filepath.EvalSymlinks(abs)
	if err != nil && !filepath.IsAbs(dir) {
		return "", gone(err) // the shell's $PWD still names a directory that is not there
	}
	return real, err
}

// gone is ErrGone where the current directory is what is missing.
func gone(err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if wd, wdErr := os.Getwd(); wdErr == nil {
		if _, statErr := os.Stat(wd); statErr == nil {
			return err
		}
	}
	return ErrGone
}
