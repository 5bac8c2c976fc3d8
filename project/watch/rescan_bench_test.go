package watch

import (
	"path/filepath"
	"strings"
	"testing"
)

// BenchmarkALook measures one rescan. A Watcher rescans every 30 seconds if it receives events, else every two.
func BenchmarkALook(b *testing.B) {
	dir := resolvedTempDir(b)
	var paths []string
	for _, name := range []string{".localport.toml", ".localport.local.toml", ".env"} {
		paths = append(paths, filepath.Join(dir, name))
		write(b, paths[len(paths)-1], strings.Repeat("x", 4096))
	}
	w := newWatcher(paths, defaultSettings)
	defer w.watches.close()
	for b.Loop() {
		w.rescan(false)
	}
}
