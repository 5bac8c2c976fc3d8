// Package version is which localport this is.
package version

import (
	"runtime/debug"
	"strings"

	"golang.org/x/mod/semver"
)

// Release is set by the linker for a release build.
var Release = ""

// Own is the release, else what the toolchain knows of the source.
func Own() string {
	if Release != "" {
		return Release
	}
	info, ok := debug.ReadBuildInfo()
	if ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "0.1.0-dev"
}

// Supersedes reports whether ours is a release, and newer than theirs. A version that was built on the way to a release
// replaces nothing.
func Supersedes(ours, theirs string) bool {
	ours, theirs = canonical(ours), canonical(theirs)
	return semver.IsValid(ours) && semver.Prerelease(ours) == "" && semver.IsValid(theirs) && semver.Compare(ours, theirs) > 0
}

func canonical(v string) string { return "v" + strings.TrimPrefix(v, "v") }
