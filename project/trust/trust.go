// Package trust records which projects the user has allowed, and with which contents. A project runs what its files
// say, so it does nothing before the user has allowed exactly these files.
package trust

import (
	"errors"
	"io/fs"
	"os"
	"slices"

	"github.com/localport-sh/localport/project"
)

// Verdict is the user's decision about a project.
type Verdict int

// The verdicts. Only Allowed lets a project act.
const (
	Unknown Verdict = iota // nothing about this path
	Changed                // it has been allowed, but with other contents
	Allowed
	Denied
)

func (v Verdict) String() string {
	switch v {
	case Changed:
		return "changed"
	case Allowed:
		return "allowed"
	case Denied:
		return "denied"
	}
	return "unknown"
}

// Store keeps the decisions: one file for each config file that was allowed or denied.
type Store struct {
	Dir string // $XDG_DATA_HOME/localport/trust; created by the first decision
}

// Ask returns whether f is allowed, and the files that the verdict is about: f itself or, in a linked git worktree without a
// .localport.local.toml or .env, f with that of the main checkout. It only reads, starts no process, and returns Allowed also for a worktree whose
// files are identical to those of another allowed checkout of its repository. If it cannot tell, the verdict is Unknown and
// the error says why.
func (s Store) Ask(f *project.Files) (Verdict, *project.Files, error) {
	tree, isLinked := findLinkedWorktree(f.Root)
	effective, err := withMainFiles(f, tree, isLinked)
	if err != nil {
		return Unknown, f, err
	}
	record, err := s.readRecord(f.Path)
	if err != nil {
		return Unknown, effective, err
	}
	switch digest := effective.Digest(); {
	case record.Denied:
		return Denied, effective, nil
	case slices.Contains(record.Allowed, digest):
		return Allowed, effective, nil
	case isLinked && !record.isUnusable && s.isAllowedElsewhere(tree, f.Path, digest):
		return Allowed, effective, nil
	case len(record.Allowed) > 0:
		return Changed, effective, nil
	}
	return Unknown, effective, nil
}

// Allow records that f is allowed, with the files that Ask returns. Contents that were allowed before stay allowed:
// switching git branches and back needs no new decision. A denial is removed.
func (s Store) Allow(f *project.Files) error {
	tree, isLinked := findLinkedWorktree(f.Root)
	effective, err := withMainFiles(f, tree, isLinked)
	if err != nil {
		return err
	}
	return s.updateRecord(f.Path, func(r *record) { r.allow(effective.Digest()) })
}

// Deny records that f is denied whatever its contents, and removes what was allowed before, with its copy.
func (s Store) Deny(f *project.Files) error {
	if err := s.updateRecord(f.Path, func(r *record) { r.Allowed, r.Denied = nil, true }); err != nil {
		return err
	}
	return s.removeCopy(f.Path)
}

// Forget removes the decision about a config file that does not exist any more.
func (s Store) Forget(path string) error {
	err := os.Remove(s.recordPath(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// withMainFiles returns f or, in a linked worktree without a .localport.local.toml or .env, f with that of the main checkout.
func withMainFiles(f *project.Files, tree worktree, isLinked bool) (*project.Files, error) {
	if !isLinked {
		return f, nil
	}
	main, ok := tree.mainCheckout()
	if !ok {
		return f, nil
	}
	return f.WithMissingFrom(main.subdirectory(tree.subdir))
}

// MainCheckoutDir returns the directory of the main checkout from which Ask takes the files that root lacks; "" if root is in no linked
// git worktree.
func MainCheckoutDir(root string) string {
	tree, isLinked := findLinkedWorktree(root)
	if !isLinked {
		return ""
	}
	main, ok := tree.mainCheckout()
	if !ok {
		return ""
	}
	return main.subdirectory(tree.subdir)
}

// isAllowedElsewhere reports whether another checkout of the tree's repository is allowed with the same digest.
func (s Store) isAllowedElsewhere(tree worktree, path, digest string) bool {
	for _, other := range tree.otherCheckouts() {
		candidate, ok := other.configPath(tree.subdir, path)
		if !ok {
			continue
		}
		if r, err := s.readRecord(candidate); err == nil && !r.Denied && slices.Contains(r.Allowed, digest) {
			return true
		}
	}
	return false
}
