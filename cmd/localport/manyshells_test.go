package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/testdata/ports"
)

// TestShells_FiftyAtOnceShareOneSupervisor runs the hook's export for 50 processes at the same time, as if each were a shell that enters,
// and then kills all of them.
func TestShells_FiftyAtOnceShareOneSupervisor(t *testing.T) {
	t.Parallel()
	rounds := 5
	if testing.Short() {
		rounds = 1
	}
	w := newPatientEnv(t)
	port := ports.FreePort(t)
	root := w.allowedProject("linger = 0.1\n" + tcpConfig("web", port, serve(t, "127.0.0.1:0")))
	for range rounds {
		shells := make([]*exec.Cmd, 50)
		for i := range shells {
			shells[i] = exec.Command("sleep", "600")
			if err := shells[i].Start(); err != nil {
				t.Fatal(err)
			}
		}
		outcomes := make([]commandResult, len(shells))
		var exports sync.WaitGroup
		for i, sh := range shells {
			exports.Go(func() {
				outcomes[i] = w.localport(root, "export", "bash", "--pid", fmt.Sprint(sh.Process.Pid))
			})
		}
		exports.Wait()
		for _, o := range outcomes {
			if o.code != 0 || !strings.Contains(o.stdout, fmt.Sprint(port)) {
				t.Errorf("export: exit %d, %q %q", o.code, o.stdout, o.stderr)
			}
		}
		supervisor := w.supervisor(root)
		// It reads the file again after each export, unless another process has the file's lock.
		eventually(t, "the supervisor knows all leases", func() bool { return len(w.status(root).Leases) == len(shells) })
		// A shell that did not get the file's lock in time has given its lease to the supervisor, which writes it.
		eventually(t, "all leases are written", func() bool { return len(w.state(root).Leases) == len(shells) })
		if all := findSupervisors(t, root); len(all) != 1 {
			t.Errorf("%d supervisors run: %v", len(all), all)
		}
		for _, sh := range shells {
			_ = sh.Process.Kill()
			_ = sh.Wait()
		}
		w.waitExit(supervisor)
		w.checkNothingLeft(root, fmt.Sprintf("127.0.0.1:%d", port))
	}
}

// findSupervisors returns the supervisors of a project, found by their arguments.
func findSupervisors(t *testing.T, root string) []lockstate.Process {
	t.Helper()
	out, err := exec.Command("pgrep", "-f", "supervise.*"+root+"/").Output()
	if err != nil {
		t.Fatalf("pgrep: %v", err)
	}
	var found []lockstate.Process
	for line := range strings.FieldsSeq(string(out)) {
		var pid int
		if _, err := fmt.Sscan(line, &pid); err == nil {
			if p, ok := lockstate.FindProcess(pid); ok {
				found = append(found, p)
			}
		}
	}
	return found
}

// TestShells_LeavingAndReturningNeverFindsAClosedPort enters while the supervisor of the last visit is about to end: after an export, the
// port must answer, whichever supervisor holds it.
func TestShells_LeavingAndReturningNeverFindsAClosedPort(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	port := ports.FreePort(t)
	root := w.allowedProject("linger = 0.001\n" + tcpConfig("web", port, serve(t, "127.0.0.1:0")))
	pid := fmt.Sprint(os.Getpid())
	for range 25 {
		if o := w.localport(root, "export", "bash", "--pid", pid); o.code != 0 {
			t.Fatalf("entering: exit %d, %s", o.code, o.stderr)
		}
		if answer, err := ask(fmt.Sprintf("127.0.0.1:%d", port), "you"); answer != "hello you\n" {
			t.Fatalf("%q, %v", answer, err)
		}
		if o := w.localport("/", "export", "bash", "--pid", pid, "--root", root); o.code != 0 {
			t.Fatalf("leaving: exit %d, %s", o.code, o.stderr)
		}
	}
}
