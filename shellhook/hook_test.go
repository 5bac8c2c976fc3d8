package shellhook_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/localport-sh/localport/testdata/shellpty"
)

func TestHook_ExportsOnceOnEnteringAndLeaving(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string, w *testEnv) {
		root, sub := w.project("p"), w.mkdir("p/a/b")
		s := w.start(shell)
		if calls := w.recordedExports(); calls != nil {
			t.Fatalf("exported outside of any project: %v", calls)
		}

		w.expectExports(s, cd(sub), 1)
		if got := projectOfShell(s); got != root {
			t.Errorf("after cd into the project PROJECT is %q, want %q", got, root)
		}
		w.expectQuiet(s)
		w.expectExports(s, "cd ..", 0)
		w.expectExports(s, cd(root), 0)
		w.expectQuiet(s)
		w.expectExports(s, "cd ..", 1)
		if got := projectOfShell(s); got != "" {
			t.Errorf("after leaving the project PROJECT is %q", got)
		}
		w.expectExports(s, "cd /", 0)
		w.expectExports(s, cd(w.dir), 0)

		calls := w.recordedExports()
		want := []string{"export", shell, "--pid", "", "--root", "", "--line", "", "--told", "", "--retry", "", "--saves", "--tools"}
		if shell != "bash" { // which has no event for cd
			want = append(want, "--cd")
		}
		for i, c := range calls {
			got := slices.Clone(c.Args)
			if c.PID != s.PID() || c.Stdin != os.DevNull {
				t.Errorf("call %d has --pid %d (the shell is %d) and standard input %q", i, c.PID, s.PID(), c.Stdin)
			}
			got[3], got[5], got[7], got[9] = "", "", "", ""
			if !slices.Equal(got, want) {
				t.Errorf("call %d is %q", i, c.Args)
			}
		}
		if calls[0].Root != "" || calls[0].Told != "" || calls[1].Root != root || calls[1].Told != "1" {
			t.Errorf("the shell's variables were not passed: %q, %q", calls[0].Args, calls[1].Args)
		}
	})
}

func TestHook_UsesTheNearestProject(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string, w *testEnv) {
		outer, inner := w.project("outer"), w.project("outer/deep/inner")
		s := w.start(shell)
		for _, step := range []struct{ to, want string }{
			{outer, outer}, {inner, inner}, {filepath.Dir(inner), outer}, {inner, inner}, {w.dir, ""},
		} {
			w.expectExports(s, cd(step.to), 1)
			if got := projectOfShell(s); got != step.want {
				t.Errorf("in %s PROJECT is %q, want %q", step.to, got, step.want)
			}
		}
	})
}

func TestHook_CdTakesEffectWithinTheCommandLine(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string, w *testEnv) {
		root := w.project("p")
		s := w.start(shell)
		assign := map[string]string{"zsh": "then=$PROJECT", "fish": "set then $PROJECT"}[shell]
		s.Run(cd(root) + "; " + assign)
		if got := s.Eval(`"$then"`); got != root {
			t.Errorf("right after cd PROJECT was %q, want %q", got, root)
		}
	}, "zsh", "fish") // bash has no event for cd
}

func TestHook_DetectsEveryFileChange(t *testing.T) {
	// 1 ns is enough: all of bash 5, zsh 5.9 and fish 3.6 compare nanoseconds.
	then := time.Date(2024, 1, 1, 0, 0, 0, 500, time.UTC)
	at := func(path string, when time.Time) {
		t.Helper()
		if err := os.Chtimes(path, when, when); err != nil {
			t.Fatal(err)
		}
	}
	eachShell(t, func(t *testing.T, shell string, w *testEnv) {
		root, sub := w.project("p"), w.mkdir("p/sub")
		at(filepath.Join(root, ".localport.toml"), then)
		s := w.start(shell)
		s.Run(cd(sub))
		change := func(what string, do func()) {
			t.Helper()
			do()
			if got := w.countExports(func() { s.Run("true") }); got != 1 {
				t.Errorf("%s: exported %d times, want 1", what, got)
			}
			w.expectQuiet(s)
		}
		for _, name := range []string{".localport.toml", ".localport.local.toml", ".env"} {
			path := filepath.Join(root, name)
			if name != ".localport.toml" {
				change(name+" appeared", func() { w.write(path); at(path, then) })
			}
			change(name+" is 1 ns newer", func() { at(path, then.Add(1)) })
			change(name+" is 1 ns older", func() { at(path, then) })
			change(name+" vanished", func() { _ = os.Remove(path) })
			if name == ".localport.toml" {
				if got := projectOfShell(s); got != "" {
					t.Errorf("the project is gone but PROJECT is %q", got)
				}
				w.write(path)
				w.expectExports(s, "cd ..", 1)
			}
		}
	})
}

func TestHook_EntersAProjectThatAppears(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string, w *testEnv) {
		dir := w.mkdir("new")
		s := w.start(shell)
		s.Run(cd(dir))
		w.project("new")
		w.expectExports(s, "true", 1)
		if got := projectOfShell(s); got != dir {
			t.Errorf("PROJECT is %q, want %q", got, dir)
		}
		w.expectQuiet(s)
	})
}

func TestHook_FindsAMovedProject(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string, w *testEnv) {
		old := w.project("old")
		s := w.start(shell)
		s.Run(cd(old))
		moved := filepath.Join(w.dir, "new")
		if err := os.Rename(old, moved); err != nil {
			t.Fatal(err)
		}
		w.expectExports(s, "true", 1)
		if got := projectOfShell(s); got != moved {
			t.Errorf("PROJECT is %q, want %q", got, moved)
		}
		w.expectQuiet(s)
	})
}

// As when a tool replaces the project's directory for a moment.
func TestHook_FindsAProjectThatWasMovedDuringTheExportAndBack(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string, w *testEnv) {
		root := w.project("p")
		moved := filepath.Join(w.dir, "away")
		fix := w.setBehaviour("move", root+"\n"+moved)
		s := w.start(shell)
		w.expectExports(s, cd(root), 1)
		fix()
		if err := os.Rename(moved, root); err != nil {
			t.Fatal(err)
		}
		w.expectExports(s, "true", 1)
		if got := projectOfShell(s); got != root {
			t.Errorf("PROJECT is %q, want %q", got, root)
		}
		w.expectQuiet(s)
	})
}

func TestHook_FirstPromptExportsOnlyWhenNeeded(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string, w *testEnv) {
		root := w.project("p")
		s := w.startWith(shellpty.Config{Shell: shell, RC: w.rc(shell), Dir: root})
		if calls := w.recordedExports(); len(calls) != 1 || projectOfShell(s) != root {
			t.Errorf("a shell that starts in a project exported %d times; PROJECT is %q", len(calls), projectOfShell(s))
		}

		// A shell that starts outside of a project but has inherited its variables must unset them.
		nested := w.startWith(shellpty.Config{
			Shell: shell, RC: w.rc(shell), Env: []string{"LOCALPORT_DIFF=" + root, "PROJECT=" + root},
		})
		if calls := w.recordedExports(); len(calls) != 2 || projectOfShell(nested) != "" {
			t.Errorf("a nested shell exported %d times; PROJECT is %q", len(calls)-1, projectOfShell(nested))
		}
		w.expectQuiet(nested)
	})
}

func TestHook_TreatsASymlinkedProjectAsTheSame(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string, w *testEnv) {
		root, _ := w.project("p"), w.mkdir("p/sub")
		link, deep := filepath.Join(w.dir, "link"), filepath.Join(w.dir, "deep")
		for at, to := range map[string]string{link: root, deep: filepath.Join(root, "sub")} {
			if err := os.Symlink(to, at); err != nil {
				t.Fatal(err)
			}
		}
		s := w.start(shell)
		w.expectExports(s, cd(link), 1)
		if got := projectOfShell(s); got != root {
			t.Errorf("through the link PROJECT is %q, want the physical %q", got, root)
		}
		w.expectExports(s, cd(root), 0)
		w.expectExports(s, cd(deep), 0) // its logical parent is no project, its physical parent is
		w.expectQuiet(s)
	})
}

func TestHook_IsSilentInADeletedDirectory(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string, w *testEnv) {
		root, sub := w.project("p"), w.mkdir("p/sub/sub")
		s := w.start(shell)
		s.Run(cd(sub))
		if err := os.RemoveAll(filepath.Dir(sub)); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			w.expectQuiet(s)
		}
		if err := os.RemoveAll(root); err != nil {
			t.Fatal(err)
		}
		s.Run("true") // it runs export, which finds no project
		if out := s.Output(); out != "" {
			t.Errorf("a prompt in a deleted directory printed %q", out)
		}
		w.expectQuiet(s)
	})
}

func TestHook_HandlesUnusualDirectoryNames(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string, w *testEnv) {
		s := w.start(shell)
		for _, name := range []string{
			"two words", "it's", `"double"`, "$HOME `x` $(x)", "new\nline", "- -e", "größe 日本", "*?[a]", "\x01\x7f~!#%",
		} {
			root := w.project(name)
			w.expectExports(s, cd(root), 1)
			if got := projectOfShell(s); got != root {
				t.Errorf("PROJECT is %q, want %q", got, root)
			}
			w.expectQuiet(s)
			w.expectExports(s, cd(w.mkdir(name+"/sub")), 0)
			w.expectExports(s, cd(w.dir), 1)
		}
	})
}
