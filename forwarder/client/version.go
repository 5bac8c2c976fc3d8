package client

import (
	"os"
	"strings"
	"time"

	"golang.org/x/mod/semver"
)

// Supersedes reports whether ours is a release, and newer than theirs. A pre-release supersedes nothing.
func Supersedes(ours, theirs string) bool {
	ours, theirs = canonicalVersion(ours), canonicalVersion(theirs)
	return semver.IsValid(ours) && semver.Prerelease(ours) == "" && semver.IsValid(theirs) && semver.Compare(ours, theirs) > 0
}

func canonicalVersion(v string) string { return "v" + strings.TrimPrefix(v, "v") }

// IsRelease reports whether a version names one build: not a pre-release, which may have many.
func IsRelease(version string) bool {
	version = canonicalVersion(version)
	return semver.IsValid(version) && semver.Prerelease(version) == ""
}

// BuildTime is when a program was built: its file's modification time. Zero if the file cannot be read. A process calls it when it starts:
// the file may be replaced later.
func BuildTime(exe string) time.Time {
	info, err := os.Stat(exe)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}
