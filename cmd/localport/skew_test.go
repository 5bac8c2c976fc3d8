package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/localport-sh/localport/testdata/ports"
)

// withBuildOf returns the same testEnv with a localport that was built at another time.
func (w *testEnv) withBuildOf(built time.Time) *testEnv {
	w.t.Helper()
	other := *w
	other.exe = filepath.Join(w.home, "another", "localport")
	err := os.Mkdir(filepath.Dir(other.exe), 0o700)
	if err == nil {
		// Not by this process: a program that another test starts meanwhile would inherit the file, and keep it from being run (ETXTBSY).
		err = exec.Command("cp", w.exe, other.exe).Run()
	}
	if err == nil {
		err = os.Chtimes(other.exe, built, built)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return &other
}

func TestStatus_TellsThatTheSupervisorIsAnotherBuild(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
	w.withBuildOf(time.Date(2026, 1, 31, 12, 0, 0, 0, time.Local)).mustRun(root, "start")
	if out := w.mustRun(root, "status"); !strings.Contains(out, "warning: the supervisor is the 0.5.0-dev build of 2026-01-31 12:00:00, this command is that of ") {
		t.Errorf("status of another build:\n%s", out)
	}
	w.mustRun(root, "daemon", "restart") // the advice
	if out := w.mustRun(root, "status"); strings.Contains(out, "warning") {
		t.Errorf("status of the same build:\n%s", out)
	}
	w.withRelease("1.2.0").mustRun(root, "exec", "--", "true") // takes over, because a development build is older
	if out := w.mustRun(root, "status"); !strings.Contains(out, "warning: the supervisor is version 1.2.0, which is newer than this one, 0.5.0-dev\n") {
		t.Errorf("status of another version:\n%s", out)
	}
	w.stopProject(root)
}
