package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/shellpty"
)

func TestHook_AcceptsTheNameOfALoginShell(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	for _, shell := range shells {
		want := w.mustRun(w.home, "hook", shell)
		for _, name := range []string{"-" + shell, "/bin/" + shell, "-/usr/bin/" + shell} {
			if got := w.mustRun(w.home, "hook", name); got != want {
				t.Errorf("hook %s prints another hook than hook %s:\n%s", name, shell, got)
			}
		}
	}
	if o := w.localport(w.home, "hook", "-x"); o.code != 2 {
		t.Errorf("hook -x: exit %d", o.code)
	}
}

func TestHook_OnCdAddsToBashOnly(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	for _, shell := range shells {
		plain, onCd := w.mustRun(w.home, "hook", shell), w.mustRun(w.home, "hook", "--on-cd", shell)
		rest, found := strings.CutPrefix(onCd, plain)
		if !found || strings.Contains(rest, "__localport_after_cd") != (shell == "bash") || shell != "bash" && rest != "" {
			t.Errorf("hook %s --on-cd adds\n%s", shell, rest)
		}
	}
}

func TestShell_OnCdPreparesTheProjectForTheNextCommand(t *testing.T) {
	eachShell(t, func(t *testing.T, kind string) {
		w := newTestEnv(t)
		port := ports.FreePort(t)
		root := w.allowedProject("linger = 0.1\n" + tcpConfig("web", port, serve(t, "127.0.0.1:0")))
		rc := `eval "$(` + w.exe + ` hook ` + kind + ` --on-cd)"`
		if kind == "fish" {
			rc = w.exe + " hook fish --on-cd | source"
		}
		sh := shellpty.Start(t, shellpty.Config{Shell: kind, RC: rc, Dir: w.home, Home: w.home, Env: w.env[2:]})
		sh.Run("cd " + root + " && env >out")
		if out, err := os.ReadFile(filepath.Join(root, "out")); !strings.Contains(string(out), fmt.Sprintf("\nWEB_PORT=%d\n", port)) {
			t.Errorf("the command after cd had no WEB_PORT: %v", err)
		}
		if out := sh.Output(); strings.Count(out, "localport: ") != 1 {
			t.Errorf("entering printed %q", out)
		}
		supervisor := w.supervisor(root)
		sh.Run("cd / && env >" + root + "/out")
		if out, err := os.ReadFile(filepath.Join(root, "out")); err != nil || strings.Contains(string(out), "WEB_PORT=") {
			t.Errorf("the command after leaving had WEB_PORT: %v", err)
		}
		w.waitExit(supervisor)
		w.checkNothingLeft(root)
	})
}
