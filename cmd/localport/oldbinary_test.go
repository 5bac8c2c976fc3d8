package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/localport-sh/localport/testdata/shellpty"
)

// oldBinaryVariable has the path of the localport that .ci/old-binary has built. Without it the tests run that script.
const oldBinaryVariable = "LOCALPORT_TEST_OLD_BINARY"

// oldRelease is the release that .ci/old-binary builds.
const oldRelease = "1.0.0"

// buildOldBinary returns the path of the binary; it builds at most once in this process.
var buildOldBinary = sync.OnceValues(func() (string, error) {
	if path := os.Getenv(oldBinaryVariable); path != "" {
		return path, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	path, err := exec.Command("../../.ci/old-binary", filepath.Join(cache, "localport-test")).Output()
	return strings.TrimSpace(string(path)), err
})

// oldBinary returns the path of a localport of an earlier commit, with whose hooks, files and processes this one must be compatible.
func oldBinary(t testing.TB) string {
	t.Helper()
	path, err := buildOldBinary()
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		if failed.ExitCode() == 77 {
			t.Skipf("no earlier localport: %s", failed.Stderr)
		}
		t.Fatalf("build an earlier localport: %v: %s", err, failed.Stderr)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// newOldTestEnv returns a testEnv with the old binary as localport, at a path where upgrade replaces it by this program as the release.
func newOldTestEnv(t testing.TB, release string) *testEnv {
	t.Helper()
	w := newTestEnv(t)
	if shellpty.CoverDir() == "" {
		// Without GOCOVERDIR, export would exit before runLocalport sets the release (see prompt's init).
		w.env = append(w.env, "GOCOVERDIR="+t.TempDir())
	}
	w.exe = filepath.Join(w.home, "bin", "localport"+releaseSeparator+release)
	if err := os.Mkdir(filepath.Dir(w.exe), 0o755); err != nil {
		t.Fatal(err)
	}
	install(t, oldBinary(t), w.exe)
	return w
}

// upgrade replaces the old binary by this program, as package managers and go install do.
func (w *testEnv) upgrade() {
	w.t.Helper()
	install(w.t, ownExecutable(w.t), w.exe)
}

// withCurrentBinary returns the same testEnv with this program as localport, as a release, at another path.
func (w *testEnv) withCurrentBinary(release string) *testEnv {
	w.t.Helper()
	other := *w
	other.exe = ownExecutable(w.t)
	return other.withRelease(release)
}

// install renames a copy of a program to a path; processes that run the old file continue. A child process writes the copy: if this
// process did, children that it forks meanwhile would inherit the file, and a file that is open for writing cannot be run.
func install(t testing.TB, program, path string) {
	t.Helper()
	if out, err := exec.Command("cp", program, path+".new").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}
