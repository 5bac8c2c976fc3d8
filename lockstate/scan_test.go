package lockstate

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// useOnce opens the state of a project with this config, as a supervisor that ends does, and returns it.
func useOnce(t *testing.T, config string) *Dir {
	t.Helper()
	d, err := Open(config)
	requireNoError(t, err)
	var election *Election
	update(t, d, func(tx *Tx) error {
		tx.Bump()
		election, err = tx.Elect()
		return err
	})
	requireNoError(t, election.Resign())
	return d
}

// makeProject makes a project in a directory that holds something else too, and returns its config.
func makeProject(t *testing.T) string {
	t.Helper()
	parent := t.TempDir()
	root := filepath.Join(parent, "shop")
	config := filepath.Join(root, ".localport.toml")
	for _, err := range []error{os.Mkdir(root, 0o700), os.WriteFile(config, nil, 0o600), os.Mkdir(filepath.Join(parent, "other"), 0o700)} {
		requireNoError(t, err)
	}
	return config
}

// survey returns the only state directory.
func survey(t *testing.T) ScannedDir {
	t.Helper()
	dirs, err := ScanDirs()
	requireNoError(t, err)
	if len(dirs) != 1 {
		t.Fatalf("%d state directories, want 1: %v", len(dirs), dirs)
	}
	return dirs[0]
}

// age sets the times of all files of a state directory back.
func age(t *testing.T, d *Dir, by time.Duration) {
	t.Helper()
	then := time.Now().Add(-by)
	requireNoError(t, filepath.WalkDir(d.Path, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.Type()&os.ModeSymlink != 0 {
			return err
		}
		return os.Chtimes(path, then, then)
	}))
}

func TestSurvey_SaysWhatHoldsADirectory(t *testing.T) {
	tests := []struct {
		name, want string
		hold       func(t *testing.T, d *Dir) (release func())
	}{
		{"supervisor", "a supervisor is running", func(t *testing.T, d *Dir) func() {
			var election *Election
			update(t, d, func(tx *Tx) (err error) {
				election, err = tx.Elect()
				return err
			})
			return func() { requireNoError(t, election.Resign()) }
		}},
		{"lease", "a process has a lease", func(t *testing.T, d *Dir) func() {
			update(t, d, func(tx *Tx) error {
				tx.AddLease(Lease{Kind: ShellLease, Process: Self(), Since: time.Now()})
				return nil
			})
			return func() {
				update(t, d, func(tx *Tx) error {
					tx.RemoveLease(ShellLease, Self())
					return nil
				})
			}
		}},
		{"lock", "its lock is held", func(t *testing.T, d *Dir) func() {
			l, err := d.tryAcquireLock()
			requireNoError(t, err)
			return l.release
		}},
		{"draining supervisor", "closing its last connections", func(t *testing.T, d *Dir) func() {
			update(t, d, func(tx *Tx) error {
				tx.SetDraining(Draining{Process: Self(), Connections: map[string]int{"web": 1}})
				return nil
			})
			return func() {
				update(t, d, func(tx *Tx) error {
					tx.SetDraining(Draining{Process: Self()})
					return nil
				})
			}
		}},
		{"supervisor without a lock", "a supervisor is running (pid", func(t *testing.T, d *Dir) func() {
			return record(t, d, &Supervisor{Process: Self()})
		}},
		{"keeper", "a keeper is running", func(t *testing.T, d *Dir) func() {
			return record(t, d, &Supervisor{Process: Process{PID: 1 << 30}, Keeper: os.Getpid()})
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("XDG_STATE_HOME", t.TempDir())
			d := useOnce(t, "/some/project/that/is/gone/.localport.toml")
			release := test.hold(t, d)
			s := survey(t)
			if s.Kind != DirUsed || !strings.Contains(s.Reason, test.want) {
				t.Errorf("%s: %s, want used: %s", s.Kind, s.Reason, test.want)
			}
			if _, isHeld := errors.AsType[*HeldError](s.Remove()); !isHeld {
				t.Error("Remove returned no HeldError")
			}
			release()
			if s := survey(t); s.Kind != DirOrphaned {
				t.Errorf("after the release: %s: %s", s.Kind, s.Reason)
			}
			requireNoError(t, s.Remove())
			requireNoError(t, s.Remove()) // again
			if entries, err := os.ReadDir(filepath.Dir(d.Path)); err != nil || len(entries) > 0 {
				t.Errorf("left: %v, %v", entries, err)
			}
		})
	}
}

// record records a supervisor, and returns how to remove the record.
func record(t *testing.T, d *Dir, s *Supervisor) func() {
	t.Helper()
	set := func(s *Supervisor) {
		update(t, d, func(tx *Tx) error {
			tx.Supervisor = s
			return nil
		})
	}
	set(s)
	return func() { set(nil) }
}

func TestSurvey_TellsWhetherTheProjectExists(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	config := makeProject(t)
	d := useOnce(t, config)
	want := func(kind DirKind, reason string) {
		t.Helper()
		if s := survey(t); s.Kind != kind || !strings.Contains(s.Reason, reason) || s.Config != config {
			t.Errorf("%s of %s: %q, want %s: %q", s.Kind, s.Config, s.Reason, kind, reason)
		}
	}
	age(t, d, time.Hour)
	want(DirIdle, "")
	requireNoError(t, os.Remove(config))
	want(DirOrphaned, "does not exist")
	requireNoError(t, os.Symlink("/nowhere", config))
	want(DirIdle, "") // its target may come back
	root := filepath.Dir(config)
	requireNoError(t, os.RemoveAll(root))
	want(DirOrphaned, "does not exist")
	requireNoError(t, os.WriteFile(root, nil, 0o600))
	want(DirOrphaned, "does not exist")
	requireNoError(t, os.Remove(root))
	requireNoError(t, os.Symlink(root, root))
	want(DirUnknown, "symbolic links")
	requireNoError(t, os.Remove(root))
	update(t, d, func(tx *Tx) error {
		tx.HostID = "another-machine/4026531841"
		return nil
	})
	want(DirUnknown, "another machine")
}

func TestSurvey_UnmountedDiskIsNoOrphan(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	disk := t.TempDir() // an empty mount point
	d := useOnce(t, filepath.Join(disk, "shop", ".localport.toml"))
	if s := survey(t); s.Kind != DirUnknown || !strings.Contains(s.Reason, "mounted") {
		t.Errorf("empty directory: %s: %s", s.Kind, s.Reason)
	}
	age(t, d, time.Hour)
	now := time.Now()
	requireNoError(t, os.Chtimes(disk, now, now)) // as if the project had been removed from it
	if s := survey(t); s.Kind != DirOrphaned {
		t.Errorf("directory that became empty: %s: %s", s.Kind, s.Reason)
	}
	requireNoError(t, os.WriteFile(filepath.Join(disk, "file"), nil, 0o600))
	mountParents = append(mountParents, disk)
	defer func() { mountParents = mountParents[:len(mountParents)-1] }()
	if s := survey(t); s.Kind != DirUnknown {
		t.Errorf("where disks are mounted: %s: %s", s.Kind, s.Reason)
	}
}

func TestSurvey_DamagedStateBelongsToNoProject(t *testing.T) {
	for name, content := range map[string]string{"empty": "", "other config": `{"version":1,"id":"x","config":"/other"}`, "none": "-"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("XDG_STATE_HOME", t.TempDir())
			d := useOnce(t, makeProject(t))
			if content == "-" {
				requireNoError(t, os.Remove(d.path(stateName)))
			} else {
				requireNoError(t, os.WriteFile(d.path(stateName), []byte(content), 0o600))
			}
			s := survey(t)
			if s.Kind != DirDamaged || s.Config != "" {
				t.Errorf("%s of %q: %s", s.Kind, s.Config, s.Reason)
			}
			requireNoError(t, s.Remove())
		})
	}
}

func TestSurvey_LinksAreIgnoredAndNotFollowed(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	d := useOnce(t, "/some/project/that/is/gone/.localport.toml")
	outside := t.TempDir()
	file := filepath.Join(outside, "file")
	requireNoError(t, os.WriteFile(file, nil, 0o600))
	requireNoError(t, os.Symlink(outside, filepath.Join(filepath.Dir(d.Path), "0123456789abcdef")))
	requireNoError(t, os.Symlink(outside, d.path("linked")))
	requireNoError(t, survey(t).Remove())
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
}

func TestRemove_RemovesSocketAndFallback(t *testing.T) {
	setRuntimeDir(t)
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	d := useOnce(t, "/some/project/that/is/gone/.localport.toml")
	socket, err := d.SocketPath()
	requireNoError(t, err)
	for _, path := range []string{socket, fallbackPath(socket)} {
		requireNoError(t, os.WriteFile(path, nil, 0o600))
	}
	requireNoError(t, survey(t).Remove())
	if entries, err := os.ReadDir(filepath.Dir(socket)); err != nil || len(entries) > 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

// pruneDaily runs PruneDirs once a day from the first to the last day from now, and returns the configs of what was removed.
func pruneDaily(t *testing.T, first, last int) (removed []string) {
	t.Helper()
	for day := first; day <= last; day++ {
		now := time.Now().AddDate(0, 0, day)
		requireNoError(t, PruneDirs(now, func(dir ScannedDir) { removed = append(removed, dir.Config) }))
	}
	return removed
}

func TestPruneDirs_RemovesAfterAWeekOfAbsence(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	config := makeProject(t)
	d := useOnce(t, config)
	if removed := pruneDaily(t, 0, 30); len(removed) > 0 {
		t.Fatalf("removed the state of a project that exists: %v", removed)
	}
	requireNoError(t, os.RemoveAll(filepath.Dir(config)))
	if removed := pruneDaily(t, 31, 37); len(removed) > 0 {
		t.Fatalf("removed within a week: %v", removed)
	}
	if removed := pruneDaily(t, 38, 38); len(removed) != 1 || removed[0] != config {
		t.Fatalf("removed %v, want %s", removed, config)
	}
	if _, err := os.Stat(d.Path); !os.IsNotExist(err) {
		t.Errorf("stat of the state directory: %v", err)
	}
}

func TestPruneDirs_KeepsWhatMayComeBack(t *testing.T) {
	tests := map[string]func(t *testing.T, d *Dir){
		"the project came back for a day": func(t *testing.T, d *Dir) {
			pruneDaily(t, 0, 6)
			root := filepath.Dir(d.Config)
			requireNoError(t, os.Mkdir(root, 0o700))
			requireNoError(t, os.WriteFile(d.Config, nil, 0o600))
			pruneDaily(t, 7, 7)
			requireNoError(t, os.RemoveAll(root))
			pruneDaily(t, 8, 14)
		},
		"the project was used in between": func(t *testing.T, d *Dir) {
			pruneDaily(t, 0, 5)
			then := time.Now().AddDate(0, 0, 6)
			requireNoError(t, os.Chtimes(d.path(stateName), then, then))
			pruneDaily(t, 6, 12)
		},
		"two observations": func(t *testing.T, d *Dir) {
			pruneDaily(t, 0, 0)
			pruneDaily(t, 100, 100)
		},
		"many runs on two days": func(t *testing.T, _ *Dir) {
			for _, day := range []int{0, 100} {
				for range 10 {
					pruneDaily(t, day, day)
				}
			}
		},
		"the clock was wrong": func(t *testing.T, d *Dir) {
			pruneDaily(t, 5000, 5002)
			pruneDaily(t, 0, 6)
		},
		"the record is damaged": func(t *testing.T, d *Dir) {
			pruneDaily(t, 0, 6)
			requireNoError(t, os.WriteFile(d.path(observationsName), []byte("{"), 0o600))
			pruneDaily(t, 7, 13)
		},
		"a shell has a lease": func(t *testing.T, d *Dir) {
			update(t, d, func(tx *Tx) error {
				tx.AddLease(Lease{Kind: ShellLease, Process: Self(), Since: time.Now()})
				return nil
			})
			pruneDaily(t, 0, 30)
		},
		"used on another machine": func(t *testing.T, d *Dir) {
			update(t, d, func(tx *Tx) error {
				tx.HostID = "another-machine/4026531841"
				return nil
			})
			pruneDaily(t, 0, 30)
		},
		"used by a version that did not say where": func(t *testing.T, d *Dir) {
			update(t, d, func(tx *Tx) error {
				tx.HostID = ""
				return nil
			})
			pruneDaily(t, 0, 30)
		},
		"damaged state": func(t *testing.T, d *Dir) {
			requireNoError(t, os.WriteFile(d.path(stateName), nil, 0o600))
			pruneDaily(t, 0, 30)
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Setenv("XDG_STATE_HOME", t.TempDir())
			d := useOnce(t, makeProject(t))
			requireNoError(t, os.RemoveAll(filepath.Dir(d.Config)))
			test(t, d)
			if _, err := os.Stat(d.Path); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestPruneDirs_SeesAUseMeanwhile(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	d := useOnce(t, makeProject(t))
	requireNoError(t, os.RemoveAll(filepath.Dir(d.Config)))
	now := time.Now().AddDate(0, 0, 30)
	data, err := json.Marshal(observations{First: now.AddDate(0, 0, -20), Last: now.AddDate(0, 0, -1), Count: 9})
	requireNoError(t, err)
	requireNoError(t, os.WriteFile(d.path(observationsName), data, 0o600))
	s := survey(t)
	requireNoError(t, os.Chtimes(d.path(stateName), now, now))
	requireNoError(t, s.prune(now, func(dir ScannedDir) { t.Errorf("removed %s", dir.Config) }))
	if _, err := os.Stat(d.Path); err != nil {
		t.Error(err)
	}
}

func TestSurvey_MakesNoDirectoryThatIsBeingRemoved(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	d := useOnce(t, makeProject(t))
	s := survey(t)
	requireNoError(t, os.RemoveAll(d.Path))
	if _, err := scanDir(d.Path); !os.IsNotExist(err) {
		t.Errorf("the error is %v", err)
	}
	requireNoError(t, s.Remove())
	if _, err := os.Stat(d.Path); !os.IsNotExist(err) {
		t.Errorf("it was made again: %v", err)
	}
}
