// Package version is which localport this is.
package version

import "runtime/debug"

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
