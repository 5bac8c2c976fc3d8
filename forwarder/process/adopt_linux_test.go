package process

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/lockstate"
)

func TestAdoptOrphans_ReapsOrphansAndLeavesChildrenToTheirWaiters(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := AdoptOrphans(ctx); err != nil {
			t.Error(err)
		}
	})
	defer wg.Wait()
	defer cancel()
	waitForSubreaper(t)
	orphanFifo, leaderFifo := makeFifo(t)+"/fifo", makeFifo(t)+"/fifo"
	// The leader ends after the other process has left its group: what is in the group is killed when the leader ends. (That is why it is not setsid -f.)
	c := startShell(t, `setsid sh -c 'echo $$; read x <"$1"' sh "$1" & read x <"$2"`, orphanFifo, leaderFifo)
	orphan := c.nextProcess(t)
	writeFifo(t, leaderFifo)
	waitClosed(t, c.Done())
	if e, ok := readTableEntry(orphan.PID); !ok || e.parent != os.Getpid() {
		t.Fatalf("the orphan is %+v, not a child of %d", e, os.Getpid())
	}
	writeFifo(t, orphanFifo)
	// A child of exec.Cmd that ends at the same time is waited for by its own waiter.
	if err := exec.CommandContext(t.Context(), "true").Run(); err != nil {
		t.Error(err)
	}
	for {
		if _, exists := readTableEntry(orphan.PID); !exists {
			return
		}
		select {
		case <-t.Context().Done():
			t.Fatal("the orphan stays a zombie")
		case <-time.After(time.Millisecond):
		}
	}
}

// waitForSubreaper waits until orphans become children of this process.
func waitForSubreaper(t *testing.T) {
	t.Helper()
	for {
		var isSubreaper int32
		if err := unix.Prctl(unix.PR_GET_CHILD_SUBREAPER, uintptr(unsafe.Pointer(&isSubreaper)), 0, 0, 0); err != nil {
			t.Fatal(err)
		}
		if isSubreaper != 0 {
			return
		}
		select {
		case <-t.Context().Done():
			t.Fatal("orphans are not adopted")
		case <-time.After(time.Millisecond):
		}
	}
}

// writeFifo ends a shell's "read x <fifo".
func writeFifo(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("end\n"), 0); err != nil {
		t.Fatal(err)
	}
}

func TestKillOrphans_KillsWhatTheRunHasRecorded(t *testing.T) {
	dir, err := os.MkdirTemp("", "lprun") //nolint:usetesting // t.TempDir is too long for the path of a socket
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	t.Setenv("XDG_RUNTIME_DIR", dir)
	run, err := lockstate.CreateRunDir("recorded")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = run.Remove() }()
	start := func() (*exec.Cmd, lockstate.Process) {
		cmd := exec.CommandContext(t.Context(), "sleep", "1000")
		cmd.Env = []string{}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd, findProcess(t, fmt.Sprint(cmd.Process.Pid))
	}
	recorded, p := start()
	other, q := start()
	defer func() {
		_ = other.Process.Kill()
		_ = other.Wait()
	}()
	q.Start++ // as if the pid had belonged to another process
	subdirectory := run.Path + "/1"
	if err := os.Mkdir(subdirectory, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := RecordDetached(subdirectory, []Detached{{Process: p}, {Process: q}}); err != nil {
		t.Fatal(err)
	}
	if killed, err := KillOrphans("recorded"); err != nil || killed != 1 {
		t.Errorf("killed %d, %v", killed, err)
	}
	if err := recorded.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("the recorded process: %v", err)
	}
	if !(lockstate.Process{PID: other.Process.Pid, Start: q.Start - 1}).IsAlive() {
		t.Error("a process with another start time was killed")
	}
}
