package supervisor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/localport-sh/localport/forwarder/printable"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/trust"
)

// errNotAllowed is the error of a config that the user has not allowed.
var errNotAllowed = errors.New("not allowed")

// configSource is the project's files on disk, and what the user has allowed of them.
type configSource struct {
	path  string // of the config
	trust trust.Store
}

// root is the project's directory.
func (c configSource) root() string { return filepath.Dir(c.path) }

// readAllowed reads the files and asks the trust store about exactly these bytes. If the files could be read, they are returned
// even with an error.
func (c configSource) readAllowed() (*project.Files, error) {
	files, err := project.ReadFiles(c.path)
	if err != nil {
		return nil, err
	}
	verdict, files, err := c.trust.Ask(files)
	if err != nil {
		return files, err
	}
	if verdict != trust.Allowed {
		return files, fmt.Errorf("%s is new or changed, and %w: review it, then run \"localport allow\"", c.path, errNotAllowed)
	}
	return files, nil
}

// watchedPaths are the files that the active config depends on, whether they exist or not.
func (c configSource) watchedPaths(active *project.Files) []string {
	paths := []string{c.path}
	dirs := []string{c.root()}
	if dir := trust.MainCheckoutDir(c.root()); dir != "" { // for files that a linked worktree lacks
		dirs = append(dirs, dir)
	}
	for _, dir := range dirs {
		paths = append(paths, filepath.Join(dir, project.EnvName))
		if filepath.Base(c.path) == project.ConfigName {
			paths = append(paths, filepath.Join(dir, project.LocalName))
		}
	}
	for name := range active.ReferencedFiles {
		paths = append(paths, filepath.Join(c.root(), name))
	}
	if own := userConfigPath(); own != "" {
		paths = append(paths, own)
	}
	return paths
}

// userConfigPath is the path of the user's config; empty if there is no home directory.
func userConfigPath() string {
	home, err := lockstate.ConfigHome()
	if err != nil {
		return ""
	}
	return filepath.Join(home, project.UserConfigName)
}

// describePending says why the files on disk are not the active ones; empty if they are.
func (c configSource) describePending(active *activeConfig, refused refusedFiles) string {
	files, err := project.ReadFiles(c.path)
	if _, statErr := os.Stat(c.root()); errors.Is(statErr, fs.ErrNotExist) {
		return "the project's directory is gone; the supervisor ends soon"
	}
	if err != nil {
		return err.Error()
	}
	verdict, files, err := c.trust.Ask(files)
	digest := files.Digest()
	invalid, _ := errors.AsType[*project.InvalidError](refused.err)
	switch {
	case err != nil:
		return err.Error()
	case digest == active.digest:
		return ""
	}
	change := printable.EscapeLine(files.DescribeChange(active.digests))
	switch {
	case verdict != trust.Allowed:
		return change + `; review it, then run "localport allow"`
	case digest == refused.digest && invalid != nil:
		return change + " and cannot be used: " + invalid.Summary()
	case digest == refused.digest:
		return change + " and cannot be used: " + refused.err.Error()
	}
	return change + " and is being applied"
}

// refusedFiles is the outcome of the last reload that failed.
type refusedFiles struct {
	digest string
	err    error
}

// equals reports whether two failed reloads had the same files and the same error, so that a retry is not announced as a change.
func (r refusedFiles) equals(other refusedFiles) bool {
	return r.digest == other.digest && r.err != nil && other.err != nil && r.err.Error() == other.err.Error()
}
