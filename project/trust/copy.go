package trust

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/localport-sh/localport/project"
)

// copyVersion is the version of the format of copies. One of another version is ignored.
const copyVersion = 1

// maxCopySize is the size of the largest copy that is kept. A larger one is kept without texts.
const maxCopySize = 64 << 10

// Copy is what a project's files were when they were allowed last, without secrets. It stands beside the record, in a file of its own: older versions
// read only 64 KiB of a record.
type Copy struct {
	Version   int                  `json:"version"`
	Digest    string               `json:"digest"` // of the files, as in the record
	AllowedAt time.Time            `json:"allowed_at"`
	Files     []project.MaskedFile `json:"files"`
}

func (s Store) copyPath(path string) string {
	return strings.TrimSuffix(s.recordPath(path), ".json") + ".copy"
}

// AllowCopied is Allow, and keeps masked, which are those of f, for LastAllowed. If they cannot be written, f is allowed all the same.
func (s Store) AllowCopied(f *project.Files, masked []project.MaskedFile) error {
	if err := s.Allow(f); err != nil {
		return err
	}
	_ = s.writeCopy(f.Path, Copy{Version: copyVersion, Digest: f.Digest(), AllowedAt: time.Now().UTC(), Files: masked})
	return nil
}

func (s Store) writeCopy(path string, c Copy) error {
	data, err := json.Marshal(c)
	if err == nil && len(data) > maxCopySize {
		c.Files = slices.Clone(c.Files)
		for i := range c.Files {
			c.Files[i].Text = ""
		}
		data, err = json.Marshal(c)
	}
	if err != nil || len(data) > maxCopySize {
		return errors.Join(err, s.removeCopy(path))
	}
	return renameio.WriteFile(s.copyPath(path), append(data, '\n'), 0o600, renameio.WithStaticPermissions(0o600), renameio.WithTempDir(s.Dir))
}

// LastAllowed returns the copy of what was allowed last of the project of f; false if there is none, such as after an allow by an older version, or if
// what it holds is not allowed any more.
func (s Store) LastAllowed(f *project.Files) (Copy, bool) {
	r, err := s.readRecord(f.Path)
	if err != nil || r.Denied {
		return Copy{}, false
	}
	data, info, err := readRegular(s.copyPath(f.Path), maxCopySize+1)
	var c Copy
	if err != nil || !isPrivate(info) || json.Unmarshal(data, &c) != nil || c.Version != copyVersion {
		return Copy{}, false
	}
	return c, slices.Contains(r.Allowed, c.Digest)
}

func (s Store) removeCopy(path string) error {
	if err := os.Remove(s.copyPath(path)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
