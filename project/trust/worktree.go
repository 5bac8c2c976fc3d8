package trust

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// A linked worktree has a file .git that names its entry in the repository, and the entry names that file in turn. Both
// must agree, or anyone could claim to be a checkout of a repository that the user trusts. git itself is not run: its
// configuration may name programs.

// checkout is one working tree of a repository.
type checkout struct {
	top      string // the directory that holds .git
	gitDir   string // of the repository, as git's $GIT_COMMON_DIR
	adminDir string // of a linked worktree: gitDir/worktrees/NAME; empty: the main checkout
}

// worktree is a linked worktree, seen from a directory in it.
type worktree struct {
	checkout
	subdir string // of that directory
}

// findLinkedWorktree returns the linked worktree that contains dir, a physical path; false if there is none, or one that
// its repository does not know.
func findLinkedWorktree(dir string) (worktree, bool) {
	for top := dir; ; top = filepath.Dir(top) {
		if _, err := os.Lstat(filepath.Join(top, ".git")); err != nil {
			if !errors.Is(err, fs.ErrNotExist) || top == filepath.Dir(top) {
				return worktree{}, false
			}
			continue
		}
		c, ok := readCheckout(top)
		relative, err := filepath.Rel(top, dir)
		return worktree{c, relative}, ok && c.adminDir != "" && err == nil
	}
}

// readCheckout returns the checkout whose .git is in top; false if there is none, or if worktree and repository do not refer to each other.
func readCheckout(top string) (checkout, bool) {
	git := filepath.Join(top, ".git")
	info, err := os.Lstat(git)
	switch {
	case err != nil:
		return checkout{}, false
	case info.IsDir():
		return checkout{top: top, gitDir: git}, isOwnRepository(git)
	case !info.Mode().IsRegular(), !isOwnedByUser(info):
		return checkout{}, false
	}
	entry, ok := resolvePointer(git, "gitdir: ")
	if !ok {
		return checkout{}, false
	}
	c := checkout{top: top, adminDir: entry, gitDir: filepath.Dir(filepath.Dir(entry))}
	return c, isOwnRepository(c.gitDir) && c.isListed()
}

// isListed reports whether the repository lists the linked worktree: adminDir is among its worktrees, refers back to
// it, and names the worktree's own .git.
func (c checkout) isListed() bool {
	if filepath.Dir(c.adminDir) != filepath.Join(c.gitDir, "worktrees") {
		return false
	}
	common, ok := resolvePointer(filepath.Join(c.adminDir, "commondir"), "")
	if !ok || common != c.gitDir {
		return false
	}
	named, ok := readPointer(filepath.Join(c.adminDir, "gitdir"), "")
	return ok && samePath(named, filepath.Join(c.top, ".git"))
}

// mainCheckout returns the main checkout of the tree's repository; false if it has none, like a bare repository.
func (w worktree) mainCheckout() (checkout, bool) {
	if filepath.Base(w.gitDir) != ".git" {
		return checkout{}, false
	}
	c, ok := readCheckout(filepath.Dir(w.gitDir))
	return c, ok && c.gitDir == w.gitDir && c.adminDir == ""
}

// otherCheckouts returns the other checkouts of the repository, each of which refers back to it.
func (w worktree) otherCheckouts() []checkout {
	var found []checkout
	if main, ok := w.mainCheckout(); ok {
		found = append(found, main)
	}
	entries, err := os.ReadDir(filepath.Join(w.gitDir, "worktrees"))
	if err != nil {
		return found
	}
	for _, e := range entries {
		entry := filepath.Join(w.gitDir, "worktrees", e.Name())
		git, ok := readPointer(filepath.Join(entry, "gitdir"), "")
		if !ok || entry == w.adminDir || filepath.Base(git) != ".git" {
			continue
		}
		top, err := filepath.EvalSymlinks(filepath.Dir(git))
		if err != nil {
			continue
		}
		if c, ok := readCheckout(top); ok && c.adminDir == entry && c.gitDir == w.gitDir {
			found = append(found, c)
		}
	}
	return found
}

// subdirectory returns a directory of the checkout.
func (c checkout) subdirectory(relative string) string { return filepath.Join(c.top, relative) }

// configPath returns the config file of the checkout at the place of path in another one. It returns false if a symbolic
// link is on the way, which may lead out of the checkout.
func (c checkout) configPath(relative, path string) (string, bool) {
	dir := c.subdirectory(relative)
	real, err := filepath.EvalSymlinks(dir)
	return filepath.Join(dir, filepath.Base(path)), err == nil && real == dir
}

// maxPointerSize is more than the length of any path.
const maxPointerSize = 16 << 10

// readPointer returns the path after prefix in one of git's pointer files (gitrepository-layout(5)), made absolute.
func readPointer(file, prefix string) (string, bool) {
	data, _, err := readRegular(file, maxPointerSize+1)
	path, ok := strings.CutPrefix(strings.TrimRight(string(data), "\r\n"), prefix)
	switch {
	case err != nil, len(data) > maxPointerSize, !ok, path == "", strings.ContainsAny(path, "\n\x00"):
		return "", false
	case !filepath.IsAbs(path):
		path = filepath.Join(filepath.Dir(file), path)
	}
	return filepath.Clean(path), true
}

// resolvePointer is readPointer without symbolic links; false if the path does not exist.
func resolvePointer(file, prefix string) (string, bool) {
	path, ok := readPointer(file, prefix)
	if !ok {
		return "", false
	}
	real, err := filepath.EvalSymlinks(path)
	return real, err == nil
}

// samePath reports whether two paths are one file, reached by the same name in the same physical directory.
func samePath(a, b string) bool {
	dirA, errA := filepath.EvalSymlinks(filepath.Dir(a))
	dirB, errB := filepath.EvalSymlinks(filepath.Dir(b))
	return errA == nil && errB == nil && dirA == dirB && filepath.Base(a) == filepath.Base(b)
}

// isOwnRepository reports whether a repository belongs to this user. Another user's could list any worktree; git refuses it
// too (safe.directory).
func isOwnRepository(dir string) bool {
	info, err := os.Stat(dir)
	return err == nil && info.IsDir() && isOwnedByUser(info)
}
