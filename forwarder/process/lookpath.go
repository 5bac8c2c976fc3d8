package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/filestamps"
	"github.com/localport-sh/localport/forwarder/wait"
)

// NotFoundError is the error for a program that does not exist.
type NotFoundError struct {
	Name string
	Path string // the PATH searched; empty where the name is a path itself
}

func (e *NotFoundError) Error() string {
	if strings.Contains(e.Name, "/") {
		return fmt.Sprintf("%s: no such file", e.Name)
	}
	return fmt.Sprintf("%s: not found in PATH (%s)", e.Name, e.Path)
}

// LookPath finds the program that a shell in dir with the environment env would run, and returns its path, which is absolute
// if dir is. Its error is a *NotFoundError, or wraps fs.ErrPermission if the only match is not executable.
func LookPath(name string, env []string, dir string) (string, error) {
	if name == "" {
		return "", &NotFoundError{Name: name, Path: Getenv(env, "PATH")}
	}
	if strings.Contains(name, "/") {
		path := resolvePath(dir, name)
		err := checkExecutable(path)
		if errors.Is(err, fs.ErrNotExist) {
			return "", &NotFoundError{Name: path}
		}
		return path, err
	}
	var permissionErr error
	pathList := Getenv(env, "PATH")
	for _, entry := range filepath.SplitList(pathList) {
		path := resolvePath(dir, filepath.Join(entry, name))
		err := checkExecutable(path)
		if err == nil {
			return path, nil
		}
		// Only checkExecutable's own error counts: a PATH directory that we may not search is ignored, as a shell does.
		if file, ok := errors.AsType[*fs.PathError](err); permissionErr == nil && ok && file.Op == "run" {
			permissionErr = err
		}
	}
	if permissionErr != nil {
		return "", permissionErr
	}
	return "", &NotFoundError{Name: name, Path: pathList}
}

// Getenv returns the value of a variable in env. If several entries set it, the last one counts, as in exec.Cmd.Env.
func Getenv(env []string, name string) string {
	value := ""
	for _, entry := range env {
		if v, ok := strings.CutPrefix(entry, name+"="); ok {
			value = v
		}
	}
	return value
}

func resolvePath(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

func checkExecutable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.IsDir() || info.Mode()&0o111 == 0 {
		return &fs.PathError{Op: "run", Path: path, Err: fs.ErrPermission}
	}
	return nil
}

// installCheckInterval is the time between checks whether a program has been installed.
const installCheckInterval = 5 * time.Second

// ClassifyStartError makes a tunnel's failure of an error of Start with this command. A missing program needs the user's attention, with
// installHint as the hint; one that cannot be executed is a permanent failure, which says why; a lack of processes or files is transient. The
// failure ends when another program is found, the program was replaced, or what was wrong with it has changed.
func ClassifyStartError(err error, c Command, installHint string) *forwarder.Failure {
	path, lookErr := c.Path, error(nil)
	if path == "" {
		path, lookErr = LookPath(c.Argv[0], c.Env, c.Dir)
	}
	defect := FindDefect(programPath(path, lookErr), c.Dir, err)
	f := classifyStartError(err, defect, installHint)
	if f.Class != forwarder.Transient {
		stamps := filestamps.Of(path)
		_, wasMissing := errors.AsType[*NotFoundError](err)
		wasInstalled := wasMissing && lookErr == nil // since Start looked for it
		f.AwaitChange = func(ctx context.Context) bool {
			for {
				now, nowErr := c.Path, error(nil)
				if now == "" {
					now, nowErr = LookPath(c.Argv[0], c.Env, c.Dir)
				}
				if wasInstalled || now != path || fmt.Sprint(nowErr) != fmt.Sprint(lookErr) || stamps.HaveChanged() || FindDefect(programPath(now, nowErr), c.Dir, err) != defect {
					return true
				}
				if !wait.Sleep(ctx, installCheckInterval) {
					return false
				}
			}
		}
	}
	return f
}

// programPath returns the path that LookPath has returned, or that its error is about.
func programPath(path string, err error) string {
	if file, ok := errors.AsType[*fs.PathError](err); ok {
		return file.Path
	}
	return path
}

func classifyStartError(err error, defect Defect, installHint string) *forwarder.Failure {
	if _, isMissing := errors.AsType[*NotFoundError](err); isMissing {
		return &forwarder.Failure{Class: forwarder.NeedsUser, Reason: err.Error(), Hint: installHint}
	}
	class := forwarder.Transient
	for _, cause := range []error{fs.ErrPermission, fs.ErrNotExist, syscall.ENOEXEC, syscall.ENOTDIR, syscall.E2BIG} {
		if errors.Is(err, cause) {
			class = forwarder.Permanent
		}
	}
	return &forwarder.Failure{Class: class, Reason: describeStartError(err, defect), Hint: defect.Hint}
}

// describeStartError adds the defect to an error of Start or LookPath, and drops the name of the system call and the second path.
func describeStartError(err error, defect Defect) string {
	text := err.Error()
	if file, ok := errors.AsType[*fs.PathError](err); ok {
		text = "run " + file.Path + ": " + file.Err.Error()
	}
	if defect.Reason != "" {
		text += ": " + defect.Reason
	}
	return text
}
