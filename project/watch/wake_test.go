package watch

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/localport-sh/localport/project/watch/fsevent"
)

// The kernel delivers the events of one source in order: an event that comes before the last one's would have woken the process.
func TestWatcher_IsNotWokenByOtherFiles(t *testing.T) {
	if !fsevent.WatchesFiles {
		t.Skip("kqueue reports no writes to other files, but every new file in a directory")
	}
	above := resolvedTempDir(t)
	root := filepath.Join(above, "shop")
	must(t, os.Mkdir(root, 0o700))
	config, env, log := filepath.Join(root, ".localport.toml"), filepath.Join(root, ".env"), filepath.Join(root, "build.log")
	for _, path := range []string{config, log, filepath.Join(above, "old")} {
		write(t, path, "old")
	}
	source, err := newSource()
	must(t, err)
	defer source.Close()
	targets, names := requiredWatches([]string{config, env})
	for path, target := range targets {
		must(t, source.Add(path, target.interest))
	}
	expect := func(what, name string) {
		t.Helper()
		select {
		case event := <-source.Events():
			if event.Name != name || event.IsGone {
				t.Errorf("%s: %+v, want an event of %q", what, event, name)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%s: no event", what)
		}
	}
	for n := range 10 {
		must(t, os.WriteFile(filepath.Join(above, "old"), []byte{'x'}, 0o600))
		path := filepath.Join(above, strconv.Itoa(n))
		write(t, path, "new")
		must(t, os.Rename(path, path+".new"))
		must(t, os.Remove(path+".new"))
		must(t, os.WriteFile(log, []byte{'x'}, 0o600))
	}
	must(t, os.Remove(log))
	must(t, os.Truncate(config, 0))
	expect("the config was truncated", "")
	write(t, env, "new")
	expect("a file appeared that is watched", ".env")
	if !names[".env"] || names["build.log"] {
		t.Errorf("relevant names: %v", names)
	}
}

// A directory in which nothing is watched can be removed while it is some process's working directory, which only the directory above reports.
func TestRequiredWatches_AskForRemovalsOnlyWhereNoFilePreventsThem(t *testing.T) {
	if !fsevent.WatchesFiles {
		t.Skip("directories report everything")
	}
	above := resolvedTempDir(t)
	root := filepath.Join(above, "shop")
	must(t, os.Mkdir(root, 0o700))
	config := filepath.Join(root, ".localport.toml")
	const either = fsevent.Appearance | fsevent.Disappearance
	for _, c := range []struct {
		what                                  string
		prepare                               func()
		aboveParent, inParent, inRoot, ofFile fsevent.Interest
	}{
		{"no file", func() {}, 0, fsevent.Disappearance, fsevent.Appearance, 0},
		{"a file", func() { write(t, config, "x") }, 0, 0, 0, fsevent.Content},
		{"a link", func() { replaceLink(t, "target", config) }, 0, 0, either, 0},
	} {
		c.prepare()
		targets, _ := requiredWatches([]string{config})
		got := [...]fsevent.Interest{targets[filepath.Dir(above)].interest, targets[above].interest, targets[root].interest, targets[config].interest}
		if want := [...]fsevent.Interest{c.aboveParent, c.inParent, c.inRoot, c.ofFile}; got != want {
			t.Errorf("%s: %v, want %v", c.what, got, want)
		}
	}
}

// A file that is replaced again and again, as every state file is, has no other source opened for it.
func TestWatchSet_KeepsItsSourceWhenAFileIsReplaced(t *testing.T) {
	if !fsevent.WatchesFiles {
		t.Skip("a directory is watched, whatever its files are")
	}
	path, opened := filepath.Join(resolvedTempDir(t), "f"), 0
	write(t, path, "old")
	s := fastSettings()
	s.newSource = func() (eventSource, error) {
		opened++
		return newSource()
	}
	w := startWatcher(t, s, path)
	for n := range 10 {
		write(t, path+".new", strconv.Itoa(n))
		must(t, os.Rename(path+".new", path))
		waitForText(t, w, path, strconv.Itoa(n), "it was replaced")
	}
	w.Close()
	if opened != 1 {
		t.Errorf("%d sources were opened", opened)
	}
}
