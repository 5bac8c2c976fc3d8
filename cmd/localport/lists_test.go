package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// A step of the user inside a project with LISTED = "/p:${LISTED}:/q" and LATE = "/p:${LATE:-}", of which only LISTED is set outside.
type listStep struct{ listed, late string }

func TestShell_UndoesItsEntriesOfAList(t *testing.T) {
	const outside = "/a:/b:/c"
	for name, c := range map[string]struct {
		steps        []listStep
		inside, left listStep // after the steps, and after leaving
	}{
		"added and removed": {
			[]listStep{{"/x:/p:/a:/b:/c:/q", "/x:/p:"}, {"/p:/a:/b:/c:/q", "/p:"}},
			listStep{"/p:/a:/b:/c:/q", "/p:"},
			listStep{outside, ""},
		},
		"the user's own removed": {
			[]listStep{{"/p:/b:/c:/q", "/p"}}, listStep{"/p:/b:/c:/q", "/p"}, listStep{"/b:/c", ""},
		},
		"added at both ends": {
			[]listStep{{"/x:/p:/a:/b:/c:/q:/y", "/x:/p::/y"}}, listStep{"/x:/p:/a:/b:/c:/q:/y", "/x:/p::/y"}, listStep{"/x:/a:/b:/c:/y", "/x::/y"},
		},
		"moved": {
			[]listStep{{"/q:/c:/b:/p:/a", "/p:"}}, listStep{"/q:/c:/b:/p:/a", "/p:"}, listStep{"/c:/b:/a", ""},
		},
		"ours removed": {
			[]listStep{{outside, ""}}, listStep{"/p:/a:/b:/c:/q", "/p:"}, listStep{outside, ""},
		},
		"the same as ours added": {
			[]listStep{{"/p:/x:/p:/a:/b:/c:/q:/q", "/p:/p:"}}, listStep{"/p:/x:/p:/a:/b:/c:/q:/q", "/p:/p:"}, listStep{"/p:/x:/a:/b:/c:/q", "/p:"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachShell(t, func(t *testing.T, kind string) {
				w := newTestEnv(t)
				root := w.allowedProject("linger = 0.1\n[env]\nLISTED = \"/p:${LISTED}:/q\"\nLATE = \"/p:${LATE:-}\"\n")
				sh := w.shell(kind, w.home)
				set := func(name, value string) {
					sh.Run(fmt.Sprintf(map[string]string{"bash": "export %s='%s'", "zsh": "export %s='%s'", "fish": "set -gx %s '%s'"}[kind], name, value))
				}
				set("LISTED", outside)
				sh.Run("cd " + root)
				for _, step := range c.steps {
					set("LISTED", step.listed)
					set("LATE", step.late)
				}
				if env := sh.Environ(); env["LISTED"] != c.inside.listed || env["LATE"] != c.inside.late {
					t.Errorf("inside LISTED=%q LATE=%q, want %q", env["LISTED"], env["LATE"], c.inside)
				}
				for range 2 { // another visit changes nothing
					sh.Run("cd " + w.home)
					if env := sh.Environ(); env["LISTED"] != c.left.listed || env["LATE"] != c.left.late {
						t.Errorf("after leaving LISTED=%q LATE=%q, want %q", env["LISTED"], env["LATE"], c.left)
					}
					sh.Run("cd " + root)
				}
			})
		})
	}
}

// PATH is tied to an array in zsh and a list in fish. Many zsh users have "typeset -U PATH path", which keeps the first of equal entries only.
func TestShell_UndoesItsEntriesOfPATH(t *testing.T) {
	eachShell(t, func(t *testing.T, kind string) {
		w := newTestEnv(t)
		root := w.allowedProject("linger = 0.1\n[env]\nPATH = \"/p:/both:${PATH}:/q\"\nMANPATH = \"/p:${MANPATH:-}\"\nBYTES_PATH = \"/p:${BYTES_PATH}\"\n")
		sh := w.shell(kind, w.home)
		line := func(bash, zsh, fish string) { sh.Run(map[string]string{"bash": bash, "zsh": zsh, "fish": fish}[kind]) }
		line("PATH=/both:/a:$PATH", "typeset -U PATH path; path=(/both /a $path)", "set -gx PATH /both /a $PATH")
		line(`export BYTES_PATH=$'/caf\xe9:/b'`, `export BYTES_PATH=$'/caf\xe9:/b'`, `set -gx --path BYTES_PATH /caf\Xe9 /b`)
		before := sh.Environ()
		sh.Run("cd " + root)
		if out := sh.Output(); strings.Contains(out, "keeps its value") {
			t.Errorf("entering printed %q", out)
		}
		// As Python's venv does.
		line("OLD=$PATH; PATH=/venv:$PATH; BYTES_PATH=/x:$BYTES_PATH", "OLD=$PATH; PATH=/venv:$PATH; BYTES_PATH=/x:$BYTES_PATH",
			"set -g OLD $PATH; set PATH /venv $PATH; set -gx --path BYTES_PATH /x $BYTES_PATH")
		if path := sh.Environ()["PATH"]; !strings.HasPrefix(path, "/venv:/p:/both:/") || !strings.HasSuffix(path, ":/q") {
			t.Errorf("after an entry was put before the project's PATH=%q", path)
		}
		sh.Run("cd " + w.home)
		after := sh.Environ()
		if sorted, want := sortedEntries(after["PATH"]), sortedEntries("/venv:"+before["PATH"]); sorted != want {
			t.Errorf("left with the entry: PATH has %q, want %q", sorted, want)
		}
		if after["BYTES_PATH"] != "/x:"+before["BYTES_PATH"] {
			t.Errorf("left with an entry that was added: BYTES_PATH=%q", after["BYTES_PATH"])
		}
		sh.Run("cd " + root)
		line("PATH=$OLD", "PATH=$OLD", "set PATH $OLD")
		line("PATH=${PATH/:'/a:'/:}", "path=(${path:#/a})", "set PATH (string match -v /a $PATH)")
		sh.Run("cd " + w.home)
		after = sh.Environ()
		if want := strings.Replace(before["PATH"], ":/a:", ":", 1); sortedEntries(after["PATH"]) != sortedEntries(want) {
			t.Errorf("left without the entry: PATH=%q, want %q", after["PATH"], want)
		}
		if hasVariable(after, "MANPATH") {
			t.Errorf("after leaving MANPATH=%q", after["MANPATH"])
		}
	})
}

func sortedEntries(list string) string {
	entries := strings.Split(list, ":")
	slices.Sort(entries)
	return strings.Join(entries, ":")
}
