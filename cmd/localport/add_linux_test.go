package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
)

func TestAdd_FullDiskLeavesTheFileNamespace(t *testing.T) {
	w := newTestEnvWithSmallDisk(t)
	root := filepath.Join(w.home, "state/shop")
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	w.writeFile(root, ".localport.toml", quietConfig+strings.Repeat("# filling\n", 3000))
	before := readText(t, root, ".localport.toml")
	w.mustRun(root, "allow")
	free := w.fillDisk()
	o := w.localport(root, "add", "tcp", "db.internal:15432")
	free()
	if o.code != output.ExitFailed || !strings.Contains(o.stderr, "no space left on device; nothing was written") || readText(t, root, ".localport.toml") != before {
		t.Errorf("exit %d\n%s", o.code, o.stderr)
	}
	entries, err := os.ReadDir(root)
	if err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
}
