package coredump

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// crashVariable makes the test binary crash: after Disable, if its value is "disabled".
const crashVariable = "LOCALPORT_TEST_CRASH"

func TestMain(m *testing.M) {
	switch os.Getenv(crashVariable) {
	case "":
		os.Exit(m.Run())
	case "disabled":
		if err := Disable(); err != nil {
			panic(err)
		}
	}
	panic("a crash")
}

func TestDisable_CrashWritesNoCore(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for mode, mayDump := range map[string]bool{"enabled": true, "disabled": false} {
		dir := t.TempDir()
		cmd := exec.Command("/bin/sh", "-c", `ulimit -c "$(ulimit -H -c)"; exec "$0"`, exe)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), crashVariable+"="+mode, "GOTRACEBACK=crash")
		out, _ := cmd.CombinedOutput()
		status := cmd.ProcessState.Sys().(syscall.WaitStatus)
		if !bytes.Contains(out, []byte("panic: a crash")) || !status.Signaled() {
			t.Fatalf("%s: %v: %s", mode, cmd.ProcessState, out)
		}
		cores, _ := filepath.Glob(filepath.Join(dir, "core*"))
		t.Logf("%s: %v, files: %v", mode, cmd.ProcessState, cores)
		if !mayDump && (status.CoreDump() || len(cores) > 0) {
			t.Errorf("%v, files: %v", cmd.ProcessState, cores)
		}
	}
}

// A child gets the limit, and can raise it.
func TestDisable_ChildrenCanRaiseTheLimit(t *testing.T) {
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &before); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Setrlimit(syscall.RLIMIT_CORE, &before) }()
	if err := Disable(); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("/bin/sh", "-c", `ulimit -S -c; ulimit -S -c "$(ulimit -H -c)"`).CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "0\n") {
		t.Errorf("got %q, %v", out, err)
	}
}
