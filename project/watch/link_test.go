package watch

import (
	"os"
	"path/filepath"
	"testing"
)

// replaceLink makes path a link to target as `ln -sfn` and kubelet do: by renaming over it.
func replaceLink(t testing.TB, target, path string) {
	t.Helper()
	must(t, os.Symlink(target, path+".tmp"))
	must(t, os.Rename(path+".tmp", path))
}

func TestWatcher_ReportsChangedLinkOrTarget(t *testing.T) {
	dir, other := resolvedTempDir(t), resolvedTempDir(t)
	path, middle, target := filepath.Join(dir, "f"), filepath.Join(other, "middle"), filepath.Join(other, "deep/target")
	must(t, os.Mkdir(filepath.Dir(target), 0o700))
	write(t, target, "old")
	write(t, filepath.Join(other, "deep/second"), "second")
	replaceLink(t, "deep/target", middle)
	replaceLink(t, middle, path)
	w := startWatcher(t, fastSettings(), path)

	write(t, target, "new")
	waitForText(t, w, path, "new", "the target was written")
	replaceLink(t, "deep/second", middle)
	waitForText(t, w, path, "second", "the link in the middle was swapped")
	write(t, target, "ignored")
	replaceLink(t, other+"/deep/..//deep/./target", path)
	waitForText(t, w, path, "ignored", "the first link was replaced by one with . and .. in its target")
}

func TestWatcher_ReportsKubernetesVolumeUpdate(t *testing.T) {
	dir := resolvedTempDir(t)
	path := filepath.Join(dir, ".localport.toml")
	version := func(name, text string) {
		must(t, os.Mkdir(filepath.Join(dir, name), 0o700))
		write(t, filepath.Join(dir, name, ".localport.toml"), text)
		replaceLink(t, name, filepath.Join(dir, "..data"))
	}
	version("..2026_1", "one")
	replaceLink(t, "..data/.localport.toml", path)
	w := startWatcher(t, fastSettings(), path)
	version("..2026_2", "two")
	waitForText(t, w, path, "two", "the first swap")
	must(t, os.RemoveAll(filepath.Join(dir, "..2026_1")))
	version("..2026_3", "three")
	waitForText(t, w, path, "three", "the second swap")
}

func TestWatcher_ReportsReplacedAncestorLink(t *testing.T) {
	dir := resolvedTempDir(t)
	path := filepath.Join(dir, "current/shop/f")
	for _, release := range []string{"one", "two"} {
		must(t, os.MkdirAll(filepath.Join(dir, release, "shop"), 0o700))
		write(t, filepath.Join(dir, release, "shop/f"), release)
	}
	replaceLink(t, "one", filepath.Join(dir, "current"))
	w := startWatcher(t, fastSettings(), path)
	replaceLink(t, "two", filepath.Join(dir, "current"))
	waitForText(t, w, path, "two", "the ancestor was swapped")
}

func TestWatcher_WatchesALinkLoop(t *testing.T) {
	dir := resolvedTempDir(t)
	path := filepath.Join(dir, "f")
	replaceLink(t, "g", path)
	replaceLink(t, "f", filepath.Join(dir, "g"))
	w := startWatcher(t, fastSettings(), path)
	must(t, os.Remove(filepath.Join(dir, "g")))
	write(t, filepath.Join(dir, "g"), "new")
	waitForText(t, w, path, "new", "the loop was broken")
}
