package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/project"
)

// A full disk, of the project or of the backups, changes and loses nothing.
func TestConfigRestore_SurvivesAFullDiskNamespace(t *testing.T) {
	for _, full := range []string{"project", "backups"} {
		t.Run(full, func(t *testing.T) {
			isolateConfigCommands(t)
			dir, data := t.TempDir(), os.Getenv("XDG_DATA_HOME")
			if err := os.MkdirAll(data, 0o700); err != nil {
				t.Fatal(err)
			}
			disk := map[string]string{"project": dir, "backups": data}[full]
			if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=64k"); err != nil {
				t.Skipf("mount tmpfs: %v", err)
			}
			t.Cleanup(func() { _ = unix.Unmount(disk, 0) })
			writeConfig(t, dir, backupTestConfig)
			mustRunInProcess(t, dir, "config", "backup")
			changed := backupTestConfig + strings.Repeat("# more\n", 10)
			writeConfig(t, dir, changed)
			filler, err := os.Create(filepath.Join(disk, "filler"))
			if err != nil {
				t.Fatal(err)
			}
			for err == nil {
				_, err = filler.Write(make([]byte, 4096))
			}
			_ = filler.Close()
			if !errors.Is(err, unix.ENOSPC) {
				t.Fatal(err)
			}
			code, text := runInProcess(t, dir, "config", "restore")
			if code != 1 || !strings.Contains(text, "nothing was written") || !strings.Contains(text, "no space left") {
				t.Errorf("%d\n%s", code, text)
			}
			if got := readProjectFile(t, dir, project.ConfigName); got != changed {
				t.Errorf("the file is\n%s", got)
			}
			if err := os.Remove(filler.Name()); err != nil {
				t.Fatal(err)
			}
			mustRunInProcess(t, dir, "config", "restore")
			if got := readProjectFile(t, dir, project.ConfigName); got != backupTestConfig {
				t.Errorf("restored is\n%s", got)
			}
		})
	}
}
