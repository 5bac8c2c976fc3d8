package lockstate

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// makeUnused makes a state directory in which nothing is recorded, as "status" does, that has been there for a month, and was observed by PruneDirs so
// often that it is removed at the next run.
func makeUnused(t *testing.T, config string) *Dir {
	t.Helper()
	d, err := Open(config)
	requireNoError(t, err)
	l, err := d.tryAcquireLock()
	requireNoError(t, err)
	l.release()
	age(t, d, 30*24*time.Hour)
	now := time.Now()
	data, err := json.Marshal(observations{First: now.AddDate(0, 0, -20), Last: now.AddDate(0, 0, -1), Count: 9})
	requireNoError(t, err)
	requireNoError(t, os.WriteFile(d.path(observationsName), data, 0o600))
	return d
}

func TestPruneDirs_RemovesWhatWasNeverUsed(t *testing.T) {
	for name, prepare := range map[string]func(d *Dir) error{
		"a lock":         func(*Dir) error { return nil },
		"nothing":        func(d *Dir) error { return errors.Join(os.Remove(d.path(lockName)), os.RemoveAll(d.LogDir())) },
		"an empty log":   func(d *Dir) error { return os.MkdirAll(d.LogDir(), 0o700) },
		"a removed lock": func(d *Dir) error { return os.Remove(d.path(lockName)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("XDG_STATE_HOME", t.TempDir())
			d, err := Open(makeProject(t))
			requireNoError(t, err)
			l, err := d.tryAcquireLock()
			requireNoError(t, err)
			l.release()
			requireNoError(t, prepare(d))
			if s := survey(t); s.Kind != DirUnused || s.Config != "" || !s.isPrunable() {
				t.Errorf("it is %s: %s", s.Kind, s.Reason)
			}
			pruneDaily(t, 0, 6)
			if _, err := os.Stat(d.Path); err != nil {
				t.Fatalf("removed within a week: %v", err)
			}
			if removed := pruneDaily(t, 7, 9); len(removed) != 1 {
				t.Errorf("removed %q", removed)
			}
			if _, err := os.Stat(d.Path); !os.IsNotExist(err) {
				t.Errorf("stat of the directory: %v", err)
			}
		})
	}
}

func TestPruneDirs_KeepsAnUnusedDirectoryThatIsNeeded(t *testing.T) {
	for name, use := range map[string]func(t *testing.T, d *Dir){
		"it has a log": func(t *testing.T, d *Dir) { requireNoError(t, os.WriteFile(d.LogPath("supervisor"), nil, 0o600)) },
		"its lock is held": func(t *testing.T, d *Dir) {
			l, err := d.tryAcquireLock()
			requireNoError(t, err)
			t.Cleanup(l.release)
		},
		"it is used": func(t *testing.T, d *Dir) { update(t, d, func(tx *Tx) error { tx.Bump(); return nil }) },
		"a file of somebody else is in it": func(t *testing.T, d *Dir) {
			requireNoError(t, os.WriteFile(d.path("notes"), nil, 0o600))
		},
	} {
		for _, when := range []string{"before", "after the scan"} {
			t.Run(name+" "+when, func(t *testing.T) {
				t.Setenv("XDG_STATE_HOME", t.TempDir())
				d := makeUnused(t, makeProject(t))
				s := survey(t)
				use(t, d)
				if when == "before" {
					s = survey(t)
				}
				requireNoError(t, s.prune(time.Now(), func(ScannedDir) { t.Error("removed") }))
				if _, err := os.Stat(d.Path); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// A supervisor that starts while its unused directory is removed is elected in a directory that stays.
func TestPruneDirs_SupervisorThatStartsMeanwhileIsElected(t *testing.T) {
	const rounds = 60
	removed := 0
	for round := range rounds {
		t.Setenv("XDG_STATE_HOME", t.TempDir())
		config := makeProject(t)
		d := makeUnused(t, config)
		s := survey(t)
		if round%2 == 0 {
			d = nil // it opens the directory meanwhile
		}
		start := make(chan struct{})
		var wg sync.WaitGroup
		var pruneErr, startErr error
		wg.Go(func() {
			<-start
			pruneErr = s.prune(time.Now(), func(ScannedDir) { removed++ })
		})
		var election *Election
		wg.Go(func() {
			<-start
			if d == nil {
				if d, startErr = Open(config); startErr != nil {
					return
				}
			}
			_, startErr = d.Update(t.Context(), func(tx *Tx) (err error) {
				election, err = tx.Elect()
				tx.Supervisor = &Supervisor{Process: Self()}
				tx.Bump()
				return err
			})
		})
		close(start)
		wg.Wait()
		requireNoError(t, errors.Join(pruneErr, startErr))
		if isHeld, err := election.IsHeld(); err != nil || !isHeld {
			t.Fatalf("round %d: the election is held: %v, %v", round, isHeld, err)
		}
		if st, err := d.Read(); err != nil || st.Supervisor == nil || st.Supervisor.PID != os.Getpid() {
			t.Fatalf("round %d: the state is %+v, %v", round, st, err)
		}
		if s := survey(t); s.Kind != DirUsed {
			t.Fatalf("round %d: the directory is %s: %s", round, s.Kind, s.Reason)
		}
		requireNoError(t, election.Resign())
	}
	if removed == 0 || removed == rounds {
		t.Logf("of %d directories %d were removed: one order was not tested", rounds, removed)
	}
}

func TestPruneDirs_ReportsWhatItCannotWrite(t *testing.T) {
	home := t.TempDir()
	t.Setenv("XDG_STATE_HOME", home)
	d := useOnce(t, makeProject(t))
	nothing := func(ScannedDir) { t.Error("removed") }
	lastPrune := filepath.Join(home, "localport", lastPruneName)
	requireNoError(t, os.MkdirAll(filepath.Join(lastPrune, "in-the-way"), 0o700))
	requireNoError(t, os.Chtimes(lastPrune, time.Time{}, time.Unix(0, 0)))
	if err := PruneDirs(time.Now(), nothing); err == nil {
		t.Error("a directory is where the time of the last run belongs: no error")
	}
	requireNoError(t, os.RemoveAll(lastPrune))
	requireNoError(t, os.MkdirAll(d.path(observationsName+"/in-the-way"), 0o700))
	if err := PruneDirs(time.Now(), nothing); err == nil {
		t.Error("the record of a project that exists cannot be removed: no error")
	}
	requireNoError(t, os.RemoveAll(filepath.Dir(d.Config)))
	requireNoError(t, os.Remove(lastPrune))
	if err := PruneDirs(time.Now(), nothing); err == nil {
		t.Error("the record cannot be read: no error")
	}
}
