package shellhook_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/localport-sh/localport/testdata/shellpty"
)

// process is a running process, with its start time from /proc/PID/stat.
type process struct {
	cmd   *exec.Cmd
	pid   int
	start string
}

func startProcess(t *testing.T, name string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(shellpty.NewDir(t), name)
	if err := os.Symlink(self, path); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "wait-for-stdin")
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = io.Discard
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd, pid: cmd.Process.Pid, start: "0"}
	t.Cleanup(p.end)
	if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid)); err == nil {
		text := string(stat)
		p.start = strings.Fields(text[strings.LastIndexByte(text, ')')+1:])[19]
	}
	return p
}

func (p *process) end() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

func (p *process) line(n int) string { return fmt.Sprintf("%d %d %s", n, p.pid, p.start) }

func TestHook_DetectsAChangedLine(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string, w *testEnv) {
		root := w.project("p")
		s := w.start(shell)
		s.Run(cd(root))
		for _, line := range []string{"1 0 0", "2 0 0", "1 0 0"} {
			w.setLine(root, line)
			w.expectExports(s, "true", 1)
			w.expectQuiet(s)
		}
		if err := os.Remove(filepath.Join(stateDir(filepath.Dir(w.exe), root), "prompt")); err != nil {
			t.Fatal(err)
		}
		w.expectExports(s, "true", 1)
		w.expectQuiet(s)

		w.setLine(root, "3 0 0")
		w.expectExports(s, "cd .", 1) // at a cd as well
		s.Run(cd(w.dir))
		w.setLine(root, "4 0 0")
		w.expectQuiet(s) // the shell has left the project
	})
}

// A named pipe would block a shell that reads it.
func TestHook_IgnoresALineThatIsNotARegularFile(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string, w *testEnv) {
		root := w.project("p")
		s := w.start(shell)
		s.Run(cd(root))
		w.setLine(root, "1 0 0")
		w.expectExports(s, "true", 1)
		path := filepath.Join(stateDir(filepath.Dir(w.exe), root), "prompt")
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
		w.expectExports(s, "true", 1)
		w.expectQuiet(s)
	})
}

func TestHook_StopsExportingIfTheReasonPersists(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string, w *testEnv) {
		root := w.project("p")
		dead := startProcess(t, "localport-x")
		dead.end()
		s := w.start(shell)
		s.Run(cd(root))
		w.setLine(root, dead.line(1))
		s.Run("true") // the line is new
		if shell != "fish" || runtime.GOOS == "linux" {
			for range 3 {
				w.expectExports(s, "true", 1)
			}
		}
		w.expectQuiet(s)
		w.setLine(root, "2 0 0")
		w.expectExports(s, "true", 1)
		w.expectQuiet(s)
	})
}

func TestHook_DoesNotRepeatAFailedExportAtEveryPrompt(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string, w *testEnv) {
		root := w.project("p")
		fix := w.setBehaviour("fail", "")
		s := w.start(shell)
		w.expectExports(s, cd(root), 1)
		w.expectQuiet(s)
		w.expectQuiet(s)
		fix()
		w.expectQuiet(s)
		w.expectExports(s, "cd ..", 1) // the failed export may have entered the project before it failed: it printed nothing
		w.expectExports(s, cd(root), 1)
		if got := projectOfShell(s); got != root {
			t.Errorf("PROJECT is %q, want %q", got, root)
		}

		defer w.setBehaviour("fail", "")()
		w.write(filepath.Join(root, ".env"))
		w.expectExports(s, "true", 1)
		w.expectQuiet(s)
	})
}

func TestHook_ShowsTheProgramsMessages(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string, w *testEnv) {
		defer w.setBehaviour("say", "localport: not allowed\n")()
		root := w.project("p")
		s := w.start(shell)
		s.Run(cd(root))
		if out := s.Output(); out != "localport: not allowed" {
			t.Errorf("the terminal showed %q", out)
		}
	})
}

// interruptExport types a line, Ctrl-C when it runs an export, which must hang, and then what follows.
func (w *testEnv) interruptExport(s *shellpty.Shell, line, follows string) {
	w.t.Helper()
	release := w.setBehaviour("hang", "")
	before := len(w.recordedExports())
	s.Type(line + "\r")
	deadline := time.Now().Add(20 * time.Second)
	for len(w.recordedExports()) == before { // the shell is blocked, and cannot say when the export has started
		if time.Now().After(deadline) {
			w.t.Fatalf("no export; on the screen:\n%s", s.Screen())
		}
		runtime.Gosched()
	}
	release()
	calls := w.recordedExports()
	interrupt(s, calls[len(calls)-1].Process)
	s.Type(follows)
	s.AwaitPrompt()
}

// interrupt types Ctrl-C until a process has ended: a shell may not have made it the one that gets the terminal's signals yet.
func interrupt(s *shellpty.Shell, pid int) {
	for isAlive := true; isAlive; {
		s.Type("\x03")
		for again := time.Now().Add(time.Second); isAlive && time.Now().Before(again); {
			isAlive = syscall.Kill(pid, 0) == nil
			runtime.Gosched()
		}
	}
}

func TestHook_HangingExportCanBeInterrupted(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string, w *testEnv) {
		root, sub := w.project("p"), w.mkdir("p/sub")
		for _, dir := range []string{root, sub} {
			s := w.start(shell)
			w.interruptExport(s, cd(dir), "")
			if out := s.Output(); strings.Contains(out, "localport") {
				t.Errorf("the interruption printed %q", out)
			}
			w.expectQuiet(s) // the prompt is there at once
			w.expectExports(s, advanceClock(shell, 5), 1)
			if got := projectOfShell(s); got != root {
				t.Errorf("PROJECT is %q, want %q", got, root)
			}
			w.expectQuiet(s)

			w.interruptExport(s, cd(w.dir), "")
			w.expectQuiet(s)
			if got := projectOfShell(s); got != root {
				t.Errorf("PROJECT is %q, want %q", got, root)
			}
			w.expectExports(s, advanceClock(shell, 5), 1)
			if got := projectOfShell(s); got != "" {
				t.Errorf("after leaving PROJECT is %q", got)
			}
			w.expectExports(s, advanceClock(shell, 100), 0)
		}
	})
}

// An interrupted export may have entered the project: the next one must learn where, to release the lease.
func TestHook_LeavesAProjectOfAnInterruptedExport(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string, w *testEnv) {
		one, two, sub := w.project("one"), w.project("two"), w.mkdir("two/it's a sub")
		s := w.start(shell)
		w.interruptExport(s, cd(one), "")
		w.interruptExport(s, cd(sub), "")
		w.expectExports(s, cd(w.dir), 1)
		calls := w.recordedExports()
		if got := calls[0].Unfinished; got != "" {
			t.Errorf("the first export has --unfinished=%q", got)
		}
		if got := calls[len(calls)-1].Unfinished; got != one+"\n"+sub+"\n" {
			t.Errorf("the last export has --unfinished=%q", got)
		}
		w.expectQuiet(s)
		w.expectExports(s, cd(w.mkdir("other")), 0)
		w.expectExports(s, cd(two), 1)
		if calls := w.recordedExports(); calls[len(calls)-1].Unfinished != "" {
			t.Errorf("after the export it has --unfinished=%q", calls[len(calls)-1].Unfinished)
		}
	})
}
