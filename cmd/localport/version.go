package main

import (
	"fmt"
	"runtime/debug"
	"strings"

	"golang.org/x/mod/semver"
)

// release is set by the linker for a release build.
var release = ""

// version is the release, else what the toolchain knows of the source.
func version() string {
	if release != "" {
		return release
	}
	info, ok := debug.ReadBuildInfo()
	if ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "0.1.0-dev"
}

// supersedes reports whether ours is a release, and newer than theirs. A version that was built on the way to a release
// replaces nothing.
func supersedes(ours, theirs string) bool {
	ours, theirs = canonical(ours), canonical(theirs)
	return semver.IsValid(ours) && semver.Prerelease(ours) == "" && semver.IsValid(theirs) && semver.Compare(ours, theirs) > 0
}

func canonical(version string) string { return "v" + strings.TrimPrefix(version, "v") }

type versionCmd struct{}

func (versionCmd) Run(a *app) error {
	_, err := fmt.Fprintln(a.out, "localport", version())
	return err
}
