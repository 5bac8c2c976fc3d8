package shellhook_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/localport-sh/localport/shellhook"
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

// What the hook starts, step by step: a fork and an exec for each export, and nothing else, whatever the user has by the names that a project
// sets. zsh alone forks to save a typed variable.
func TestHook_StartsOneProcessForEachExport(t *testing.T) {
	variables := map[string][]string{
		"bash": {"", "PROJECT=mine", "export PROJECT=mine", "declare -i PROJECT=7", "PROJECT=(a b)"},
		"zsh":  {"", "PROJECT=mine", "export PROJECT=mine"},
		"fish": {"", "set -g PROJECT mine", "set -gx PROJECT a b", "set -U PROJECT mine"},
	}
	for shell, settings := range variables {
		for _, setting := range settings {
			t.Run(strings.TrimSpace(shell+" "+setting), func(t *testing.T) {
				t.Parallel()
				tr, w := newTrace(t), newTestEnv(t)
				root, other, nested, outside := w.project("p"), w.project("other"), w.project("p/nested"), w.mkdir("outside")
				for _, dir := range []string{root, other, nested} {
					w.setLine(dir, startProcess(t, "localport-x").line(1))
				}
				s := w.startWith(shellpty.Config{Shell: shell, RC: setting + "\n" + w.rc(shell), Wrap: tr.wrap()})
				for _, step := range []struct {
					line    string
					exports int
				}{
					{"true", 0},
					{cd(outside), 0},
					{cd(root), 1},
					{"true", 0},
					{cd(w.mkdir("p/sub")), 0},
					{cd(nested), 1},
					{"true", 0},
					{cd(root), 1},
					{cd(other), 1},
					{"true", 0},
					{cd(outside), 1},
					{"true", 0},
					{"true", 0},
					{"true", 0},
					{"cd ..", 0},
					{cd(root), 1},
					{"touch .env", 1},
					{"true", 0},
					{cd(outside), 1},
					{"true", 0},
				} {
					before := len(tr.processes())
					s.Run(step.line)
					want := 2 * step.exports
					if strings.HasPrefix(step.line, "touch ") {
						want += 2
					}
					if got := tr.processes()[before:]; len(got) != want {
						t.Errorf("%q started %d processes and programs, want %d:\n%s", step.line, len(got), want, strings.Join(got, "\n"))
					}
				}
			})
		}
	}
}

// Beside a tool, the hook adds nothing to what the tool starts at a prompt where nothing changed.
func TestHook_StartsNoProcessBesideTools(t *testing.T) {
	for _, tool := range shellTools {
		if !slices.Contains([]string{"bash-preexec", "starship", "vscode", "starship and vscode"}, tool.name) {
			continue
		}
		t.Run(tool.shell+" "+tool.name, func(t *testing.T) {
			t.Parallel()
			tr, w := newTrace(t), newTestEnv(t)
			root := w.project("p")
			w.setLine(root, startProcess(t, "localport-x").line(1))
			tool.wrap = tr.wrap()
			steps := []struct {
				line    string
				exports int
			}{{"true", 0}, {"true", 0}, {cd(root), 1}, {"true", 0}, {"true", 0}, {cd(w.mkdir("p/sub")), 0}, {"true", 0}, {cd(w.dir), 1}, {"true", 0}, {"true", 0}}
			counts := func(hook string) (counts []int) {
				s := tool.start(t, w, tool.startupText(t, hook, "after"))
				for _, step := range steps {
					before := len(tr.processes())
					s.Run(step.line)
					counts = append(counts, len(tr.processes())-before)
				}
				s.Kill()
				return counts
			}
			bare, hooked := counts(""), counts(w.rc(tool.shell))
			for i, step := range steps {
				if hooked[i] != bare[i]+2*step.exports {
					t.Errorf("%q started %d processes and programs, without the hook %d, and an export is 2", step.line, hooked[i], bare[i])
				}
			}
		})
	}
}

// systemCallLimits are how many system calls a prompt where nothing changed makes at most; outside of a project, one more for each directory above.
// zsh blocks and unblocks signals with every command.
var systemCallLimits = map[string]struct{ inside, withOtherFiles, outside int }{
	"bash": {29, 35, 2},
	"zsh":  {36, 44, 18},
	"fish": {18, 24, 2},
}

func TestHook_MakesFewSystemCallsWhenNothingChanged(t *testing.T) {
	for shell, limits := range systemCallLimits {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			newTrace(t)
			sh, err := shellhook.Lookup(shell)
			if err != nil {
				t.Fatal(err)
			}
			p := newUnchangedPrompt(t)
			count := func(n int, isInside bool) int {
				t.Helper()
				path := filepath.Join(shellpty.NewDir(t), "trace")
				cmd := exec.Command("strace", append([]string{"-f", "-qq", "-o", path, shell}, repeatedCall(shell, p.setup(sh, isInside), "__localport_prompt", n)...)...)
				cmd.Env = p.env
				if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
					t.Fatalf("%v\n%s", err, out)
				}
				data, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				return bytes.Count(data, []byte("\n"))
			}
			expect := func(what string, isInside bool, limit int) {
				t.Helper()
				const prompts = 100
				calls := float64(count(prompts+1, isInside)-count(1, isInside)) / prompts
				if calls > float64(limit)+0.5 {
					t.Errorf("%s: a prompt makes %.2f system calls, want at most %d", what, calls, limit)
				}
			}
			expect("inside", true, limits.inside)
			expect("outside", false, limits.outside+strings.Count(p.dir, "/"))
			for _, name := range []string{".localport.local.toml", ".env"} {
				if err := os.WriteFile(filepath.Join(p.root, name), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			recordStamps(p.root, p.state)
			expect("inside, with .env", true, limits.withOtherFiles)
		})
	}
}
