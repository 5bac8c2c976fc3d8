// Package trust remembers which projects the user has allowed, and with which bytes. A project acts on what its files
// say, so none does anything before its user has said that these files may.
package trust

import (
	"slices"

	"github.com/localport-sh/localport/project"
)

// Verdict is what the user has said about a project.
type Verdict int

// The verdicts. Only Allowed lets a project act.
const (
	Unknown Verdict = iota // nothing about this path
	Changed                // it has been allowed, but not with these bytes
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

// Store is where the answers are kept: one file for each config file ever asked about.
type Store struct {
	Dir string // $XDG_DATA_HOME/localport/trust; made when something is first remembered
}

// Ask says whether f may act, and returns the files that would: f itself or, in a linked git worktree without a .env,
// f with the .env of the main checkout. It reads only, starts nothing, and answers Allowed also for a worktree whose
// files another allowed checkout of its repository has byte for byte. Where it cannot tell, the verdict is Unknown and
// the error says why.
func (s Store) Ask(f *project.Files) (Verdict, *project.Files, error) {
	tree, linked := findLinkedWorktree(f.Root)
	acting, err := withMainDotEnv(f, tree, linked)
	if err != nil {
		return Unknown, f, err
	}
	own, err := s.readRecord(f.Path)
	if err != nil {
		return Unknown, acting, err
	}
	switch digest := acting.Digest(); {
	case own.Denied:
		return Denied, acting, nil
	case slices.Contains(own.Allowed, digest):
		return Allowed, acting, nil
	case linked && !own.isUnusable && s.allowedElsewhere(tree, f.Path, digest):
		return Allowed, acting, nil
	case len(own.Allowed) > 0:
		return Changed, acting, nil
	}
	return Unknown, acting, nil
}

// Allow remembers that the user lets f act, as Ask would return it. What was allowed before at the same path stays so:
// switching git branches and back asks nothing. A denial is forgotten.
func (s Store) Allow(f *project.Files) error {
	tree, linked := findLinkedWorktree(f.Root)
	acting, err := withMainDotEnv(f, tree, linked)
	if err != nil {
		return err
	}
	return s.updateRecord(f.Path, func(r *record) { r.allow(acting.Digest()) })
}

// Deny remembers that the user lets f act with no bytes at all, and forgets what was allowed before.
func (s Store) Deny(f *project.Files) error {
	return s.updateRecord(f.Path, func(r *record) { r.Allowed, r.Denied = nil, true })
}

// withMainDotEnv is f as it acts in the worktree that it lies in.
func withMainDotEnv(f *project.Files, tree worktree, linked bool) (*project.Files, error) {
	if !linked || f.DotEnv != nil {
		return f, nil
	}
	main, ok := tree.mainCheckout()
	if !ok {
		return f, nil
	}
	acting := *f
	if err := acting.LoadDotEnv(main.subdirectory(tree.relative)); err != nil {
		return nil, err
	}
	if acting.DotEnv == nil {
		return f, nil
	}
	return &acting, nil
}

// allowedElsewhere reports whether another checkout of the tree's repository is allowed with these very bytes.
func (s Store) allowedElsewhere(tree worktree, path, digest string) bool {
	for _, other := range tree.otherCheckouts() {
		candidate, ok := other.configPath(tree.relative, path)
		if !ok {
			continue
		}
		if r, err := s.readRecord(candidate); err == nil && !r.Denied && slices.Contains(r.Allowed, digest) {
			return true
		}
	}
	return false
}
