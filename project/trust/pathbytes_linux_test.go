package trust

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/localport-sh/localport/project"
)

func TestStore_PathNeedNotBeUTF8(t *testing.T) {
	s, parent := newStore(t), newProject(t)
	root, other := filepath.Join(parent, "caf\xe9"), filepath.Join(parent, "caf\xff") // in JSON the same
	for _, dir := range []string{root, other} {
		write(t, filepath.Join(dir, project.ConfigName), config)
	}
	for range 2 {
		must(t, s.Allow(readFiles(t, root)))
		wantVerdict(t, s, root, Allowed)
	}
	wantVerdict(t, s, other, Unknown)
	data, err := os.ReadFile(s.recordPath(filepath.Join(root, project.ConfigName)))
	must(t, err)
	write(t, s.recordPath(filepath.Join(other, project.ConfigName)), string(data))
	wantVerdict(t, s, other, Unknown) // another project's record
}
