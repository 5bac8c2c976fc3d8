package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Paths are bytes: all that a project needs works in a directory whose name is not UTF-8, and no state is recreated.
func TestProject_PathNeedNotBeUTF8(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := filepath.Join(w.home, "caf\xe9\xff")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	w.writeFile(root, ".localport.toml", tcpConfig("web", `"auto"`, serve(t, "127.0.0.1:0")))
	w.mustRun(root, "allow")
	w.mustRun(root, "start")
	before := w.status(root)
	if before.State != "running" {
		t.Fatalf("%+v", before)
	}
	if got := w.mustRun(root, "exec", "--", "sh", "-c", `printf '%s %s' "$PWD" "$1"`, "sh", "\xe9"); got != root+" \xe9" {
		t.Errorf("the program was run with %q", got)
	}
	w.mustRun(w.home, "-C", root, "daemon", "restart")
	if got := w.mustRun(w.home, "-c", filepath.Join(root, ".localport.toml"), "status"); !strings.Contains(got, "running") {
		t.Errorf("status: %s", got)
	}
	for _, args := range [][]string{{"status", "--json"}, {"daemon", "status", "--json"}} {
		if got := w.mustRun(root, args...); !strings.Contains(got, `/caf\\xe9\\xff`) {
			t.Errorf("%v: %s", args, got)
		}
	}
	w.writeFile(root, ".env", "\xff")
	w.mustRun(root, "stop", "--all")
	if o := w.localport(root, "start"); o.code == 0 || strings.Contains(o.stderr, "\ufffd") || !strings.Contains(o.stderr, `/caf\xe9\xff`) {
		t.Errorf("start: exit %d, %q", o.code, o.stderr)
	}
	if err := os.Remove(filepath.Join(root, ".env")); err != nil {
		t.Fatal(err)
	}
	states, err := filepath.Glob(filepath.Join(w.home, "state/localport/projects/*/state.json*"))
	if len(states) != 1 || err != nil {
		t.Errorf("the state was recreated: %q, %v", states, err)
	}
}
