package client

import (
	"strings"

	"golang.org/x/mod/semver"
)

// supersedes reports whether ours is a release, and newer than theirs. A pre-release supersedes nothing.
func supersedes(ours, theirs string) bool {
	ours, theirs = canonicalVersion(ours), canonicalVersion(theirs)
	return semver.IsValid(ours) && semver.Prerelease(ours) == "" && semver.IsValid(theirs) && semver.Compare(ours, theirs) > 0
}

func canonicalVersion(v string) string { return "v" + strings.TrimPrefix(v, "v") }
