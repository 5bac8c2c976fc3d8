package main

import "testing"

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
