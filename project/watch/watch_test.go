package watch

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/localport-sh/localport/project/watch/fsevent"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fastSettings make a Watcher report at once and never rescan without an event, so that every report comes from an event.
func fastSettings() settings {
	s := defaultSettings
	s.debounce, s.maxDelay, s.pollInterval, s.rescanInterval = 2*time.Millisecond, 50*time.Millisecond, time.Hour, time.Hour
	return s
}

// startWatcher watches these files until the test ends.
func startWatcher(t testing.TB, s settings, paths ...string) *Watcher {
	t.Helper()
	w := start(paths, nil, s)
	t.Cleanup(w.Close)
	return w
}

// waitForChange waits for a change.
func waitForChange(t testing.TB, w *Watcher, what string) {
	t.Helper()
	select {
	case <-w.Changes():
	case <-time.After(30 * time.Second):
		t.Fatalf("no change reported: %s", what)
	}
}

// A directory may be missing when it is to be watched, and back with its old inode number before the next check.
func TestWatcher_WatchesABrieflyMissingDirectory(t *testing.T) {
	shop, gone := filepath.Join(resolvedTempDir(t), "shop"), false
	must(t, os.Mkdir(shop, 0o700))
	s := fastSettings()
	s.add = func(source eventSource, path string, interest fsevent.Interest) error {
		if path == shop && !gone {
			gone = true
			return fs.ErrNotExist
		}
		return source.Add(path, interest)
	}
	w := startWatcher(t, s, filepath.Join(shop, "f"))
	write(t, filepath.Join(shop, "f"), "x")
	waitForChange(t, w, "the file's appearance")
}

// waitForText waits until path holds text as the reader of changes sees it.
func waitForText(t testing.TB, w *Watcher, path, text, what string) {
	t.Helper()
	for {
		waitForChange(t, w, what)
		if data, err := os.ReadFile(path); err == nil && string(data) == text {
			return
		}
	}
}

// waitForRemoval waits until path is not there as the reader of changes sees it.
func waitForRemoval(t testing.TB, w *Watcher, path, what string) {
	t.Helper()
	for {
		waitForChange(t, w, what)
		if _, err := os.Stat(path); err != nil {
			return
		}
	}
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func must(t interface {
	Helper()
	Fatal(...any)
}, err error,
) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// resolvedTempDir is a temporary directory by its physical path.
func resolvedTempDir(t testing.TB) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	return dir
}

func TestWatcher_ReportsEveryWayOfSaving(t *testing.T) {
	saveScripts := map[string]string{
		"in place":                         `echo new >f`,
		"appended":                         `echo more >>f; echo new >f`,
		"renamed over":                     `echo new >.f.tmp && mv .f.tmp f`,
		"unlinked and made again":          `rm f && echo new >f`,
		"sed -i":                           `sed -i.bak s/old/new/ f`,
		"vim":                              `vim -u NONE -i NONE -N -es -c %s/old/new/ -c wq f`,
		"vim, in place":                    `vim -u NONE -i NONE -N -es -c 'set backup backupcopy=yes' -c %s/old/new/ -c wq f`,
		"vim, with a backup that is moved": `vim -u NONE -i NONE -N -es -c 'set backup backupcopy=no' -c %s/old/new/ -c wq f`,
		"emacs, which locks by a link":     `ln -s me@host.1:2 .#f; cp f f~; echo new >f; rm .#f`,
		"made a link":                      `echo new >g; ln -sfn g f`,
		"git checkout":                     `git init -q . && git add f && git -c user.name=a -c user.email=b commit -qm a && echo new >f && git -c user.name=a -c user.email=b commit -qam b && git checkout -q HEAD^ && git checkout -q -`,
	}
	for name, script := range saveScripts {
		t.Run(name, func(t *testing.T) {
			program := strings.Fields(script)[0]
			if _, err := exec.LookPath(program); err != nil {
				t.Skipf("%s is missing", program)
			}
			dir := resolvedTempDir(t)
			path := filepath.Join(dir, "f")
			write(t, path, "old\n")
			w := startWatcher(t, fastSettings(), path)
			cmd := exec.Command("sh", "-c", script)
			cmd.Dir, cmd.Env = dir, append(os.Environ(), "HOME="+dir, "GIT_CONFIG_GLOBAL=/dev/null", "TERM=dumb")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", script, err, out)
			}
			waitForText(t, w, path, "new\n", script)
		})
	}
}

func TestWatcher_ReportsRemovalAndReturn(t *testing.T) {
	path := filepath.Join(resolvedTempDir(t), ".env")
	w := startWatcher(t, fastSettings(), path)
	write(t, path, "A=1")
	waitForText(t, w, path, "A=1", "it appeared")
	must(t, os.Remove(path))
	waitForRemoval(t, w, path, "it vanished")
	write(t, path, "A=1")
	waitForText(t, w, path, "A=1", "it returned as it was")
}

func TestWatcher_IgnoresATouch(t *testing.T) {
	path := filepath.Join(resolvedTempDir(t), "f")
	write(t, path, "same")
	w := newWatcher([]string{path}, fastSettings())
	defer w.watches.close()
	w.deliveredAt = time.Now().Add(-defaultSettings.readGrace)
	must(t, os.Chtimes(path, time.Time{}, time.Now().Add(time.Hour)))
	w.rescan(true)
	write(t, path+".new", "same")
	must(t, os.Rename(path+".new", path))
	w.rescan(true)
	if w.hasChange {
		t.Error("reported a change though nothing changed")
	}
	write(t, path, "else")
	w.rescan(true)
	if !w.hasChange {
		t.Error("did not report a change to something of the same length")
	}
}

func TestWatcher_ReportsWhatTheCallerMayHaveMissed(t *testing.T) {
	for _, event := range []bool{true, false} {
		path := filepath.Join(resolvedTempDir(t), "f")
		write(t, path, "same")
		w := newWatcher([]string{path}, fastSettings())
		defer w.watches.close()
		w.rescan(false)
		if w.hasChange {
			t.Error("reported a change though nothing happened")
		}
		write(t, path, "for a moment") // which is what the caller reads
		write(t, path, "same")
		w.rescan(event)
		if !w.hasChange {
			t.Errorf("no change reported; event: %v", event)
		}
	}
}

func TestWatcher_ReportsANamedPipeWithoutBlocking(t *testing.T) {
	path := filepath.Join(resolvedTempDir(t), "f")
	write(t, path, "old")
	w := startWatcher(t, fastSettings(), path)
	must(t, os.Remove(path))
	must(t, exec.Command("mkfifo", path).Run())
	waitForChange(t, w, "a named pipe took its place")
	must(t, os.Remove(path))
	write(t, path, "new")
	waitForText(t, w, path, "new", "a file took the pipe's place")
}

func TestWatcher_ReportsARemovedAndRecreatedDirectory(t *testing.T) {
	for _, gone := range []string{"a/b/shop", "a/b", "a"} {
		for _, how := range []string{"removed", "removed while somebody is in it", "renamed", "renamed and removed"} {
			if !watchAncestors && how == "renamed" && gone != "a/b/shop" {
				continue // found by the rescan
			}
			t.Run(gone+" "+how, func(t *testing.T) {
				base := resolvedTempDir(t)
				root, victim := filepath.Join(base, "a/b/shop"), filepath.Join(base, gone)
				path := filepath.Join(root, ".localport.toml")
				must(t, os.MkdirAll(root, 0o700))
				write(t, path, "old")
				w := startWatcher(t, fastSettings(), path)
				if strings.HasSuffix(how, "in it") {
					held, err := os.Open(root)
					must(t, err)
					defer held.Close()
				}
				if strings.HasPrefix(how, "renamed") {
					must(t, os.Rename(victim, filepath.Join(base, "away")))
					must(t, os.RemoveAll(filepath.Join(base, strings.TrimPrefix(how+"/away", "renamed"))))
				} else {
					must(t, os.RemoveAll(victim))
				}
				waitForRemoval(t, w, path, "it vanished")
				must(t, os.MkdirAll(root, 0o700))
				write(t, path, "old")
				waitForText(t, w, path, "old", "it returned")
				write(t, path, "new")
				waitForText(t, w, path, "new", "it changed after its return")
			})
		}
	}
}

func TestWatcher_ReportsAFileInANewDirectory(t *testing.T) {
	path := filepath.Join(resolvedTempDir(t), "one/two/three/local.toml")
	w := startWatcher(t, fastSettings(), path)
	must(t, os.MkdirAll(filepath.Dir(path), 0o700))
	write(t, path, "new")
	waitForText(t, w, path, "new", "it appeared with all its directories")
}

func TestWatcher_SetPathsLosesNoChange(t *testing.T) {
	dir := resolvedTempDir(t)
	one, two, three := filepath.Join(dir, "one"), filepath.Join(dir, "2/two"), filepath.Join(dir, "3/three")
	for _, path := range []string{two, three} {
		must(t, os.Mkdir(filepath.Dir(path), 0o700))
	}
	w := startWatcher(t, fastSettings(), one, two)
	write(t, two, "changed just before")
	w.SetPaths([]string{two, three})
	waitForText(t, w, two, "changed just before", "what stayed changed before the call")
	write(t, three, "changed just after")
	waitForText(t, w, three, "changed just after", "the new one changed after the call")
}

func TestWatcher_WatchesOnlyDirectoriesOnThePath(t *testing.T) {
	dir := resolvedTempDir(t)
	for _, sub := range []string{"shop/node_modules/a/b", "shop/.git", "main"} {
		must(t, os.MkdirAll(filepath.Join(dir, sub), 0o700))
	}
	config, env := filepath.Join(dir, "shop/.localport.toml"), filepath.Join(dir, "main/.env")
	w := newWatcher([]string{config, env}, fastSettings())
	defer w.watches.close()
	for path := range w.watches.targets {
		if !strings.HasPrefix(config, path) && !strings.HasPrefix(env, path) {
			t.Errorf("%s is watched", path)
		}
	}
	w.replacePaths([]string{env})
	if _, isWatched := w.watches.targets[filepath.Dir(config)]; isWatched {
		t.Errorf("still watched for no file: %s", filepath.Dir(config))
	}
}

func TestWatcher_CloseIsIdempotent(t *testing.T) {
	w := start([]string{filepath.Join(resolvedTempDir(t), "f")}, nil, fastSettings())
	w.Close()
	w.Close()
	w.SetPaths(nil)
}

// cpuTime returns the CPU time that this process has used.
func cpuTime(t testing.TB) time.Duration {
	var usage syscall.Rusage
	must(t, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
