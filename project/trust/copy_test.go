package trust

import (
	"os"
	"strings"
	"testing"

	"github.com/localport-sh/localport/project"
)

func TestStore_KeepsACopyOfWhatWasAllowedLast(t *testing.T) {
	s, root := newStore(t), newProject(t)
	f := readFiles(t, root)
	if _, ok := s.LastAllowed(f); ok {
		t.Error("there is a copy before the first allow")
	}
	masked := []project.MaskedFile{{Name: project.ConfigName, Text: "shown", Digest: "d"}}
	must(t, s.AllowCopied(f, masked))
	wantVerdict(t, s, root, Allowed)
	c, ok := s.LastAllowed(f)
	if !ok || len(c.Files) != 1 || c.Files[0] != masked[0] || c.Digest != f.Digest() || c.AllowedAt.IsZero() {
		t.Errorf("%+v, %v", c, ok)
	}
	info, err := os.Stat(s.copyPath(f.Path))
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the copy's mode is %v", info.Mode())
	}
	must(t, s.Deny(f))
	if _, ok := s.LastAllowed(f); ok {
		t.Error("there is a copy after deny")
	}
	if _, err := os.Stat(s.copyPath(f.Path)); !os.IsNotExist(err) {
		t.Errorf("deny keeps the copy: %v", err)
	}
	must(t, s.Deny(f))
}

func TestStore_IgnoresCopiesThatItCannotTrust(t *testing.T) {
	s, root := newStore(t), newProject(t)
	f := readFiles(t, root)
	for name, spoil := range map[string]func(path string){
		"writable by others": func(path string) { must(t, os.Chmod(path, 0o666)) },
		"damaged":            func(path string) { must(t, os.WriteFile(path, []byte("{"), 0o600)) },
		"another version": func(path string) {
			must(t, os.WriteFile(path, []byte(`{"version":2,"digest":"`+f.Digest()+`"}`), 0o600))
		},
		"of other contents": func(path string) { must(t, os.WriteFile(path, []byte(`{"version":1,"digest":"x"}`), 0o600)) },
		"denied by an older version, which leaves the copy": func(string) {
			must(t, s.updateRecord(f.Path, func(r *record) { r.Allowed, r.Denied = nil, true }))
		},
	} {
		must(t, s.AllowCopied(f, nil))
		if _, ok := s.LastAllowed(f); !ok {
			t.Fatal("no copy")
		}
		spoil(s.copyPath(f.Path))
		if _, ok := s.LastAllowed(f); ok {
			t.Errorf("a copy that is %s is used", name)
		}
		must(t, os.Remove(s.copyPath(f.Path)))
	}
}

func TestStore_KeepsNoTextsOfLargeFiles(t *testing.T) {
	s, root := newStore(t), newProject(t)
	f := readFiles(t, root)
	must(t, s.AllowCopied(f, []project.MaskedFile{{Name: "a", Text: strings.Repeat("x", maxCopySize), Digest: "d"}, {Name: "b", Text: "y", Digest: "e"}}))
	c, ok := s.LastAllowed(f)
	if !ok || len(c.Files) != 2 || c.Files[0] != (project.MaskedFile{Name: "a", Digest: "d"}) || c.Files[1].Text != "" {
		t.Errorf("%+v, %v", c, ok)
	}
	info, err := os.Stat(s.copyPath(f.Path))
	if err != nil || info.Size() > maxCopySize {
		t.Errorf("%v, %v", info, err)
	}
}
