package trust

import (
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/localport-sh/localport/project"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const config = `[services.a]
technology = "ssh"
local_port = 1
remote_port = 1
connection = { host = "h", key_file = "id" }
`

func newStore(t *testing.T) Store {
	t.Helper()
	return Store{Dir: filepath.Join(resolveLinks(t, t.TempDir()), "data", "trust")}
}

func resolveLinks(t *testing.T, dir string) string {
	t.Helper()
	real, err := filepath.EvalSymlinks(dir)
	must(t, err)
	return real
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte(text), 0o600))
}

func newProject(t *testing.T) string {
	t.Helper()
	root := resolveLinks(t, t.TempDir())
	write(t, filepath.Join(root, project.ConfigName), config)
	return root
}

func readFiles(t *testing.T, root string) *project.Files {
	t.Helper()
	f, err := project.ReadFiles(filepath.Join(root, project.ConfigName))
	must(t, err)
	return f
}

func askVerdict(t *testing.T, s Store, root string) Verdict {
	t.Helper()
	verdict, _, err := s.Ask(readFiles(t, root))
	must(t, err)
	return verdict
}

func wantVerdict(t *testing.T, s Store, root string, want Verdict) {
	t.Helper()
	if got := askVerdict(t, s, root); got != want {
		t.Errorf("%s: %s, want %s", root, got, want)
	}
}

func TestStore_AllowsNothingByDefault(t *testing.T) {
	s, root := newStore(t), newProject(t)
	wantVerdict(t, s, root, Unknown)
	if _, err := os.Stat(s.Dir); err == nil {
		t.Error("asking made the store")
	}
	must(t, s.Allow(readFiles(t, root)))
	wantVerdict(t, s, root, Allowed)
	wantVerdict(t, s, newProject(t), Unknown) // the same bytes elsewhere
	must(t, s.Deny(readFiles(t, root)))
	wantVerdict(t, s, root, Denied)
	write(t, filepath.Join(root, project.ConfigName), config+"\n")
	wantVerdict(t, s, root, Denied)
	must(t, s.Allow(readFiles(t, root)))
	wantVerdict(t, s, root, Allowed)
	write(t, filepath.Join(root, project.ConfigName), config)
	wantVerdict(t, s, root, Changed) // the denial forgot what was allowed before it
}

func TestStore_AnyChangedByteNeedsAllowance(t *testing.T) {
	for _, name := range []string{project.ConfigName, project.LocalName, project.EnvName, "id"} {
		t.Run(name, func(t *testing.T) {
			s, root := newStore(t), newProject(t)
			path := filepath.Join(root, name)
			absent := name != project.ConfigName
			text := config
			if absent {
				must(t, s.Allow(readFiles(t, root)))
				text = "# a\n"
				write(t, path, "")
				wantVerdict(t, s, root, Changed)
				write(t, path, text)
			}
			must(t, s.Allow(readFiles(t, root)))
			for i := range text {
				changed := []byte(text)
				changed[i] ^= 1
				write(t, path, string(changed))
				if got := askVerdict(t, s, root); got != Changed {
					t.Fatalf("byte %d: %s", i, got)
				}
			}
			if absent {
				must(t, os.Remove(path))
				wantVerdict(t, s, root, Allowed) // allowed before it appeared
			}
			write(t, path, text)
			wantVerdict(t, s, root, Allowed)
		})
	}
}

func TestStore_ARemovedFileNeedsAllowance(t *testing.T) {
	for _, name := range []string{project.LocalName, project.EnvName, "id"} {
		s, root := newStore(t), newProject(t)
		write(t, filepath.Join(root, name), "")
		must(t, s.Allow(readFiles(t, root)))
		must(t, os.Remove(filepath.Join(root, name)))
		wantVerdict(t, s, root, Changed)
	}
}

func TestStore_RemembersEarlierContents(t *testing.T) {
	s, root := newStore(t), newProject(t)
	branch := func(n int) { write(t, filepath.Join(root, project.EnvName), "A="+strconv.Itoa(n)) }
	for n := range maxAllowedDigests + 1 {
		branch(n)
		must(t, s.Allow(readFiles(t, root)))
	}
	for n, want := range map[int]Verdict{0: Changed, 1: Allowed, maxAllowedDigests: Allowed} { // a bounded memory: the oldest goes
		branch(n)
		wantVerdict(t, s, root, want)
	}
}

func TestStore_IsPrivateToTheUser(t *testing.T) {
	s, root := newStore(t), newProject(t)
	must(t, s.Allow(readFiles(t, root)))
	must(t, filepath.WalkDir(filepath.Dir(s.Dir), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		}
		if err == nil && info.Mode().Perm() != want {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	}))
	for _, mode := range []fs.FileMode{0o770, 0o702} {
		must(t, os.Chmod(s.Dir, mode))
		verdict, _, err := s.Ask(readFiles(t, root))
		if verdict != Unknown || err == nil || !strings.Contains(err.Error(), s.Dir) {
			t.Errorf("mode %v: %s, %v", mode, verdict, err)
		}
		if s.Allow(readFiles(t, root)) == nil || s.Deny(readFiles(t, root)) == nil {
			t.Errorf("mode %v: written", mode)
		}
	}
	must(t, os.Chmod(s.Dir, 0o700))
	wantVerdict(t, s, root, Allowed)
	if os.Getuid() == 0 {
		must(t, os.Chown(s.Dir, 1234, -1))
		if verdict, _, err := s.Ask(readFiles(t, root)); verdict != Unknown || err == nil {
			t.Errorf("another user's store: %s, %v", verdict, err)
		}
	}
}

func TestStore_RejectsASymbolicLink(t *testing.T) {
	s, root := newStore(t), newProject(t)
	must(t, s.Allow(readFiles(t, root)))
	link := Store{Dir: filepath.Join(t.TempDir(), "trust")}
	must(t, os.Symlink(s.Dir, link.Dir))
	if verdict, _, err := link.Ask(readFiles(t, root)); verdict != Unknown || err == nil {
		t.Errorf("%s, %v", verdict, err)
	}
}

func TestStore_UnusableRecordAllowsNothing(t *testing.T) {
	s, root, other := newStore(t), newProject(t), newProject(t)
	must(t, s.Allow(readFiles(t, root)))
	record := s.recordPath(filepath.Join(root, project.ConfigName))
	whole, err := os.ReadFile(record)
	must(t, err)
	for n := range len(whole) - 2 { // without its last line feed a record is whole
		write(t, record, string(whole[:n]))
		if got := askVerdict(t, s, root); got != Unknown {
			t.Fatalf("torn after %d bytes: %s", n, got)
		}
	}
	for _, foreign := range []string{"null", "[]", `{"version":2}`, "\x00", strings.Repeat("[", maxRecordSize)} {
		write(t, record, foreign)
		wantVerdict(t, s, root, Unknown)
	}
	write(t, s.recordPath(filepath.Join(other, project.ConfigName)), string(whole))
	wantVerdict(t, s, other, Unknown) // another project's record
	write(t, record, string(whole))
	must(t, os.Chmod(record, 0o620))
	wantVerdict(t, s, root, Unknown)
	must(t, os.Remove(record))
	must(t, os.Mkdir(record, 0o700))
	wantVerdict(t, s, root, Unknown)
	must(t, os.Remove(record))
	must(t, s.Allow(readFiles(t, root)))
	wantVerdict(t, s, root, Allowed)
}

func TestStore_AllowReplacesAnUnusableRecord(t *testing.T) {
	s, root := newStore(t), newProject(t)
	must(t, s.Allow(readFiles(t, root)))
	write(t, s.recordPath(filepath.Join(root, project.ConfigName)), "{")
	must(t, s.Allow(readFiles(t, root)))
	wantVerdict(t, s, root, Allowed)
}

func TestStore_ConcurrentAllowsAreAllRecorded(t *testing.T) {
	s, root := newStore(t), newProject(t)
	var all []*project.Files
	for n := range 16 {
		f := readFiles(t, root)
		f.DotEnv = []byte(strconv.Itoa(n))
		all = append(all, f)
	}
	var group sync.WaitGroup
	for _, f := range all {
		group.Go(func() {
			if err := s.Allow(f); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	for _, f := range all {
		if verdict, _, err := s.Ask(f); verdict != Allowed || err != nil {
			t.Errorf("%s: %s, %v", f.DotEnv, verdict, err)
		}
	}
}

func TestStore_KeepsConfigsOfOneDirectoryApart(t *testing.T) {
	s, root := newStore(t), newProject(t)
	other := filepath.Join(root, "other.toml")
	write(t, other, config)
	must(t, s.Allow(readFiles(t, root)))
	f, err := project.ReadFiles(other)
	must(t, err)
	if verdict, _, err := s.Ask(f); verdict != Unknown || err != nil {
		t.Errorf("%s, %v", verdict, err)
	}
}
