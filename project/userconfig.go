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

// UserConfigName is the name of the user's own config file in localport's config directory.
const UserConfigName = "config.toml"

// UserConfig holds the user's settings for all projects, with defaults filled in.
type UserConfig struct {
	Verbosity Verbosity
	Linger    time.Duration // of projects that do not set it; zero: not set
	// KeepConnections is that of projects that do not set linger.
	KeepConnections bool
	Logs            UserLogs
	Notify          UserNotify
	Trust           UserTrust
}

// UserTrust is how projects are allowed.
type UserTrust struct {
	Terminal bool // only at a terminal, so that an agent cannot allow its own change
}

// Verbosity is how much the hook prints at a prompt.
type Verbosity string

// The verbosities.
const (
	VerbosityQuiet   Verbosity = "quiet"   // only what the user has to do something about
	VerbosityNormal  Verbosity = "normal"  // and the services of a project that is entered
	VerbosityVerbose Verbosity = "verbose" // and every variable that changes
)

// UserLogs limits the logs of every service; zero: not set.
type UserLogs struct {
	Keep    time.Duration
	MaxSize int64 // bytes
}

// UserNotify is how the user is notified, and of which events.
type UserNotify struct {
	Command []string // argv with placeholders; empty: none
	Desktop bool
	On      []string // of EventKinds
}

// EventKinds are the events of which a user can be notified.
var EventKinds = []string{"state", "failed", "recovered", "reload", "pending", "started", "ended", "shortage", "shortage_ended"}

// DefaultUserConfig returns the settings of a user without a config.
func DefaultUserConfig() UserConfig {
	return UserConfig{Verbosity: VerbosityNormal, Notify: UserNotify{On: []string{"failed", "recovered"}}}
}

// ReadUserConfig reads the user's own config, which may be absent. Its result can be used even if there is an error:
// it is then the default. The error is an *InvalidError with all errors, an *InsecureConfigError, or
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

// InsecureConfigError reports a user's config that others can write to. The config names programs that run as the user.
type InsecureConfigError struct{ Path string }

func (e *InsecureConfigError) Error() string {
	return fmt.Sprintf("%s is ignored because other users can write to it: run \"chmod go-w %s\"", e.Path, e.Path)
}

// checkOwnership returns an error if anyone but the user can change the file, or replace it.
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

// isWritableByOthers reports whether anyone but the owner may write. A group whose id is the owner's uid is private to the owner:
// Debian and Fedora make one for each user, with a umask that lets it write.
func isWritableByOthers(mode fs.FileMode, stat *syscall.Stat_t) bool {
	return mode&0o002 != 0 || mode&0o020 != 0 && stat.Gid != stat.Uid
}
