package process

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/localport-sh/localport/testdata/executable"
)

func TestFindDefect_NamesAFileSystemThatIsMountedNoexec(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", "noexec", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Logf("this tests nothing without the right to mount: %v: %s", err, out)
		return
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	path := filepath.Join(dir, "script")
	if err := executable.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	c := Command{Argv: []string{path}, Env: []string{}}
	_, err := Start(c)
	if err == nil {
		t.Fatal("it ran")
	}
	if f := ClassifyStartError(err, c, ""); !strings.Contains(f.Reason, "mounted noexec") || !strings.Contains(f.Hint, "/bin/sh "+path) {
		t.Errorf("got %+v", f)
	}
}

// A program that was linked for another C library.
func TestFindDefect_NamesAMissingLoader(t *testing.T) {
	path, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	file, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	isStatic := true
	for _, header := range file.Progs {
		if header.Type == elf.PT_INTERP {
			isStatic = false
			copy(data[header.Off:header.Off+header.Filesz], "/lib/ld-musl.so.1\x00")
		}
	}
	if isStatic {
		t.Log("this tests nothing where sh has no loader")
		return
	}
	program := filepath.Join(t.TempDir(), "program")
	if err := executable.WriteFile(program, data, 0o755); err != nil {
		t.Fatal(err)
	}
	c := Command{Argv: []string{program}, Env: []string{}}
	_, err = Start(c)
	if err == nil {
		t.Fatal("it ran")
	}
	if f := ClassifyStartError(err, c, ""); !strings.Contains(f.Reason, "its loader, /lib/ld-musl.so.1, does not exist") || !strings.Contains(f.Hint, "for this system") {
		t.Errorf("got %+v", f)
	}
}
