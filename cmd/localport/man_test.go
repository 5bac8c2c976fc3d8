package main

import (
	"os/exec"
	"strings"
	"testing"
)

func TestGolden_ManualPage(t *testing.T) {
	t.Parallel()
	page := newTestEnv(t).mustRun("/", "man", "--date=2026-01-31")
	checkGolden(t, "localport.1", page)
	for _, checker := range [][]string{
		{"groff", "-man", "-Tutf8", "-ww", "-z"},
		{"mandoc", "-Tlint", "-Wwarning"},
	} {
		if _, err := exec.LookPath(checker[0]); err != nil {
			t.Skipf("%s is not installed", checker[0])
		}
		cmd := exec.Command(checker[0], checker[1:]...)
		cmd.Stdin = strings.NewReader(page)
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", checker[0], err, out)
		}
	}
}

// What people copy from the page must arrive as it is written.
func TestManualPage_ExampleIsValid(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	cmd := exec.Command("groff", "-man", "-Tutf8", "-P-cbou")
	cmd.Stdin = strings.NewReader(w.mustRun("/", "man"))
	out, err := cmd.Output()
	if err != nil {
		t.Skipf("groff: %v", err)
	}
	_, config, _ := strings.Cut(string(out), "$ cat .localport.toml")
	config, _, isFound := strings.Cut(config, "$ localport allow")
	if !isFound {
		t.Fatalf("no example in\n%s", out)
	}
	root := w.project(config)
	w.mustRun(root, "config", "validate")
}
