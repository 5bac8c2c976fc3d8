package process

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/testdata/executable"
)

// writeProgram puts an executable file into dir/name.
func writeProgram(t *testing.T, mode fs.FileMode, elem ...string) string {
	t.Helper()
	path := filepath.Join(elem...)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho \"$0\"\n"), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLookPath_UsesTheGivenPATHAndDirectory(t *testing.T) {
	dir := t.TempDir()
	first := writeProgram(t, 0o755, dir, "first", "tool")
	writeProgram(t, 0o755, dir, "second", "tool")
	writeProgram(t, 0o644, dir, "noexec", "tool")
	program := writeProgram(t, 0o755, dir, "project", "bin", "tool")
	project := filepath.Join(dir, "project")
	tests := []struct{ name, path, want string }{
		{"tool", dir + "/first:" + dir + "/second", first},
		{"tool", dir + "/noexec:" + dir + "/none:" + dir + "/first", first},
		{"tool", "bin:" + dir + "/first", program},
		{"./bin/tool", "/nowhere", program},
		{first, "", first},
	}
	for _, tt := range tests {
		env := []string{"PATH=/overridden", "PATH=" + tt.path}
		if got, err := LookPath(tt.name, env, project); err != nil || got != tt.want {
			t.Errorf("LookPath(%q) in %q: %q, %v; want %q", tt.name, tt.path, got, err, tt.want)
		}
	}
}

func TestClassifyStartError_MissingProgramNamesThePATHSearched(t *testing.T) {
	_, err := Start(Command{Argv: []string{"no-such-tool"}, Env: []string{"PATH=/a:/b"}})
	if missing, ok := errors.AsType[*NotFoundError](err); !ok || missing.Path != "/a:/b" {
		t.Fatalf("got %v", err)
	}
	f := ClassifyStartError(err, Command{Argv: []string{"no-such-tool"}, Env: []string{"PATH=/a:/b"}}, "install it")
	if f.Class != forwarder.NeedsUser || f.Hint != "install it" || !strings.Contains(f.Reason, "/a:/b") {
		t.Errorf("got %+v", f)
	}
}

func TestClassifyStartError_ProgramThatCannotRunIsPermanent(t *testing.T) {
	dir := t.TempDir()
	writeProgram(t, 0o644, dir, "noexec")
	if err := executable.WriteFile(filepath.Join(dir, "lost"), []byte("#!/no/such/interpreter\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := executable.WriteFile(filepath.Join(dir, "garbage"), []byte("\x00\x01"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"noexec", "lost", "garbage"} {
		c := Command{Argv: []string{name}, Env: []string{"PATH=" + dir}}
		_, err := Start(c)
		if err == nil {
			t.Errorf("%s ran", name)
			continue
		}
		if f := ClassifyStartError(err, c, ""); f.Class != forwarder.Permanent || !strings.Contains(f.Reason, name) {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

// A program that is installed, or repaired, later is noticed without a command.
func TestClassifyStartError_EndsWhenTheProgramIsInstalled(t *testing.T) {
	dir := t.TempDir()
	c := Command{Argv: []string{"late"}, Env: []string{"PATH=" + dir}}
	for _, mode := range []os.FileMode{0o644, 0o755} {
		_, err := Start(c)
		f := ClassifyStartError(err, c, "")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		resultCh := make(chan bool, 1)
		go func() { resultCh <- f.AwaitChange(ctx) }()
		if err := os.Chmod(writeProgram(t, mode, dir, "late"), mode); err != nil {
			t.Fatal(err)
		}
		select {
		case hasChanged := <-resultCh:
			if !hasChanged {
				t.Error("the wait ended without a change")
			}
		case <-time.After(30 * time.Second):
			t.Fatal("the program was not noticed")
		}
		cancel()
	}
}

// A program that is installed between the start that failed and the first look is noticed too.
func TestClassifyStartError_EndsIfTheProgramWasInstalledMeanwhile(t *testing.T) {
	dir := t.TempDir()
	c := Command{Argv: []string{"late"}, Env: []string{"PATH=" + dir}}
	_, err := Start(c)
	writeProgram(t, 0o755, dir, "late")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if f := ClassifyStartError(err, c, ""); f.Class != forwarder.NeedsUser || !f.AwaitChange(ctx) {
		t.Errorf("got %+v, and the program was not noticed", f)
	}
}

func TestLookPath_IgnoresUnreadableDirectories(t *testing.T) {
	if os.Getuid() == 0 {
		t.Log("root may search every directory: this tests nothing unless run as another user")
	}
	dir := filepath.Join(t.TempDir(), "shut")
	if err := os.Mkdir(dir, 0); err != nil {
		t.Fatal(err)
	}
	_, err := LookPath("no-such-program", []string{"PATH=" + dir}, "/")
	if _, missing := errors.AsType[*NotFoundError](err); !missing {
		t.Errorf("got %v, want that the program is missing", err)
	}
}
