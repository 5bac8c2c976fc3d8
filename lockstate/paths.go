// Package lockstate stores what outlives a process: the leases on a project, the ports assigned to it, its
// supervisor, and the line that prompts compare. Everything is changed under a file lock and replaced by
// rename, so that processes may die at any moment and the next one still finds a complete state.
package lockstate

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

// maxSocketPath is the length of the longest socket path that we use, in bytes. sun_path holds 104 on macOS and 108 on Linux, and ssh adds
// about 17 characters to a path while it binds it.
const maxSocketPath = 80

// StateHome returns $XDG_STATE_HOME/localport, or its default. It is the same in every session of a user, so that a project never has two
// locks.
func StateHome() (string, error) { return xdgDir("XDG_STATE_HOME", ".local/state") }

// DataHome returns $XDG_DATA_HOME/localport, or its default.
func DataHome() (string, error) { return xdgDir("XDG_DATA_HOME", ".local/share") }

// ConfigHome returns $XDG_CONFIG_HOME/localport, or its default.
func ConfigHome() (string, error) { return xdgDir("XDG_CONFIG_HOME", ".config") }

// HomeDir returns $HOME, or the home directory in the password database if that is not set, as under cron and in some units.
func HomeDir() (string, error) {
	home, err := os.UserHomeDir()
	if err == nil {
		return home, nil
	}
	if u, lookupErr := user.Current(); lookupErr == nil && u.HomeDir != "" {
		return u.HomeDir, nil
	}
	return "", err
}

func xdgDir(name, fallback string) (string, error) {
	var dirs []string
	// The XDG specification requires that relative paths are ignored.
	if base := os.Getenv(name); filepath.IsAbs(base) {
		dirs = append(dirs, filepath.Join(base, "localport"))
	}
	home, err := HomeDir()
	if err == nil {
		dirs = append(dirs, filepath.Join(home, fallback, "localport"))
	} else if len(dirs) == 0 {
		return "", fmt.Errorf("find the home directory for $%s: %w", name, err)
	}
	if os.Geteuid() != 0 {
		return dirs[0], nil
	}
	// Root may have another user's environment, as under "sudo -E". That user could not use what root makes there.
	if dir, ok := firstOwnedBy(0, dirs); ok {
		return dir, nil
	}
	root, err := user.LookupId("0")
	if err != nil || root.HomeDir == "" {
		return dirs[0], nil //nolint:nilerr // there is no better place
	}
	return filepath.Join(root.HomeDir, fallback, "localport"), nil
}

// firstOwnedBy returns the first directory that a user owns, or that is missing in a directory of that user.
func firstOwnedBy(uid uint32, dirs []string) (dir string, ok bool) {
	for _, dir := range dirs {
		if owner, ok := nearestOwner(dir); ok && owner == uid {
			return dir, true
		}
	}
	return "", false
}

// nearestOwner returns the owner of a path, or of the nearest directory above it that exists.
func nearestOwner(path string) (uid uint32, ok bool) {
	for {
		if info, err := os.Stat(path); err == nil {
			stat, ok := info.Sys().(*syscall.Stat_t)
			if !ok {
				return 0, false
			}
			return stat.Uid, true
		}
		parent := filepath.Dir(path)
		if parent == path {
			return 0, false
		}
		path = parent
	}
}

// RuntimeDir creates and returns the directory for sockets: $XDG_RUNTIME_DIR/localport, else /tmp/localport-UID. It is
// owned by this user with mode 0700, or it is an error: another user must not be able to create a socket there.
func RuntimeDir() (string, error) {
	var dir string
	var err error
	for _, dir = range runtimeDirs() {
		if err = privateDir(dir); err == nil {
			return dir, nil
		}
	}
	return dir, err
}

// runtimeDirs returns the directories for sockets in the order of preference. The last one is always possible.
func runtimeDirs() []string {
	dirs := []string{"/tmp/localport-" + strconv.Itoa(os.Getuid())}
	if base := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(base) && len(base)+len("/localport/12345678/12") < maxSocketPath-20 && !isForeignToRoot(base) {
		return append([]string{filepath.Join(base, "localport")}, dirs...)
	}
	return dirs
}

// isForeignToRoot reports whether this process is root's and a directory is another user's.
func isForeignToRoot(dir string) bool {
	if os.Geteuid() != 0 {
		return false
	}
	owner, ok := nearestOwner(dir)
	return ok && owner != 0
}

// Sockets returns the paths at which a running supervisor may listen: the recorded one, then the default ones. It
// takes no lock and creates nothing. Only paths in runtime directories that are private to this user are returned.
func (d *Dir) Sockets() []string { return d.socketsOf(d.ReadOrZero().Supervisor) }

// socketsOf is Sockets for this recorded supervisor, which may be nil.
func (d *Dir) socketsOf(supervisor *Supervisor) []string {
	var paths []string
	if supervisor != nil {
		paths = append(paths, supervisor.Socket)
	}
	for _, dir := range runtimeDirs() {
		paths = append(paths, filepath.Join(dir, d.socketName()))
	}
	var ours []string
	for _, path := range paths {
		if !slices.Contains(ours, path) && d.isOurSocket(path) {
			ours = append(ours, path)
		}
	}
	return ours
}

func (d *Dir) socketName() string { return filepath.Base(d.Path) + ".sock" }

// isOurSocket reports whether path is this project's socket in a runtime directory of this user, which may be that of
// another session: with another XDG_RUNTIME_DIR than here.
func (d *Dir) isOurSocket(path string) bool {
	dir := filepath.Dir(path)
	name := filepath.Base(dir)
	if filepath.Base(path) != d.socketName() || name != "localport" && name != "localport-"+strconv.Itoa(os.Getuid()) {
		return false
	}
	info, err := os.Lstat(dir)
	return err == nil && isOwnDirectory(info) && info.Mode().Perm()&0o077 == 0
}

// isOwnDirectory reports whether a file is a directory that belongs to this user.
func isOwnDirectory(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return info.IsDir() && ok && int(stat.Uid) == os.Getuid()
}

// privateDir creates dir with mode 0700, or checks that it is a directory, not a link, that belongs to this user.
func privateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !isOwnDirectory(info) {
		return fmt.Errorf("%s is not a directory owned by uid %d; remove it or set XDG_RUNTIME_DIR", dir, os.Getuid())
	}
	if info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	return os.Chmod(dir, 0o700)
}

// stateKey returns the name of a project's state directory, which depends on the path of its config alone.
func stateKey(config string) string {
	sum := sha256.Sum256([]byte(config))
	return hex.EncodeToString(sum[:8])
}
