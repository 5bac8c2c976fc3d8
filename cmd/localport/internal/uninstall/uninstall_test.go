package uninstall

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRemovalCommand_DependsOnHowItWasInstalled(t *testing.T) {
	dir := t.TempDir()
	cellar := filepath.Join(dir, "Cellar/localport/1.0.0/bin/localport")
	if err := os.MkdirAll(filepath.Dir(cellar), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, cellar, "")
	link := filepath.Join(dir, "localport")
	if err := os.Symlink(cellar, link); err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	packaged := filepath.Join(dir, "packaged")
	write(t, packaged, "")
	write(t, filepath.Join(bin, "dpkg-query"), "#!/bin/sh\n[ \"$2\" = "+packaged+" ] && echo localport: $2\n")
	rpmBin := filepath.Join(dir, "rpmbin")
	if err := os.Mkdir(rpmBin, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(rpmBin, "rpm"), "#!/bin/sh\n[ \"$5\" = "+packaged+" ] && printf localport || { echo file $5 is not owned by any package; exit 1; }\n")
	t.Setenv("PATH", rpmBin)
	for exe, want := range map[string]string{packaged: "sudo dnf remove localport", filepath.Join(dir, "own"): "rm quoted"} {
		if got, _ := RemovalCommand(t.Context(), exe, "quoted"); got != want {
			t.Errorf("%s: %q, want %q", exe, got, want)
		}
	}
	t.Setenv("PATH", bin)
	for exe, want := range map[string]string{
		link: "brew uninstall localport", cellar: "brew uninstall localport", packaged: "sudo apt remove localport",
		filepath.Join(dir, "own"): "rm quoted",
	} {
		if got, _ := RemovalCommand(t.Context(), exe, "quoted"); got != want {
			t.Errorf("%s: %q, want %q", exe, got, want)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	mode := os.FileMode(0o600)
	if strings.HasPrefix(text, "#!") {
		mode = 0o700
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}
