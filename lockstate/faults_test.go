package lockstate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

func incrementCount(tx *Tx) error {
	if tx.Ports == nil {
		tx.Ports = map[string]int{}
	}
	tx.Ports["count"]++
	return nil
}

// obstacles are what may be at the path of one of our files, by the name in the error.
var obstacles = map[string]func(path string) error{
	"named pipe":            func(path string) error { return unix.Mkfifo(path, 0o600) },
	"directory":             func(path string) error { return os.Mkdir(path, 0o700) },
	"symbolic link loop":    func(path string) error { return os.Symlink(filepath.Base(path), path) },
	"broken symbolic link":  func(path string) error { return os.Symlink("missing/file", path) },
	"device":                func(path string) error { return os.Symlink("/dev/null", path) },
	"socket":                makeSocket,
	"directory (by a link)": func(path string) error { return os.Symlink("log", path) },
}

func makeSocket(path string) error {
	// The path of a test's directory is too long for a socket.
	dir, err := os.MkdirTemp("/tmp", "lps-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unix"})
	if err != nil {
		return err
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	return os.Rename(filepath.Join(dir, "s"), path)
}

func TestUpdate_ReportsAFileThatIsNotRegular(t *testing.T) {
	for kind, create := range obstacles {
		for _, name := range []string{"lock", "state.json", "election"} {
			t.Run(name+" is a "+kind, func(t *testing.T) {
				d := openTestDir(t)
				update(t, d, incrementCount)
				path := d.path(name)
				os.Remove(path)
				requireNoError(t, create(path))
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				_, err := d.Update(ctx, func(tx *Tx) error {
					if tx.IsSupervisorRunning() {
						t.Error("alive")
					}
					return nil
				})
				kind, _, _ := strings.Cut(kind, " (")
				want := path + " is a " + kind + ", not a regular file; remove it"
				if _, ok := errors.AsType[*NotRegularError](err); !ok || !strings.HasSuffix(err.Error(), want) {
					t.Fatalf("got %v, want %s", err, want)
				}
				requireNoError(t, os.Remove(path))
				update(t, d, func(tx *Tx) error {
					election, err := tx.Elect()
					if election == nil {
						t.Error("not elected")
						return err
					}
					return election.Resign()
				})
			})
		}
	}
}

func TestElect_ReportsAFileThatIsNotRegular(t *testing.T) {
	for kind, create := range obstacles {
		d := openTestDir(t)
		requireNoError(t, create(d.path("election")))
		_, err := d.Update(t.Context(), func(tx *Tx) error { _, err := tx.Elect(); return err })
		if _, ok := errors.AsType[*NotRegularError](err); !ok {
			t.Errorf("%s: got %v", kind, err)
		}
	}
}

func TestUpdate_SucceedsWhenThePromptLineCannotBeWritten(t *testing.T) {
	for kind, create := range obstacles {
		d := openTestDir(t)
		requireNoError(t, create(d.path("prompt")))
		if create(d.path("stamp.config")) != nil {
			t.Fatal("cannot place a stamp")
		}
		var warnings []string
		d.Warn = func(text string) { warnings = append(warnings, text) }
		st := update(t, d, func(tx *Tx) error { tx.Bump(); return nil })
		if _, ok := d.lineNumber(); !ok && len(warnings) == 0 {
			t.Errorf("%s: the line is not written, and there is no warning", kind)
		}
		if stored := d.ReadOrZero(); stored.Line != st.Line {
			t.Errorf("%s: line %d, stored %d", kind, st.Line, stored.Line)
		}
		root := t.TempDir()
		config := filepath.Join(root, ".localport.toml")
		requireNoError(t, os.WriteFile(config, nil, 0o600))
		past := time.Now().Add(-time.Hour) // not the time of what was just placed
		requireNoError(t, os.Chtimes(config, past, past))
		changed, err := d.Stamp(root)
		if _, isReported := errors.AsType[*NotRegularError](err); changed == isReported {
			t.Errorf("%s: stamp changed %v, %v", kind, changed, err)
		}
		_ = os.Remove(d.path("prompt"))
		update(t, d, readOnly)
		if number, _ := d.lineNumber(); number != st.Line {
			t.Errorf("%s: a later update left the line at %d, not %d", kind, number, st.Line)
		}
	}
}

// A line whose write failed has an older number than the state. The next update writes it, although it changes nothing.
func TestUpdate_WritesALineWhoseWriteFailed(t *testing.T) {
	d := openTestDir(t)
	bump := func(tx *Tx) error { tx.Bump(); return nil }
	before := update(t, d, bump)
	d.BeforeCall = func(call Call, name string) error {
		if call == CallCreate && name == "prompt" {
			return unix.EIO
		}
		return nil
	}
	st := update(t, d, bump)
	if number, _ := d.lineNumber(); number != before.Line || st.Line != before.Line+1 {
		t.Fatalf("the line is %d, and the state's %d after %d", number, st.Line, before.Line)
	}
	d.BeforeCall = nil
	update(t, d, readOnly)
	if number, _ := d.lineNumber(); number != st.Line {
		t.Errorf("the line is %d, expected %d", number, st.Line)
	}
}

// After an older copy of the state was restored, the next number may be in the line already, with an earlier supervisor.
func TestUpdate_WritesALineOfAnEarlierSupervisor(t *testing.T) {
	d := openTestDir(t)
	st := update(t, d, func(tx *Tx) error { tx.Bump(); tx.Supervisor = &Supervisor{Process: Self()}; return nil })
	earlier := fmt.Sprintf("%d 1 1\n", st.Line)
	requireNoError(t, os.WriteFile(d.path("prompt"), []byte(earlier), 0o600))
	update(t, d, readOnly)
	if got, want := d.PromptLine(), fmt.Sprint(st.Line, Self().PID, Self().Start); got != want {
		t.Errorf("the line is %q, want %q", got, want)
	}
}

func TestUpdate_ReportsAPathThatIsNotADirectory(t *testing.T) {
	for kind, create := range obstacles {
		if strings.HasPrefix(kind, "directory") {
			continue
		}
		d := openTestDir(t)
		requireNoError(t, os.RemoveAll(d.Path))
		requireNoError(t, create(d.Path))
		_, err := d.Update(t.Context(), readOnly)
		want := d.Path + " is a " + kind + ", not a directory; remove it"
		if err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
		requireNoError(t, os.Remove(d.Path))
		update(t, d, incrementCount)
	}
}

func TestUpdate_FollowsLinksToRegularFiles(t *testing.T) {
	d := openTestDir(t)
	update(t, d, incrementCount)
	elsewhere := t.TempDir()
	for _, name := range []string{"lock", "state.json"} {
		requireNoError(t, os.Rename(d.path(name), filepath.Join(elsewhere, name)))
		requireNoError(t, os.Symlink(filepath.Join(elsewhere, name), d.path(name)))
	}
	if st := update(t, d, incrementCount); st.Ports["count"] != 2 {
		t.Errorf("count %d", st.Ports["count"])
	}
}

func TestUpdate_RunsAgainWhenItsLockIsDeleted(t *testing.T) {
	for _, deleted := range []string{"lock", "state.json", ""} {
		d := openTestDir(t)
		update(t, d, incrementCount)
		runs := 0
		var first, last *Election
		st := update(t, d, func(tx *Tx) error {
			runs++
			if tx.IsSupervisorRunning() {
				t.Errorf("%q: alive in run %d", deleted, runs)
			}
			var err error
			if last, err = tx.Elect(); err != nil || last == nil {
				t.Errorf("%q: not elected in run %d: %v", deleted, runs, err)
			}
			if runs == 1 {
				first = last
				requireNoError(t, os.RemoveAll(d.path(deleted)))
			}
			return incrementCount(tx)
		})
		want := 2
		if deleted != "lock" {
			want = 1 // the state that was counted in is gone
		}
		if runs != 2 || st.Ports["count"] != want || d.ReadOrZero().Ports["count"] != want {
			t.Errorf("%q: %d runs, counter %v", deleted, runs, st.Ports)
		}
		if isHeld, err := first.IsHeld(); isHeld || err != nil {
			t.Errorf("%q: the election of a run that does not count is held (%v)", deleted, err)
		}
		if isHeld, err := last.IsHeld(); !isHeld || err != nil {
			t.Errorf("%q: the election is not held (%v)", deleted, err)
		}
		requireNoError(t, last.Resign())
		requireNoError(t, last.Resign())
	}
}

func TestUpdate_StaysExclusiveWhenTheLockFileIsDeleted(t *testing.T) {
	d := openTestDir(t)
	update(t, d, incrementCount)
	runs := 0
	update(t, d, func(tx *Tx) error {
		if runs++; runs == 1 {
			os.Remove(d.path("lock"))
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
			defer cancel()
			_, err := d.Update(ctx, incrementCount)
			if _, ok := errors.AsType[*LockedError](err); !ok {
				t.Errorf("got %v", err)
			}
		}
		return incrementCount(tx)
	})
	if st := update(t, d, readOnly); st.Ports["count"] != 2 {
		t.Errorf("count %d", st.Ports["count"])
	}
}

func TestElection_DetectsADeletedFile(t *testing.T) {
	d := openTestDir(t)
	var old, next *Election
	update(t, d, func(tx *Tx) (err error) { old, err = tx.Elect(); return err })
	reelect := func() {
		t.Helper()
		update(t, d, func(tx *Tx) (err error) { next, err = tx.Reelect(old); return err })
	}
	if reelect(); next != old {
		t.Error("an election that is held was not kept")
	}
	os.Remove(d.path("election"))
	if isHeld, err := old.IsHeld(); isHeld || err != nil {
		t.Errorf("held %v, %v although its file is gone", isHeld, err)
	}
	if reelect(); next == nil || next == old {
		t.Fatal("not elected again")
	}
	if isHeld, err := next.IsHeld(); !isHeld || err != nil {
		t.Errorf("the new one: held %v, %v", isHeld, err)
	}
	update(t, d, func(tx *Tx) error {
		if !tx.IsSupervisorRunning() {
			t.Error("nobody is elected")
		}
		other, err := tx.Reelect(old)
		if other != nil {
			t.Error("elected although another one is")
		}
		return err
	})
	requireNoError(t, old.Handover())
	files, err := next.CopyFiles()
	requireNoError(t, err)
	requireNoError(t, next.Handover())
	inherited := d.Inherit(files[0])
	if isHeld, err := inherited.IsHeld(); !isHeld || err != nil {
		t.Errorf("the inherited election: held %v, %v", isHeld, err)
	}
	requireNoError(t, inherited.Resign())
}

func TestDown_IsReadFromItsFileDuringThisBoot(t *testing.T) {
	d := openTestDir(t)
	setDown := func(down bool) { update(t, d, func(tx *Tx) error { tx.Down = down; return incrementCount(tx) }) }
	setDown(false)
	requireNoError(t, os.Rename(d.path("down.unset"), d.path("down")))
	if st, err := d.Read(); err != nil || !st.Down {
		t.Errorf("down %v, %v", st.Down, err)
	}
	setDown(false)
	if d.ReadOrZero().Down || isDownFile(d, true) || !isDownFile(d, false) {
		t.Error("it is still down")
	}
	setDown(true)
	if !d.ReadOrZero().Down || !isDownFile(d, true) {
		t.Error("it is not down")
	}
	requireNoError(t, os.WriteFile(d.path("down"), []byte("another boot"), 0o600))
	setDown(false)
	if d.ReadOrZero().Down || !isDownFile(d, false) {
		t.Error("down by the file of another boot")
	}
	if _, err := os.Stat(d.path("down")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the file of another boot stayed")
	}
}

func TestDown_ReleasesTheStartLeaseWhenTheStateCannotBeWritten(t *testing.T) {
	d := openTestDir(t)
	update(t, d, func(tx *Tx) error {
		tx.AddLease(Lease{Kind: StartLease})
		tx.AddLease(Lease{Kind: ShellLease, Process: Self()})
		return nil
	})
	requireNoError(t, os.Rename(d.path("down.unset"), d.path("down")))
	if st := d.ReadOrZero(); !st.Down || len(st.Leases) != 1 || st.Leases[0].Kind != ShellLease {
		t.Errorf("down %v, leases %v", st.Down, st.Leases)
	}
	st := update(t, d, func(tx *Tx) error { tx.Down = false; return nil })
	if len(st.Leases) != 1 || st.Leases[0].Kind != ShellLease {
		t.Errorf("after the next start: leases %v", st.Leases)
	}
}

func TestState_OfAnOlderVersionIsRead(t *testing.T) {
	d := openTestDir(t)
	update(t, d, func(tx *Tx) error { tx.Down = false; return incrementCount(tx) })
	for _, down := range []bool{true, false} {
		// What an older version makes of a state: it drops what it does not know, and knows no down file.
		var fields map[string]any
		data, err := os.ReadFile(d.path("state.json"))
		requireNoError(t, err)
		requireNoError(t, json.Unmarshal(data, &fields))
		if fields["version"] != 1.0 {
			t.Fatalf("version %v", fields["version"])
		}
		delete(fields, "down_file")
		fields["down"] = down
		data, err = json.Marshal(fields)
		requireNoError(t, err)
		requireNoError(t, os.WriteFile(d.path("state.json"), data, 0o600))
		if st := update(t, d, readOnly); st.Down != down {
			t.Errorf("down %v, want %v", st.Down, down)
		}
		if st := update(t, d, incrementCount); st.Down != down || !st.DownFile || !isDownFile(d, down) {
			t.Errorf("down %v, want %v, with its file", st.Down, down)
		}
	}
}

func TestUpdate_KeepsUnusableStateFiles(t *testing.T) {
	d := openTestDir(t)
	for i := range 3 * maxUnusable {
		requireNoError(t, os.WriteFile(d.path("state.json"), []byte{'x', byte('a' + i)}, 0o600))
		when := time.Now().Add(time.Duration(i) * time.Second)
		requireNoError(t, os.Chtimes(d.path("state.json"), when, when))
		// An error of the function's does not undo that.
		_, err := d.Update(t.Context(), func(*Tx) error { return os.ErrInvalid })
		if !errors.Is(err, os.ErrInvalid) {
			t.Error(err)
		}
		if _, err := d.Read(); err != nil {
			t.Error(err)
		}
	}
	aside, err := filepath.Glob(d.path("state.json.unusable*"))
	requireNoError(t, err)
	var kept []string
	for _, path := range aside {
		data, err := os.ReadFile(path)
		requireNoError(t, err)
		kept = append(kept, string(data))
	}
	slices.Sort(kept)
	if got := strings.Join(kept, " "); got != "xk xl xm xn xo" {
		t.Errorf("kept %s", got)
	}
}

func TestListDirs_FindsProjectsWithoutAConfigAndReportsUnreadableStates(t *testing.T) {
	d := openTestDir(t) // whose config never existed
	if dirs, err := ListDirs(); len(dirs) != 0 || err != nil {
		t.Errorf("%v, %v before any state", dirs, err)
	}
	update(t, d, incrementCount)
	other, err := Open("/other/.localport.toml")
	requireNoError(t, err)
	requireNoError(t, os.Mkdir(other.path("state.json"), 0o700))
	dirs, err := ListDirs()
	if len(dirs) != 1 || dirs[0].Config != d.Config {
		t.Errorf("got %v", dirs)
	}
	if _, ok := errors.AsType[*NotRegularError](err); !ok {
		t.Errorf("got %v", err)
	}
}

func TestRead_DistinguishesAbsentFromUnreadable(t *testing.T) {
	d := openTestDir(t)
	if _, err := d.Read(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	requireNoError(t, os.WriteFile(d.path("state.json"), []byte("torn"), 0o600))
	if _, err := d.Read(); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestSockets_AreInOwnRuntimeDirectories(t *testing.T) {
	d := openTestDir(t)
	t.Setenv("TMPDIR", "/tmp") // the paths of sockets are short
	base := filepath.Dir(t.TempDir())
	t.Setenv("XDG_RUNTIME_DIR", filepath.Join(base, "here"))
	computed, err := d.SocketPath()
	requireNoError(t, err)
	record := func(socket string) {
		update(t, d, func(tx *Tx) error { tx.Supervisor = &Supervisor{Process: Self(), Socket: socket}; return nil })
	}
	record(computed)
	if got := d.Sockets(); !slices.Contains(got, computed) || len(slices.Compact(slices.Clone(got))) != len(got) {
		t.Errorf("got %q", got)
	}
	other := filepath.Join(base, "other/localport", d.socketName())
	requireNoError(t, os.MkdirAll(filepath.Dir(other), 0o700))
	record(other)
	if got := d.Sockets(); got[0] != other || got[1] != computed {
		t.Errorf("of another session: %q", got)
	}
	requireNoError(t, os.Chmod(filepath.Dir(other), 0o777))
	if got := d.Sockets(); slices.Contains(got, other) {
		t.Errorf("in a directory that others can write to: %q", got)
	}
	for _, path := range []string{filepath.Join(base, d.socketName()), filepath.Join(filepath.Dir(computed), "another.sock"), "x"} {
		record(path)
		if got := d.Sockets(); slices.Contains(got, path) {
			t.Errorf("%q is returned", path)
		}
	}
}

func TestElect_RemovesTemporaryFilesOfKilledProcesses(t *testing.T) {
	d := openTestDir(t)
	hourAgo := time.Now().Add(-time.Hour)
	for _, name := range []string{".new-1", ".stamp-2", "kept"} {
		requireNoError(t, os.WriteFile(d.path(name), nil, 0o600))
		requireNoError(t, os.Chtimes(d.path(name), hourAgo, hourAgo))
	}
	requireNoError(t, os.WriteFile(d.path(".new-young"), nil, 0o600))
	update(t, d, func(tx *Tx) error {
		election, err := tx.Elect()
		if err != nil {
			return err
		}
		return election.Resign()
	})
	left, err := filepath.Glob(d.path("*"))
	requireNoError(t, err)
	hidden, err := filepath.Glob(d.path(".*-*"))
	requireNoError(t, err)
	if len(hidden) != 1 || !slices.Contains(left, d.path("kept")) {
		t.Errorf("left %v %v", hidden, left)
	}
}

// TestDir_RecoversWhateverIsDeleted compares a state with a model of it while its files are deleted at random.
func TestDir_RecoversWhateverIsDeleted(t *testing.T) {
	d := openTestDir(t)
	rapid.Check(t, func(rt *rapid.T) {
		requireNoError(t, os.RemoveAll(d.Path))
		count, down, line := 0, false, uint64(0)
		steps := rapid.SliceOf(rapid.SampledFrom([]string{
			"change", "change", "bump", "down", "up", "lock", "election", "prompt", "down.unset", "state.json", "directory", "torn",
		})).Draw(rt, "steps")
		for _, step := range steps {
			switch step {
			case "change":
				update(t, d, incrementCount)
				count++
			case "bump":
				before := d.PromptLine()
				line = update(t, d, func(tx *Tx) error { tx.Bump(); return nil }).Line
				if number, _ := d.lineNumber(); number != line || d.PromptLine() == before {
					rt.Errorf("line %q after %q, want number %d", d.PromptLine(), before, line)
				}
			case "down", "up":
				down = step == "down"
				update(t, d, func(tx *Tx) error { tx.Down = down; return nil })
			case "state.json", "directory":
				path := d.Path
				if step == "state.json" {
					path = d.path(step)
				}
				requireNoError(t, os.RemoveAll(path))
				count, down = 0, false
			case "torn":
				requireNoError(t, os.MkdirAll(d.Path, 0o700))
				requireNoError(t, os.WriteFile(d.path("state.json"), []byte("{"), 0o600))
				count, down = 0, isDownFile(d, true)
			default:
				os.Remove(d.path(step))
			}
			st := update(t, d, readOnly)
			if st.Ports["count"] != count || st.Down != down {
				rt.Fatalf("after %s: count %d, down %v; want %d, %v", step, st.Ports["count"], st.Down, count, down)
			}
		}
	})
}

func isDownFile(d *Dir, isDown bool) bool {
	has, err := d.hasDownFile(isDown)
	return has && err == nil
}
