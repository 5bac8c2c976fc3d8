package process

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/lockstate"
)

// startGrandchild starts a shell that is no child of this process. Closing stdin ends its read, and waitEnd returns when the kernel closes
// its descriptors.
func startGrandchild(t *testing.T, script string) (p lockstate.Process, stdin io.Closer, waitEnd func()) {
	t.Helper()
	inReader, inWriter, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	outReader, outWriter, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { inWriter.Close(); outReader.Close() })
	// A background process of a shell reads /dev/null, so its input is passed as another descriptor.
	cmd := exec.Command("sh", "-c", "sh -c '"+script+"' <&3 3<&- >/dev/null 2>&1 & echo $!")
	cmd.ExtraFiles = []*os.File{inReader, outWriter}
	out, err := cmd.Output()
	inReader.Close()
	outWriter.Close()
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	p, isAlive := lockstate.FindProcess(pid)
	if !isAlive {
		t.Fatalf("process %d does not run", pid)
	}
	return p, inWriter, func() { _, _ = outReader.Read(make([]byte, 1)) }
}

func TestExitObserver_LearnsHowAProcessOfAnotherParentEnds(t *testing.T) {
	for name, c := range map[string]struct {
		signal syscall.Signal
		want   string
	}{
		"killed":       {syscall.SIGKILL, "killed by SIGKILL"},
		"terminated":   {syscall.SIGTERM, "killed by SIGTERM"},
		"its own exit": {0, "exit status 3"},
	} {
		t.Run(name, func(t *testing.T) {
			p, stdin, waitEnd := startGrandchild(t, "read x; exit 3")
			o := ObserveExit(p)
			defer o.Close()
			if got := o.Reason(); got != "" {
				t.Errorf("while it runs: %q", got)
			}
			if c.signal != 0 {
				_ = syscall.Kill(p.PID, c.signal)
			} else {
				stdin.Close()
			}
			waitEnd()
			if got := o.Reason(); got != c.want {
				t.Errorf("it ended with %q, want %q", got, c.want)
			}
		})
	}
}

func TestReadOOMKills_ReadsBothVersionsOfControlGroups(t *testing.T) {
	for name, text := range map[string]string{
		"memory.events":      "low 0\nhigh 0\nmax 7\noom 3\noom_kill 2\noom_group_kill 1\n",
		"memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
	} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if n, err := readOOMKills(path); n != 2 || err != nil {
			t.Errorf("%s: %d, %v", name, n, err)
		}
		o := &ExitObserver{exitObserver{process: lockstate.Process{PID: 1 << 30}, pidfd: -1, counter: path}}
		if got := o.describeOOMKill(); got != ", probably out of memory: the kernel's OOM killer ended 2 processes of its control group" {
			t.Errorf("%s: %q", name, got)
		}
		if o.oomKills = 2; o.describeOOMKill() != "" {
			t.Errorf("%s: earlier kills are told: %q", name, o.describeOOMKill())
		}
	}
	if _, err := readOOMKills(filepath.Join(t.TempDir(), "missing")); err == nil {
		t.Error("a file that is not there has a count")
	}
}

// limitMemory makes a control group with a small limit for a process, and puts it there. False if this process may not make one.
func limitMemory(t *testing.T, pid, limit int) bool {
	t.Helper()
	dir := filepath.Join(filepath.Dir(oomCounterPath(os.Getpid())), "localport-test-"+strconv.Itoa(pid))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Log(err)
		return false
	}
	t.Cleanup(func() { _ = unix.Rmdir(dir) })
	for _, file := range []string{"memory.limit_in_bytes", "memory.max"} { // versions 1 and 2
		err := os.WriteFile(filepath.Join(dir, file), []byte(strconv.Itoa(limit)), 0)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
		}
		if err == nil {
			return true
		}
		t.Log(err)
	}
	return false
}

func TestExitObserver_TellsThatTheKernelEndedTheProcessForLackOfMemory(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), roleVariable+"=allocate")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	if !limitMemory(t, cmd.Process.Pid, 64<<20) {
		t.Log("this tests nothing without the right to make a control group with a memory limit")
		_ = cmd.Process.Kill()
		return
	}
	p, _ := lockstate.FindProcess(cmd.Process.Pid)
	o := ObserveExit(p)
	defer o.Close()
	stdin.Close() // it allocates now
	if err := lockstate.WaitExit(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if got := o.Reason(); !strings.HasPrefix(got, "killed by SIGKILL") || !strings.Contains(got, "out of memory") {
		t.Errorf("it ended with %q", got)
	}
}
