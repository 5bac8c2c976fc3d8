// Package version says which version of localport this program is.
package version

import "runtime/debug"

// Release is set by the linker for a release build.
var Release = ""

// Own returns the version of this program: Release or, if it is empty, the module's version that go install has recorded, or
// "0.5.0-dev".
func Own() string {
	if Release != "" {
		return Release
	}
	info, ok := debug.ReadBuildInfo()
	if ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "0.5.0-dev"
}
