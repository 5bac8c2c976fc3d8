package shellhook_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/localport-sh/localport/shellhook"
	"github.com/localport-sh/localport/testdata/shellpty"
)

// shellSyntax is what the tests of the shells that are not like bash need to say in them.
type shellSyntax struct {
	rc      func(exe string) string
	noop    string                          // does nothing, without a process
	setenv  string                          // a format for a name and a plain value
	unset   string                          // a format for a name
	status  string                          // a format for a command that ends with this exit status; "" if the shell has none
	advance string                          // a format that makes the hook's clock advance by some seconds
	then    string                          // a format for a cd that exports the value of PROJECT after it as THEN; "" if the shell looks at prompts only
	source  func(path string) string        // evaluates a file as the hook evaluates the output of export
	script  func(paths []string) []string   // the arguments of a shell that evaluates the files and becomes "env -0"
	quote   func(dir string) string         // quotes a directory for cd
	keeps   func(value, locale string) bool // whether the shell can hold this value
	chunk   int                             // how many bytes of statements that shell evaluates at once; 0: all
	export  int                             // the processes and programs that an export starts
}

var otherShells = map[string]shellSyntax{
	"tcsh": {
		rc: func(exe string) string {
			return "set test_exe = " + quoteOf("tcsh", exe) + "\nalias test_hook 'exec $test_exe:q hook tcsh'\n" + "eval \"`test_hook`\"\n"
		},
		noop: ":", setenv: "setenv %s %s", unset: "unsetenv %s", status: "sh -c 'exit %d'", advance: "@ __localport_since -= %d",
		source: func(path string) string { return "eval \"`cat " + path + "`\"" },
		script: func(paths []string) []string {
			return []string{"-f", "-c", "eval \"`cat " + strings.Join(paths, "`\"; eval \"`cat ") + "`\"; exec env -0"}
		},
		quote:  func(dir string) string { return quoteOf("tcsh", dir) },
		keeps:  func(string, string) bool { return true },
		export: 2,
		chunk:  1000, // in longer output, tcsh reads a byte that is invalid in the locale wrongly at the end of its buffer
	},
	"elvish": {
		rc: func(exe string) string {
			return "eval ((external " + quoteOf("elvish", exe) + ") hook elvish | slurp)\"edit:add-var test_evaluate~ $__localport_eval~\"\n"
		},
		then: "%s; set-env THEN $E:PROJECT",
		noop: "nop", setenv: "set-env %s %s", unset: "unset-env %s", advance: "test_evaluate 'set since = (- $since %d)'",
		source: func(path string) string { return "test_evaluate (slurp < " + path + ")" },
		script: func(paths []string) []string {
			return []string{"-norc", "-c", "eval (slurp < " + paths[0] + "); exec env -0"}
		},
		quote:  func(dir string) string { return quoteOf("elvish", dir) },
		keeps:  func(string, string) bool { return true },
		export: 2,
	},
	"nu": {
		rc: func(exe string) string {
			hook, err := exec.Command(exe, "hook", "nu").Output()
			if err != nil {
				panic(err)
			}
			return string(hook)
		},
		noop: "ignore", setenv: "$env.%s = '%s'", unset: "hide-env %s", status: "^sh -c 'exit %d'", advance: "$env.__localport.since -= %d",
		source: func(path string) string { return "__localport_apply (open --raw " + path + ")" },
		script: func(paths []string) []string {
			hook := filepath.Join(filepath.Dir(paths[0]), "hook.nu")
			return []string{"--no-config-file", "-c", "source " + hook + "; __localport_apply (open --raw " + paths[0] + "); exec env -0"}
		},
		quote: func(dir string) string {
			text, _ := json.Marshal(dir)
			return regexp.MustCompile(`\\u(\w{4})`).ReplaceAllString(string(text), `\u{$1}`)
		},
		keeps:  func(value, _ string) bool { return utf8.ValidString(value) },
		export: 2,
	},
}

// quoteOf returns a value as the shell's Export quotes it.
func quoteOf(shell, value string) string {
	sh, err := shellhook.Lookup(shell)
	if err != nil {
		panic(err)
	}
	_, quoted, _ := strings.Cut(strings.TrimSuffix(sh.Export("x", value), ";\n"), " x ")
	return quoted
}

func eachOtherShell(t *testing.T, test func(t *testing.T, shell string, syntax shellSyntax, w *testEnv)) {
	t.Helper()
	for _, shell := range slices.Sorted(maps.Keys(otherShells)) {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			test(t, shell, otherShells[shell], newTestEnv(t))
		})
	}
}

func (s shellSyntax) cd(dir string) string { return "cd " + s.quote(dir) }

func (w *testEnv) expectProject(s *shellpty.Shell, want string) {
	w.t.Helper()
	if got := s.Environ()["PROJECT"]; got != want {
		w.t.Errorf("PROJECT is %q, want %q", got, want)
	}
}

// expectQuietPrompt fails the test unless a prompt after a builtin runs no export and prints nothing.
func (w *testEnv) expectQuietPrompt(s *shellpty.Shell, syntax shellSyntax) {
	w.t.Helper()
	w.expectExports(s, syntax.noop, 0)
	if out := s.Output(); out != "" {
		w.t.Errorf("a prompt printed %q", out)
	}
}

func TestOtherShells_ExportOnceOnEnteringAndLeaving(t *testing.T) {
	eachOtherShell(t, func(t *testing.T, shell string, syntax shellSyntax, w *testEnv) {
		root, sub := w.project("p"), w.mkdir("p/a/b")
		inner := w.project("p/deep/inner")
		s := w.start(shell)
		if calls := w.recordedExports(); calls != nil {
			t.Fatalf("exported outside of any project: %v", calls)
		}
		before := s.Environ()
		w.expectExports(s, syntax.cd(sub), 1)
		w.expectProject(s, root)
		w.expectQuietPrompt(s, syntax)
		w.expectExports(s, "cd ..", 0)
		w.expectExports(s, syntax.cd(root), 0)
		w.expectExports(s, syntax.cd(inner), 1)
		w.expectProject(s, inner)
		w.expectExports(s, syntax.cd(root), 1)
		w.expectProject(s, root)
		w.expectQuietPrompt(s, syntax)
		w.expectExports(s, syntax.cd(w.dir), 1)
		w.expectExports(s, "cd /", 0)
		w.expectExports(s, syntax.cd(w.dir), 0)
		after := s.Environ()
		for _, name := range []string{"_", "OLDPWD", "PWD", "CMD_DURATION_MS", "shellpty_number"} {
			delete(before, name)
			delete(after, name)
		}
		if !maps.Equal(before, after) {
			t.Errorf("the environment was\n%q\nand is\n%q", before, after)
		}
		calls := w.recordedExports()
		for i, c := range calls {
			if c.PID != s.PID() || c.Stdin != os.DevNull {
				t.Errorf("call %d has --pid %d (the shell is %d) and standard input %q", i, c.PID, s.PID(), c.Stdin)
			}
			for _, entry := range c.Env {
				if strings.Contains(entry, "__localport") {
					t.Errorf("exported: %s", entry)
				}
			}
		}
		if calls[0].Root != "" || calls[0].Told != "" || calls[1].Root != root || calls[1].Told != "1" {
			t.Errorf("the shell's variables were not passed: %q, %q", calls[0].Args, calls[1].Args)
		}
	})
}

func TestOtherShells_DetectChangesOfTheProject(t *testing.T) {
	eachOtherShell(t, func(t *testing.T, shell string, syntax shellSyntax, w *testEnv) {
		root, sub := w.project("p"), w.mkdir("p/sub")
		s := w.start(shell)
		s.Run(syntax.cd(sub))
		change := func(what string) {
			t.Helper()
			if got := w.countExports(func() { s.Run(syntax.noop) }); got != 1 {
				t.Errorf("%s: exported %d times, want 1", what, got)
			}
			w.expectQuietPrompt(s, syntax)
		}
		for _, name := range []string{".localport.toml", ".localport.local.toml", ".env"} {
			path := filepath.Join(root, name)
			if name != ".localport.toml" {
				w.write(path)
				change(name + " appeared")
			}
			if err := os.WriteFile(path, []byte("# changed\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			change(name + " changed")
			if err := os.Chtimes(path, time.Unix(1, 0), time.Unix(1, 0)); err != nil {
				t.Fatal(err)
			}
			if shell == "tcsh" { // the others compare the contents
				change(name + " is older")
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			change(name + " vanished")
			if name == ".localport.toml" {
				w.expectProject(s, "")
				w.write(path)
				w.expectExports(s, "cd ..", 1)
			}
		}
		for _, line := range []string{"1 0 0", "2 0 0", "1 0 0"} {
			w.setLine(root, line)
			change("line " + line)
		}
		w.setLine(root, "3 0 0")
		w.expectExports(s, "cd .", 1)
		s.Run(syntax.cd(w.dir))
		w.setLine(root, "4 0 0")
		w.expectQuietPrompt(s, syntax) // the shell has left the project
		created := w.mkdir("new")
		s.Run(syntax.cd(created))
		w.project("new")
		change("a project appeared")
		w.expectProject(s, created)
	})
}

func TestOtherShells_DetectADeadSupervisor(t *testing.T) {
	eachOtherShell(t, func(t *testing.T, shell string, syntax shellSyntax, w *testEnv) {
		if runtime.GOOS != "linux" {
			return // without /proc two of these shells cannot tell, and tcsh takes another prompt
		}
		root := w.project("p")
		alive := startProcess(t, "a) S 1 (b) c")
		w.setLine(root, alive.line(1))
		s := w.start(shell)
		s.Run(syntax.cd(root))
		w.expectQuietPrompt(s, syntax)
		alive.end()
		for range 3 { // as the fake export does not resolve it
			w.expectExports(s, syntax.noop, 1)
		}
		w.expectQuietPrompt(s, syntax)
		w.setLine(root, "2 0 0")
		w.expectExports(s, syntax.noop, 1)
		w.expectQuietPrompt(s, syntax)
	})
}

func TestOtherShells_RepeatAFailedExport(t *testing.T) {
	eachOtherShell(t, func(t *testing.T, shell string, syntax shellSyntax, w *testEnv) {
		root := w.project("p")
		fix := w.setBehaviour("fail", "")
		s := w.start(shell)
		w.expectExports(s, syntax.cd(root), 1)
		w.expectQuietPrompt(s, syntax)
		for _, wait := range []int{20, 20, 20} {
			w.expectExports(s, fmt.Sprintf(syntax.advance, wait), 1)
			w.expectQuietPrompt(s, syntax)
		}
		fix()
		w.expectExports(s, fmt.Sprintf(syntax.advance, 100), 1)
		w.expectProject(s, root)
		w.expectExports(s, fmt.Sprintf(syntax.advance, 100), 0)
		calls := w.recordedExports()
		for i, call := range calls {
			if slices.Contains(call.Args, shortLimit) != (i > 0) {
				t.Errorf("export %d has the arguments %q", i, call.Args)
			}
		}
		s.Run(syntax.cd(w.dir))
		defer w.setBehaviour("fail", "4")() // the exit code of a project that is not allowed
		w.expectExports(s, syntax.cd(root), 1)
		w.expectExports(s, fmt.Sprintf(syntax.advance, 100), 0)
	})
}

func TestOtherShells_KeepTheExitStatusAndShowMessagesOnce(t *testing.T) {
	eachOtherShell(t, func(t *testing.T, shell string, syntax shellSyntax, w *testEnv) {
		clear := w.setBehaviour("say", "localport: not allowed\n")
		root := w.project("p")
		s := w.start(shell)
		s.Run(syntax.cd(root))
		if out := s.Output(); out != "localport: not allowed" {
			t.Errorf("the terminal showed %q", out)
		}
		clear()
		w.expectQuietPrompt(s, syntax)
		if syntax.status != "" {
			if got := s.Run(fmt.Sprintf(syntax.status, 42)); got != 42 {
				t.Errorf("at an unchanged prompt the status was %d, want 42", got)
			}
			w.setLine(root, "1 0 0")
			if got := s.Run(fmt.Sprintf(syntax.status, 43)); got != 43 {
				t.Errorf("at a prompt that ran export the status was %d, want 43", got)
			}
		}
	})
}

func TestOtherShells_FollowTheProgram(t *testing.T) {
	unset := map[string]string{
		"tcsh": "unsetenv PROJECT; unsetenv LOCALPORT_DIFF", "elvish": "unset-env PROJECT; unset-env LOCALPORT_DIFF", "nu": "hide-env PROJECT LOCALPORT_DIFF",
	}
	eachOtherShell(t, func(t *testing.T, shell string, syntax shellSyntax, w *testEnv) {
		tr := newTrace(t)
		root, other := w.project("p"), w.mkdir("other")
		bin, installed := filepath.Join(w.dir, "bin"), filepath.Dir(w.exe)
		s := w.startWith(shellpty.Config{
			Shell: shell, RC: w.rc(shell), Wrap: tr.wrap(), Env: []string{"PATH=.:" + bin + ":" + os.Getenv("PATH")},
		})
		s.Run(syntax.cd(root))
		w.move(filepath.Join(w.dir, "old"))

		before := len(tr.processes())
		s.Run("cd ..")
		out := s.Output()
		for _, want := range []string{"localport: cannot run ", "PATH has no localport: this shell keeps the variables and forwards of " + root, "hint: ", unset[shell] + "; "} {
			if strings.Count(out, want) != 1 {
				t.Errorf("leaving printed %q, want %q once", out, want)
			}
		}
		for _, line := range []string{syntax.noop, syntax.cd(root), syntax.cd(filepath.Join(w.dir, "old")), syntax.cd(other), syntax.noop} { // . is in PATH
			if s.Run(line); s.Output() != "" {
				t.Errorf("%s printed %q", line, s.Output())
			}
		}
		if got := tr.processes()[before:]; len(got) != 0 {
			t.Errorf("without a program, prompts started processes:\n%s", strings.Join(got, "\n"))
		}
		w.expectProject(s, root)
		s.Run(unset[shell])
		if env := s.Environ(); env["PROJECT"] != "" || env["LOCALPORT_DIFF"] != "" {
			t.Errorf("after the command of the hint PROJECT is %q and LOCALPORT_DIFF %q", env["PROJECT"], env["LOCALPORT_DIFF"])
		}

		w.move(bin) // a directory of PATH
		w.expectExports(s, syntax.noop, 1)
		if calls := w.recordedExports(); calls[len(calls)-1].Root != root || slices.Contains(calls[len(calls)-1].Args, shortLimit) {
			t.Errorf("the export was %q", calls[len(calls)-1].Args)
		}
		w.expectQuietPrompt(s, syntax)
		w.expectExports(s, syntax.cd(root), 1)
		w.move(installed) // which takes precedence
		w.expectExports(s, syntax.cd(other), 1)

		w.move(filepath.Join(w.dir, "old2"))
		s.Run(syntax.cd(root))
		if out := s.Output(); strings.Count(out, "cannot run ") != 1 || !strings.Contains(out, "the services of this directory are not started") {
			t.Errorf("when the program was gone again, entering printed %q", out)
		}
	})
}

// As when git pull brings a config.
func TestOtherShells_EnterAProjectThatAppearsAboveOrBetween(t *testing.T) {
	eachOtherShell(t, func(t *testing.T, shell string, syntax shellSyntax, w *testEnv) {
		deep, middle, top := w.mkdir("a/b/c/d"), filepath.Join(w.dir, "a/b"), filepath.Join(w.dir, "a")
		s := w.start(shell)
		w.expectExports(s, syntax.cd(deep), 0)
		w.expectQuietPrompt(s, syntax)
		step := func(what string, do func(), want string) {
			t.Helper()
			do()
			w.expectExports(s, syntax.noop, 1)
			w.expectProject(s, want)
			w.expectQuietPrompt(s, syntax)
			w.expectQuietPrompt(s, syntax)
			if t.Failed() {
				t.Fatalf("this was %q", what)
			}
		}
		appear := func(dir string) func() { return func() { w.write(filepath.Join(dir, ".localport.toml")) } }
		vanish := func(dir string) func() {
			return func() {
				if err := os.Remove(filepath.Join(dir, ".localport.toml")); err != nil {
					t.Fatal(err)
				}
			}
		}
		step("above", appear(top), top)
		step("between", appear(middle), middle)
		step("gone between", vanish(middle), top)
		step("here", appear(deep), deep)
		step("gone here", vanish(deep), top)
		step("gone above", vanish(top), "")
	})
}

func TestOtherShells_HandleUnusualDirectories(t *testing.T) {
	eachOtherShell(t, func(t *testing.T, shell string, syntax shellSyntax, w *testEnv) {
		s := w.start(shell)
		for _, name := range []string{
			"two words", "it's", `"double"`, "$HOME `x` $(x)", "new\nline", "- -e", "größe 日本", "*?[a]", "\x01\x7f~!#%", `back\slash`, "(paren) {x}",
		} {
			if shell == "nu" && name[0] == 1 {
				continue // its cd drops control characters
			}
			root := w.project(name)
			w.expectExports(s, syntax.cd(root), 1)
			w.expectProject(s, root)
			w.expectQuietPrompt(s, syntax)
			w.expectExports(s, syntax.cd(w.mkdir(name+"/sub")), 0)
			w.expectExports(s, syntax.cd(w.dir), 1)
		}
		if shell == "nu" {
			return // in a deleted directory it cannot do anything, and says so at each prompt
		}
		root, sub := w.project("deleted"), w.mkdir("deleted/sub/sub")
		s.Run(syntax.cd(sub))
		if err := os.RemoveAll(filepath.Dir(sub)); err != nil {
			t.Fatal(err)
		}
		w.expectQuietPrompt(s, syntax)
		if err := os.RemoveAll(root); err != nil {
			t.Fatal(err)
		}
		s.Run(syntax.noop) // it runs export, which finds no project
		if out := s.Output(); out != "" {
			t.Errorf("a prompt in a deleted directory printed %q", out)
		}
		w.expectQuietPrompt(s, syntax)
	})
}

func TestOtherShells_StartNoProcessWhenNothingChanged(t *testing.T) {
	eachOtherShell(t, func(t *testing.T, shell string, syntax shellSyntax, w *testEnv) {
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
		expectProcesses(0, syntax.noop, syntax.cd(one), syntax.cd(two), "cd ..", syntax.noop, "cd /", syntax.cd(w.dir), syntax.noop)
		expectProcesses(syntax.export, syntax.cd(sub))
		expectProcesses(0, syntax.noop, syntax.cd(root), syntax.noop, syntax.cd(sub), "cd ..", syntax.noop)
		expectProcesses(syntax.export, fmt.Sprintf(syntax.setenv, "TOKEN", "x")) // the project uses it
		expectProcesses(0, syntax.noop, fmt.Sprintf(syntax.setenv, "TOKEN", "x"), syntax.noop)
		expectProcesses(syntax.export, syntax.cd(one))
		expectProcesses(0, syntax.noop, syntax.cd(two), fmt.Sprintf(syntax.setenv, "TOKEN", "y"), syntax.noop)
		w.setBehaviour("fail", "")
		s.Run(syntax.cd(root))
		expectProcesses(0, syntax.noop, syntax.noop)
	})
}

// roundTripOther is roundTrip for the shells of this file.
func roundTripOther(t testingT, dir, shell, locale string, values []string) []string {
	t.Helper()
	syntax := otherShells[shell]
	var paths []string
	text := ""
	for i, value := range values {
		text += export(t, shell, fmt.Sprintf("V%d", i), value)
		if i == len(values)-1 || syntax.chunk > 0 && len(text) > syntax.chunk {
			paths = append(paths, filepath.Join(dir, fmt.Sprintf("statements%d", i)))
			if err := os.WriteFile(paths[len(paths)-1], []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			text = ""
		}
	}
	if shell == "nu" { // the function that carries the statements out is in the hook
		sh, err := shellhook.Lookup(shell)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "hook.nu"), []byte(sh.Hook("localport")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(shell, syntax.script(paths)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=" + locale, "HOME=" + dir}
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s in locale %s: %v", shell, locale, err)
	}
	return readRoundTrip(string(out), len(values))
}

func TestOtherShells_QuoteEveryString(t *testing.T) {
	removeNUL := func(s string) string { return strings.ReplaceAll(s, "\x00", "") }
	value := rapid.OneOf(
		rapid.Map(rapid.String(), removeNUL),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 40), func(b []byte) string { return removeNUL(string(b)) }),
		rapid.StringOfN(rapid.RuneFrom([]rune("'\\\"$`! \n\t#;&|(){}[]*?~=-é\uf6aax")), 0, 20, -1),
	)
	for shell, syntax := range otherShells {
		for _, locale := range []string{"C.UTF-8", "C"} {
			if shell == "nu" && locale == "C" {
				continue // it has no locales
			}
			t.Run(shell+" "+locale, func(t *testing.T) {
				if _, err := exec.LookPath(shell); err != nil {
					t.Skipf("%s is not installed", shell)
				}
				t.Parallel()
				keeps := func(value string) bool { return syntax.keeps(value, locale) }
				tricky := slices.DeleteFunc(trickyValues(), func(value string) bool { return !keeps(value) })
				compare(t, roundTripOther(t, t.TempDir(), shell, locale, tricky), tricky)
				dir := t.TempDir()
				rapid.Check(t, func(t *rapid.T) {
					values := rapid.SliceOfN(value.Filter(keeps), 1, 50).Draw(t, "values")
					compare(t, roundTripOther(t, dir, shell, locale, values), values)
				})
			})
		}
	}
}

func TestOtherShells_SetIsNotExportedAndUnsetRemoves(t *testing.T) {
	eachOtherShell(t, func(t *testing.T, shell string, syntax shellSyntax, w *testEnv) {
		sh, err := shellhook.Lookup(shell)
		if err != nil {
			t.Fatal(err)
		}
		s := w.start(shell)
		path := filepath.Join(w.dir, "text")
		evaluate := func(text string) { // as the hook does
			t.Helper()
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			s.Run(syntax.source(path))
		}
		for _, value := range []string{"", `it's \`, "new\nline ", "a:b"} {
			evaluate(sh.Set("__localport_retry", value) + sh.Save("EXPORTED", value, false))
			env := s.Environ()
			if _, exported := env["__localport_retry"]; exported {
				t.Errorf("Set exports")
			}
			if env["EXPORTED"] != value {
				t.Errorf("%q is %q in the environment", value, env["EXPORTED"])
			}
		}
		previous := "before"
		evaluate(sh.Restore("EXPORTED", &previous) + sh.Unset("NEVER_SET"))
		if got := s.Environ()["EXPORTED"]; got != previous {
			t.Errorf("Restore: %q, want %q", got, previous)
		}
		evaluate(sh.Restore("EXPORTED", nil))
		if got, isSet := s.Environ()["EXPORTED"]; isSet {
			t.Errorf("after Restore without a previous value it is %q", got)
		}
		if out := s.Output(); out != "" {
			t.Errorf("printed %q", out)
		}
		for _, name := range []string{"", "1X", "A-B", "A;ls", "A B", "A\n", "É", "$(ls)", "A=B"} {
			if text := sh.Export(name, "x") + sh.Set(name, "x") + sh.Unset(name) + sh.Save(name, "x", true) + sh.Restore(name, nil); text != "" {
				t.Errorf("the name %q yields %q", name, text)
			}
		}
		const retry = `{"left":["/a 'b' \"c\""]}`
		root := w.project("p")
		evaluate(sh.Set(shellhook.RetryVariable, retry))
		s.Run(syntax.cd(root))
		if calls := w.recordedExports(); len(calls) != 1 || calls[0].Retry != retry {
			t.Errorf("exports: %+v", calls)
		}
		s.Run(strings.TrimSpace(w.rc(shell))) // a second time
		w.expectQuietPrompt(s, syntax)
		w.setLine(root, "1 0 0")
		w.expectExports(s, syntax.noop, 1)
	})
}

// interruptOther interrupts the export that entering a directory runs.
func (w *testEnv) interruptOther(s *shellpty.Shell, shell string, syntax shellSyntax, dir string) {
	w.t.Helper()
	if shell == "tcsh" { // its prompt does not report: the interrupt ends the whole alias precmd
		w.interruptExport(s, syntax.cd(dir), syntax.noop+"\r")
	} else {
		w.interruptExport(s, syntax.cd(dir), "")
	}
}

func TestOtherShells_HangingExportCanBeInterrupted(t *testing.T) {
	eachOtherShell(t, func(t *testing.T, shell string, syntax shellSyntax, w *testEnv) {
		root, sub := w.project("p"), w.mkdir("p/sub")
		s := w.start(shell)
		w.interruptOther(s, shell, syntax, sub)
		// The shell may have entered the project: it leaves it.
		w.expectExports(s, syntax.cd(w.dir), 1)
		calls := w.recordedExports()
		if got := calls[len(calls)-1].Unfinished; got != sub+"\n" {
			t.Errorf("the export has --unfinished=%q", got)
		}
		w.expectQuietPrompt(s, syntax)
		w.expectExports(s, syntax.cd(sub), 1)
		w.expectProject(s, root)
		w.expectQuietPrompt(s, syntax)
		if calls := w.recordedExports(); calls[len(calls)-1].Unfinished != "" {
			t.Errorf("after the export it has --unfinished=%q", calls[len(calls)-1].Unfinished)
		}
	})
}

func TestOtherShells_RepeatAnInterruptedExport(t *testing.T) {
	eachOtherShell(t, func(t *testing.T, shell string, syntax shellSyntax, w *testEnv) {
		root, sub := w.project("p"), w.mkdir("p/sub")
		s := w.start(shell)
		w.interruptOther(s, shell, syntax, sub)
		w.expectExports(s, fmt.Sprintf(syntax.advance, 100), 1)
		w.expectProject(s, root)
		w.expectQuietPrompt(s, syntax)
	})
}

func TestOtherShells_CdTakesEffectWithinTheCommandLine(t *testing.T) {
	eachOtherShell(t, func(t *testing.T, shell string, syntax shellSyntax, w *testEnv) {
		if syntax.then == "" {
			return // the shell looks at a cd at the next prompt
		}
		root := w.project("p")
		s := w.start(shell)
		s.Run(fmt.Sprintf(syntax.then, syntax.cd(root)))
		if got := s.Environ()["THEN"]; got != root {
			t.Errorf("right after cd PROJECT was %q, want %q", got, root)
		}
	})
}

func TestOtherShells_SurviveThatTheDiffIsUnset(t *testing.T) {
	eachOtherShell(t, func(t *testing.T, shell string, syntax shellSyntax, w *testEnv) {
		root := w.project("p")
		s := w.start(shell)
		s.Run(syntax.cd(root))
		s.Run(fmt.Sprintf(syntax.unset, "LOCALPORT_DIFF"))
		w.expectExports(s, syntax.cd(w.dir), 1)
		calls := w.recordedExports()
		if !slices.Contains(calls[1].Env, "LOCALPORT_DIFF="+root) {
			t.Errorf("the export did not get LOCALPORT_DIFF: %q", calls[1].Env)
		}
		if env := s.Environ(); env["PROJECT"] != "" || env["LOCALPORT_DIFF"] != "" {
			t.Errorf("after leaving PROJECT is %q and LOCALPORT_DIFF %q", env["PROJECT"], env["LOCALPORT_DIFF"])
		}
	})
}

func TestOtherShells_AreIndependentOfTheUsersOptions(t *testing.T) {
	for name, options := range map[string]string{
		"tcsh globbing":   "set noglob nonomatch",
		"tcsh quoting":    "set backslash_quote; set histchars = ',^'",
		"tcsh printing":   "set printexitvalue; set listjobs; set notify; set autolist; set correct = all",
		"tcsh words":      "unset csubstnonl; set symlinks = chase; set implicitcd; set rmstar",
		"tcsh variables":  "set PROJECT = mine; set TOKEN = ( a b ); set path = ( $path /nowhere )",
		"elvish names":    "fn check {|@a| }; fn exists {|@a| put x }; var code = x",
		"elvish settings": "set notify-bg-job-success = $false; set value-out-indicator = '> '",
		"nu names":        "alias ls = ^true; def notify [] { }; $env.PROJECT_OTHER = {a: 1}",
		"nu settings":     "$env.config.history.file_format = 'plaintext'; $env.ENV_CONVERSIONS = {}",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			shell, _, _ := strings.Cut(name, " ")
			syntax := otherShells[shell]
			w := newTestEnv(t)
			root := w.project("it's 10 p")
			w.write(filepath.Join(root, ".env"))
			w.setLine(root, startProcess(t, "localport-x").line(10))
			s := w.startWith(shellpty.Config{Shell: shell, RC: options + "\n" + w.rc(shell)})
			w.expectExports(s, syntax.cd(root), 1)
			if out := s.Output(); out != "" {
				t.Errorf("entering printed %q", out)
			}
			w.expectProject(s, root)
			w.expectQuietPrompt(s, syntax)
			w.setLine(root, "11 0 0")
			clear := w.setBehaviour("fail", "4")
			w.expectExports(s, syntax.noop, 1)
			if out := s.Output(); out != "" {
				t.Errorf("a failed export printed %q", out)
			}
			w.expectQuietPrompt(s, syntax)
			clear()
			w.expectExports(s, syntax.cd(w.dir), 1)
			w.expectProject(s, "")
			w.expectQuietPrompt(s, syntax)
		})
	}
}
