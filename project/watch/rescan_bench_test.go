package watch

import (
	"path/filepath"
	"strings"
	"testing"
)

// BenchmarkALook measures one rescan: every 30 seconds with events, every two without.
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
