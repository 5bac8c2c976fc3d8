package watch

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// fileTree is a project whose files change at random: base/up/shop/f, which may be a link.
type fileTree struct {
	base, root, path string
	textCount        int
}

func (p *fileTree) text() []byte {
	p.textCount++
	return []byte(strconv.Itoa(p.textCount))
}

// apply makes one change, if it is possible now.
func (p *fileTree) apply(what string) {
	beside, other := filepath.Join(p.base, "beside"), filepath.Join(p.base, "other")
	switch what {
	case "write":
		_ = os.WriteFile(p.path, p.text(), 0o600)
	case "write a new file":
		_ = os.WriteFile(p.path+".tmp", p.text(), 0o600)
		_ = os.Rename(p.path+".tmp", p.path)
	case "write beside":
		_ = os.WriteFile(beside, p.text(), 0o600)
	case "link":
		_ = os.Symlink(beside, p.path+".tmp")
		_ = os.Rename(p.path+".tmp", p.path)
	case "dangle":
		_ = os.Symlink("not/there", p.path+".tmp")
		_ = os.Rename(p.path+".tmp", p.path)
	case "unlink":
		_ = os.Remove(p.path)
	case "touch":
		_ = os.Chtimes(p.path, time.Time{}, time.Now())
	case "forbid":
		_ = os.Chmod(p.path, 0)
	case "permit":
		_ = os.Chmod(p.path, 0o600)
	case "remove the project":
		_ = os.RemoveAll(p.root)
	case "remove its parent":
		_ = os.RemoveAll(filepath.Dir(p.root))
	case "rename the project away":
		_ = os.Rename(p.root, other)
	case "rename its parent away":
		_ = os.Rename(filepath.Dir(p.root), other)
	case "rename it back":
		_ = os.Rename(other, p.root)
	case "remove what was renamed":
		_ = os.RemoveAll(other)
	case "link the project":
		_ = os.Symlink(other, p.root)
	case "make":
		_ = os.MkdirAll(p.root, 0o700)
	}
}

var fileEvents = []string{
	"write", "write", "write", "write a new file", "write a new file", "write beside", "link", "dangle", "unlink", "touch", "forbid", "permit",
	"remove the project", "remove its parent", "rename the project away", "rename its parent away", "rename it back",
	"remove what was renamed", "link the project", "make", "make",
}

func TestWatcher_ReportsTheLastOfAnyChanges(t *testing.T) {
	if !watchAncestors {
		t.Log("renamed ancestors are found by the rescan, which this test does not wait for")
		fileEvents = fileEvents[:len(fileEvents)-8]
	}
	dir, runs := resolvedTempDir(t), 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		base := filepath.Join(dir, strconv.Itoa(runs))
		must(t, os.Mkdir(base, 0o700))
		defer os.RemoveAll(base)
		p := &fileTree{base: base, root: filepath.Join(base, "up/shop"), path: filepath.Join(base, "up/shop/f")}
		p.apply(rapid.SampledFrom([]string{"make", "touch"}).Draw(t, "first"))
		w := start([]string{p.path}, nil, fastSettings())
		defer w.Close()
		seen := p.read()
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			p.apply(rapid.SampledFrom(fileEvents).Draw(t, "then"))
			select {
			case <-w.Changes():
				seen = p.read()
			case <-time.After(time.Duration(rapid.SampledFrom([]int{0, 0, 0, 1, 4, 8}).Draw(t, "ms")) * time.Millisecond):
			}
		}
		for last := p.read(); seen.differs(last); seen = p.read() {
			select {
			case <-w.Changes():
			case <-time.After(10 * time.Second):
				t.Fatalf("the reader still has %+v, and now it is %+v", seen, last)
			}
		}
	})
}

// read returns what the reader of changes sees.
func (p *fileTree) read() content { return readContents([]string{p.path})[p.path] }

// BenchmarkAFloodOfOtherFiles writes a file that is not watched into the project's root: cpu-ns/op is the CPU time that each write costs
// this process, with and without a Watcher.
func BenchmarkAFloodOfOtherFiles(b *testing.B) {
	for _, watched := range []bool{false, true} {
		b.Run("watched="+strconv.FormatBool(watched), func(b *testing.B) {
			dir := resolvedTempDir(b)
			if watched {
				startWatcher(b, defaultSettings, filepath.Join(dir, ".localport.toml"))
			}
			before := cpuTime(b)
			for b.Loop() {
				write(b, filepath.Join(dir, "x"), "x")
			}
			b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
		})
	}
}
