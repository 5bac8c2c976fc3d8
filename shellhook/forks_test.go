package shellhook_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/localport-sh/localport/testdata/shellpty"
)

// trace is the output of strace for a shell and its descendants. strace writes a line before the system call returns, so that the output
// is complete when the shell prompts.
type trace struct {
	t    *testing.T
	path string
}

func newTrace(t *testing.T) trace {
	t.Helper()
	path, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed")
	}
	if err := exec.Command(path, "-o", os.DevNull, "true").Run(); err != nil {
		t.Skip("strace may not trace here")
	}
	return trace{t, filepath.Join(shellpty.NewDir(t), "trace")}
}

func (tr trace) wrap() []string {
	return []string{"strace", "-f", "-qq", "-e", "trace=clone,clone3,fork,vfork,execve", "-o", tr.path}
}

var processStartPattern = regexp.MustCompile(`(?m)^.*\b(clone3?|v?fork|execve)\(.*$`)

// processes returns the lines for the processes and programs started so far, without threads, which fish starts.
func (tr trace) processes() (lines []string) {
	tr.t.Helper()
	data, err := os.ReadFile(tr.path)
	if err != nil {
		tr.t.Fatal(err)
	}
	for _, line := range processStartPattern.FindAllString(string(data), -1) {
		if !strings.Contains(line, "CLONE_THREAD") {
			lines = append(lines, line)
		}
	}
	return lines
}

func TestHook_StartsNoProcessWhenNothingChanged(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string, w *testEnv) {
		tr := newTrace(t)
		root, sub := w.project("p"), w.mkdir("p/sub/deep")
		one, two := w.mkdir("one"), w.mkdir("two/deep")
		w.write(filepath.Join(root, ".env"))
		w.setLine(root, startProcess(t, "localport-x").line(1))
		s := w.startWith(shellpty.Config{Shell: shell, RC: w.rc(shell), Wrap: tr.wrap()})

		expectProcesses := func(want int, lines ...string) {
			t.Helper()
			before := len(tr.processes())
			for _, line := range lines {
				s.Run(line)
			}
			if got := tr.processes()[before:]; len(got) != want {
				t.Errorf("%q started processes, want %d:\n%s", lines, want, strings.Join(got, "\n"))
			}
		}
		expectProcesses(0, "true", "true", cd(one), cd(two), "cd ..", "true", "cd /", cd(w.dir), "true")
		expectProcesses(2, cd(sub)) // one fork and one exec, for export
		expectProcesses(0, "true", "true", cd(root), "true", cd(sub), "cd ..", "true", "true")
		set := map[string]string{"bash": "export TOKEN=%s", "zsh": "export TOKEN=%s", "fish": "set -gx TOKEN %s"}[shell]
		expectProcesses(2, fmt.Sprintf(set, "x")) // the project uses it
		expectProcesses(0, "true", fmt.Sprintf(set, "x"), "true")
		expectProcesses(2, cd(one))
		expectProcesses(0, "true", cd(two), fmt.Sprintf(set, "y"), "true")
	})
}
