package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/localport-sh/localport/forwarder"
)

// NotFoundError says that there is no such program.
type NotFoundError struct {
	Name string
	Path string // the PATH searched; empty where the name is a path itself
}

func (e *NotFoundError) Error() string {
	if strings.Contains(e.Name, "/") {
		return fmt.Sprintf("there is no %s", e.Name)
	}
	return fmt.Sprintf("%s is not in the PATH (%s)", e.Name, e.Path)
}

// Look finds the program that a shell in dir with the environment env would run, and returns its path, absolute
// where dir is. The error is a *NotFoundError, or wraps fs.ErrPermission where there is only a file that may not
// be run.
func Look(name string, env []string, dir string) (string, error) {
	if name == "" {
		return "", &NotFoundError{Name: name, Path: Getenv(env, "PATH")}
	}
	if strings.Contains(name, "/") {
		path := within(dir, name)
		err := runnable(path)
		if errors.Is(err, fs.ErrNotExist) {
			return "", &NotFoundError{Name: path}
		}
		return path, err
	}
	var barred error
	search := Getenv(env, "PATH")
	for _, folder := range filepath.SplitList(search) {
		path := within(dir, filepath.Join(folder, name))
		err := runnable(path)
		if err == nil {
			return path, nil
		}
		// A folder that may not be looked into is no folder of this user's PATH.
		if file, ok := errors.AsType[*fs.PathError](err); barred == nil && ok && file.Op == "run" {
			barred = err
		}
	}
	if barred != nil {
		return "", barred
	}
	return "", &NotFoundError{Name: name, Path: search}
}

// Getenv is the value of a variable in an environment; of several entries the last counts, as it does for the program
// that is run.
func Getenv(env []string, name string) string {
	found := ""
	for _, entry := range env {
		if v, ok := strings.CutPrefix(entry, name+"="); ok {
			found = v
		}
	}
	return found
}

func within(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

func runnable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.IsDir() || info.Mode()&0o111 == 0 {
		return &fs.PathError{Op: "run", Path: path, Err: fs.ErrPermission}
	}
	return nil
}

// Failure is what an error of Start means for a tunnel. A program that is missing can be had by the user, who is
// told how; one that cannot be run needs another config; a machine short of processes or files recovers.
func Failure(err error, install string) *forwarder.Failure {
	if _, missing := errors.AsType[*NotFoundError](err); missing {
		return &forwarder.Failure{Class: forwarder.ByAttention, Reason: err.Error(), Hint: install}
	}
	class := forwarder.Transient
	for _, cause := range []error{fs.ErrPermission, fs.ErrNotExist, syscall.ENOEXEC, syscall.ENOTDIR, syscall.E2BIG} {
		if errors.Is(err, cause) {
			class = forwarder.Permanent
		}
	}
	return &forwarder.Failure{Class: class, Reason: err.Error()}
}
