package lockstate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// writeLine rewrites the line that prompts compare with what they saw: a number, and the pid and start time of the
// supervisor that should be alive (0 0: none is meant to be).
func (d *Dir) writeLine(st State) error {
	var p Process
	if st.Supervisor != nil {
		p = st.Supervisor.Process
	}
	line := fmt.Sprintf("%d %d %d\n", st.Line, p.PID, p.Start)
	if err := replaceFile(d.file("prompt"), []byte(line)); err != nil {
		return fmt.Errorf("write the prompt's line: %w", err)
	}
	return nil
}

// PromptLine is the line as it stands; empty if there is none.
func (d *Dir) PromptLine() string {
	data, _ := os.ReadFile(d.file("prompt"))
	return strings.TrimSuffix(string(data), "\n")
}

// stamps are the files whose age prompts watch, by the name of their stamp.
var stamps = map[string]string{
	"stamp.config": ".localport.toml",
	"stamp.local":  ".localport.local.toml",
	"stamp.env":    ".env",
}

// Stamp records the age of the root's three files as looked at now, and reports whether any of them had changed
// since the last stamp. Each stamp carries its file's own time, so that a shell can tell older as well as newer.
func (d *Dir) Stamp(root string) (changed bool, err error) {
	for stamp, name := range stamps {
		c, err := stampOne(d.file(stamp), filepath.Join(root, name))
		if err != nil {
			return changed, fmt.Errorf("stamp %s: %w", name, err)
		}
		changed = changed || c
	}
	return changed, nil
}

func stampOne(stamp, path string) (changed bool, err error) {
	was, statErr := os.Stat(stamp)
	now, err := os.Stat(path)
	if err != nil {
		err := os.Remove(stamp)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return true, err
	}
	if statErr == nil && was.ModTime().Equal(now.ModTime()) {
		return false, nil
	}
	// A new file with its time already set, moved into place: no prompt sees a stamp with another time.
	temp, err := os.CreateTemp(filepath.Dir(stamp), ".stamp-*")
	if err != nil {
		return true, err
	}
	defer os.Remove(temp.Name())
	if err := temp.Close(); err != nil {
		return true, err
	}
	if err := os.Chtimes(temp.Name(), now.ModTime(), now.ModTime()); err != nil {
		return true, err
	}
	return true, os.Rename(temp.Name(), stamp)
}

// replaceFile writes a file so that a reader sees the old content or the new, never a part. It does not wait for
// the disk: after a power cut no lease counts, and an empty file is recovered from.
func replaceFile(path string, data []byte) error {
	temp, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	if _, err := temp.Write(data); err != nil {
		_ = temp.Close()
		return err
	}
	if err := temp.Close(); err != nil {
		return err
	}
	return os.Rename(temp.Name(), path)
}
