package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/localport-sh/localport/testdata/ports"
)

// installAs puts the program into a directory of its own, as Homebrew and Nix do, and makes the link lead to it.
func (w *testEnv) installAs(link, dir string) {
	w.t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		w.t.Fatal(err)
	}
	program := filepath.Join(dir, "localport")
	install(w.t, ownExecutable(w.t), program)
	next := link + ".new"
	if err := errors.Join(os.Symlink(program, next), os.Rename(next, link)); err != nil {
		w.t.Fatal(err)
	}
}

func TestHook_PrintsTheLinkThatItWasCalledBy(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	bin := filepath.Join(w.home, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(bin, "localport")
	if err := os.Symlink(w.exe, link); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, arg0, want string }{
		{bin, "localport", link},
		{"/usr/bin:/bin", link, link},
		{"/usr/bin:/bin", "bin/localport", link},
		{"/usr/bin:/bin", "localport", w.exe}, // not found: the file itself
		{"/usr/bin:/bin", "sh", w.exe},        // another program's name
		{"bin", "localport", w.exe},           // a relative entry of PATH
	} {
		cmd := w.command(w.home, "hook", "bash")
		cmd.Args[0] = c.arg0
		cmd.Env = append(cmd.Env, "PATH="+c.path)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		if line, _, _ := strings.Cut(string(out), "\n"); line != "__localport_exe='"+c.want+"'" {
			t.Errorf("called as %q with PATH=%s it prints %s, want %s", c.arg0, c.path, line, c.want)
		}
	}
}

// An upgrade deletes the file that the shells were started with.
func TestShell_ContinuesAfterAnUpgradeHasDeletedTheProgram(t *testing.T) {
	eachShell(t, func(t *testing.T, kind string) {
		w := newTestEnv(t)
		bin, cellar := filepath.Join(w.home, "bin"), filepath.Join(w.home, "cellar")
		if err := os.Mkdir(bin, 0o755); err != nil {
			t.Fatal(err)
		}
		link := filepath.Join(bin, "localport")
		w.installAs(link, filepath.Join(cellar, "1"))
		root := w.allowedProject("linger = 0.1\n" + tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
		w.exe = link
		sh := w.shell(kind, root)
		supervisor := w.supervisor(root)
		w.installAs(link, filepath.Join(cellar, "2"))
		if err := os.RemoveAll(filepath.Join(cellar, "1")); err != nil {
			t.Fatal(err)
		}
		sh.Run("cd /")
		if env := sh.Environ(); hasVariable(env, "WEB_PORT") || hasVariable(env, "LOCALPORT_DIFF") {
			t.Errorf("after leaving WEB_PORT is %q", env["WEB_PORT"])
		}
		w.waitExit(supervisor)
		w.checkNothingLeft(root)
		sh.Run("cd " + root)
		if env := sh.Environ(); !hasVariable(env, "WEB_PORT") {
			t.Errorf("entering printed %q", sh.Output())
		}
	})
}

// Without any program, the command of the hint removes what the shell got from the project.
func TestShell_NamesTheVariablesToUnsetWithoutTheProgram(t *testing.T) {
	eachShell(t, func(t *testing.T, kind string) {
		w := newTestEnv(t)
		root := w.allowedProject("linger = 0.1\n" + tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")) + "[env]\nURL = \"x://${web.addr}\"\n")
		own := w.exe
		w.exe = filepath.Join(w.home, "program")
		install(t, own, w.exe)
		outer := w.shell(kind, root)
		supervisor := w.supervisor(root)
		env := outer.Environ()
		for _, name := range []string{"LOCALPORT_DIFF", "WEB_PORT", "WEB_HOST", "URL"} {
			w.env = append(w.env, name+"="+env[name])
		}
		nested := w.shell(kind, root) // it has inherited the variables
		if err := os.Remove(w.exe); err != nil {
			t.Fatal(err)
		}
		for _, sh := range []interface {
			Run(string) int
			Output() string
			Environ() map[string]string
		}{outer, nested} {
			sh.Run("cd /")
			_, hint, _ := strings.Cut(sh.Output(), "by hand: ")
			command, _, found := strings.Cut(hint, ";")
			if !found {
				t.Fatalf("leaving printed %q", sh.Output())
			}
			sh.Run(command)
			for name, value := range sh.Environ() {
				if name == "LOCALPORT_DIFF" || name == "URL" || strings.HasPrefix(name, "WEB_") {
					t.Errorf("after %q %s is %q", command, name, value)
				}
			}
		}
		outer.Exit("exit")
		nested.Exit("exit")
		w.exe = own
		w.waitExit(supervisor)
		w.checkNothingLeft(root)
	})
}
