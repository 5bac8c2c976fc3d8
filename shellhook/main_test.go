package shellhook_test

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

// TestMain lets the test binary act as other programs: localport, when it is called by that name, and a process that
// runs until its standard input ends.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "localport" {
		os.Exit(runFakeLocalport(os.Args[1:]))
	}
	if len(os.Args) > 1 && os.Args[1] == "wait-for-stdin" {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}
