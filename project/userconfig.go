package project

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// UserConfigName is the name of a user's own config, in a directory of localport's.
const UserConfigName = "config.toml"

// UserConfig is what a user wants of all projects: what his own config says, and defaults for what it does not.
type UserConfig struct {
	Verbosity Verbosity
	Linger    time.Duration // of projects that say nothing; zero: nor does the user
	Logs      UserLogs
	Notify    UserNotify
}

// Verbosity is how much the hook says at a prompt.
type Verbosity string

// The verbosities.
const (
	VerbosityQuiet   Verbosity = "quiet"   // only what the user has to do something about
	VerbosityNormal  Verbosity = "normal"  // and the services of a project that is entered
	VerbosityVerbose Verbosity = "verbose" // and every variable that changes
)

// UserLogs bounds the logs of every service; what is zero is not said.
type UserLogs struct {
	Keep    time.Duration
	MaxSize int64 // bytes
}

// UserNotify is how the user wants to be told of events, and of which.
type UserNotify struct {
	Command []string // argv with placeholders; empty: none
	Desktop bool
	On      []string // of EventKinds
}

// EventKinds are the events that a user can be told of.
var EventKinds = []string{"state", "failed", "recovered", "reload", "pending", "started", "ended", "no_room", "room"}

// DefaultUserConfig is a user who says nothing.
func DefaultUserConfig() UserConfig {
	return UserConfig{Verbosity: VerbosityNormal, Notify: UserNotify{On: []string{"failed", "recovered"}}}
}

// ReadUserConfig reads a user's own config, which may be absent. What it returns can be used also where there is an error:
// it is then as if the file were absent. The error is an *Invalid with everything that is wrong, an *ExposedError, or
// that of the file system.
func ReadUserConfig(path string) (UserConfig, error) {
	if err := checkOwnership(path); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return DefaultUserConfig(), err
	}
	data, err := readRegular(path, maxConfigSize)
	if err != nil {
		return DefaultUserConfig(), err
	}
	return parseUserConfig(path, data)
}

// InsecureConfigError is a user's config that others can write to. It names programs that run as the user.
type InsecureConfigError struct{ Path string }

func (e *InsecureConfigError) Error() string {
	return fmt.Sprintf("%s is ignored because other users can write to it: run \"chmod go-w %s\"", e.Path, e.Path)
}

// checkOwnership makes sure that nobody but the user can change the file, or put another in its place.
func checkOwnership(path string) error {
	for _, path := range []string{path, filepath.Dir(path)} {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok || stat.Uid != 0 && int(stat.Uid) != os.Getuid() || isWritableByOthers(info.Mode(), stat) {
			return &InsecureConfigError{path}
		}
	}
	return nil
}

// isWritableByOthers reports whether anyone but the owner may write. A group with the owner's number is the owner's own, as
// Debian and Fedora make one for each user, and his umask lets it write.
func isWritableByOthers(mode fs.FileMode, stat *syscall.Stat_t) bool {
	return mode&0o002 != 0 || mode&0o020 != 0 && stat.Gid != stat.Uid
}
