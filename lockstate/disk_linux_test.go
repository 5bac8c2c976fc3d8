package lockstate

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// runInChild runs the calling test again in a child process, which may break its own environment, and reports whether this is
// that process.
func runInChild(t *testing.T, attr *syscall.SysProcAttr) bool {
	t.Helper()
	if os.Getenv("LOCKSTATE_TEST_CHILD") == t.Name() {
		return true
	}
	// By this path, because another user may not search the directory of the test binary.
	args := []string{"-test.run=^" + t.Name() + "$", "-test.v"}
	if dir := os.Getenv("GOCOVERDIR"); dir != "" && testing.CoverMode() != "" && attr != nil && attr.Credential == nil {
		args = append(args, "-test.gocoverdir="+dir)
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), "LOCKSTATE_TEST_CHILD="+t.Name())
	cmd.SysProcAttr = attr
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v: %s", err, out)
	}
	return false
}

// runInMountNamespace is inChild with mounts of its own.
func runInMountNamespace(t *testing.T) bool {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can mount file systems")
	}
	if !runInChild(t, &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}) {
		return false
	}
	requireNoError(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	return true
}

// openTmpfs opens a state directory on a file system of its own.
func openTmpfs(t *testing.T, options string) (d *Dir, mount string) {
	t.Helper()
	mount = t.TempDir()
	requireNoError(t, unix.Mount("tmpfs", mount, "tmpfs", 0, options))
	t.Cleanup(func() { _ = unix.Unmount(mount, unix.MNT_DETACH) })
	t.Setenv("XDG_STATE_HOME", mount)
	d, err := Open("/some/project/.localport.toml")
	requireNoError(t, err)
	return d, mount
}

// checkUnwritable checks everything that must hold while nothing can be written to d, which holds a state.
func checkUnwritable(t *testing.T, d *Dir, want error) {
	t.Helper()
	before, err := os.ReadFile(d.path("state.json"))
	requireNoError(t, err)
	line := d.PromptLine()
	var election *Election
	st, err := d.Update(t.Context(), func(tx *Tx) (err error) {
		tx.Bump()
		tx.Failure = strings.Repeat("long ", 4000)
		if election, err = tx.Elect(); err != nil {
			return err
		}
		return incrementCount(tx)
	})
	failed, ok := errors.AsType[*WriteError](err)
	if !ok || !errors.Is(err, want) || failed.Path != d.path("state.json") {
		t.Errorf("got %v, want %v", err, want)
	}
	if st.Ports["count"] != 2 {
		t.Errorf("state %v", st.Ports)
	}
	if after, err := os.ReadFile(d.path("state.json")); err != nil || string(after) != string(before) {
		t.Errorf("the state became %s, %v", after, err)
	}
	if d.PromptLine() != line {
		t.Errorf("the line became %q: it is ahead of the state", d.PromptLine())
	}
	if hidden, _ := filepath.Glob(d.path(".*-*")); len(hidden) > 0 {
		t.Errorf("left behind: %v", hidden)
	}
	if isHeld, err := election.IsHeld(); !isHeld || err != nil {
		t.Errorf("the election: held %v, %v", isHeld, err)
	}
	requireNoError(t, election.Resign())
	if st, err := d.Update(t.Context(), readOnly); err != nil || st.Ports["count"] != 1 {
		t.Errorf("without a change: %v, %v", st.Ports, err)
	}
}

// checkDownIsRemembered checks that a project can be stopped and started while its state cannot be written.
func checkDownIsRemembered(t *testing.T, d *Dir) {
	t.Helper()
	for _, down := range []bool{true, false, true} {
		_, err := d.Update(t.Context(), func(tx *Tx) error {
			tx.Down, tx.Failure = down, strings.Repeat("long ", 4000)
			return nil
		})
		if _, ok := errors.AsType[*WriteError](err); !ok {
			t.Errorf("got %v", err)
		}
		if st, err := d.Read(); err != nil || st.Down != down {
			t.Errorf("down %v, %v; want %v", st.Down, err, down)
		}
	}
}

func TestUpdate_KeepsAStateOnAFullDiskNamespace(t *testing.T) {
	if !runInMountNamespace(t) {
		return
	}
	for name, options := range map[string]string{"blocks": "size=128k", "inodes": "nr_inodes=32"} {
		d, mount := openTmpfs(t, options)
		update(t, d, func(tx *Tx) error { tx.Bump(); return incrementCount(tx) })
		requireNoError(t, os.WriteFile(d.path("election"), nil, 0o600))
		fillDisk(t, filepath.Join(mount, "fill"), name == "inodes")
		checkUnwritable(t, d, unix.ENOSPC)
		checkDownIsRemembered(t, d)
		requireNoError(t, os.RemoveAll(filepath.Join(mount, "fill")))
		st := update(t, d, func(tx *Tx) error { tx.Bump(); return incrementCount(tx) })
		if number, _ := d.lineNumber(); !st.Down || st.Ports["count"] != 2 || number != st.Line {
			t.Errorf("%s: with room again: %+v, line %q", name, st, d.PromptLine())
		}
	}
}

// fillDisk uses up all blocks of a disk or, with exhaustInodes, all inodes.
func fillDisk(t *testing.T, dir string, exhaustInodes bool) {
	t.Helper()
	requireNoError(t, os.Mkdir(dir, 0o700))
	for i := 0; ; i++ {
		data := make([]byte, 4096)
		if exhaustInodes {
			data = nil
		}
		err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), data, 0o600)
		if errors.Is(err, unix.ENOSPC) {
			return
		}
		requireNoError(t, err)
	}
}

func TestUpdate_ReportsALockThatCannotBeCreatedNamespace(t *testing.T) {
	if !runInMountNamespace(t) {
		return
	}
	d, mount := openTmpfs(t, "nr_inodes=32")
	update(t, d, incrementCount)
	requireNoError(t, os.Remove(d.path("lock")))
	fillDisk(t, filepath.Join(mount, "fill"), true)
	st, err := d.Update(t.Context(), func(*Tx) error { t.Error("run without a lock"); return nil })
	_, ok := errors.AsType[*WriteError](err)
	if !ok || !errors.Is(err, unix.ENOSPC) || st.Ports["count"] != 1 {
		t.Errorf("got %v, %v", st.Ports, err)
	}
	requireNoError(t, os.RemoveAll(d.Path))
	requireNoError(t, os.WriteFile(filepath.Join(mount, "more"), nil, 0o600))
	fillDisk(t, filepath.Join(mount, "fill2"), true)
	_, err = d.Update(t.Context(), func(*Tx) error { t.Error("run without a directory"); return nil })
	if _, ok := errors.AsType[*WriteError](err); !ok {
		t.Errorf("without the directory: %v", err)
	}
}

func TestUpdate_ReadsAReadOnlyFileSystemNamespace(t *testing.T) {
	if !runInMountNamespace(t) {
		return
	}
	d, mount := openTmpfs(t, "size=1m")
	root := t.TempDir()
	requireNoError(t, os.WriteFile(filepath.Join(root, ".localport.toml"), nil, 0o600))
	update(t, d, func(tx *Tx) error {
		tx.Bump()
		election, err := tx.Elect()
		if err == nil {
			err = election.Resign()
		}
		return errors.Join(err, incrementCount(tx))
	})
	requireNoError(t, unix.Mount("", mount, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	if _, err := Open(d.Config); err != nil {
		t.Error(err)
	}
	checkUnwritable(t, d, unix.EROFS)
	if changed, err := d.Stamp(root); changed || err == nil {
		t.Errorf("stamp: changed %v, %v", changed, err)
	}
	if _, err := Open("/new/.localport.toml"); !errors.Is(err, unix.EROFS) {
		t.Errorf("a new project: %v", err)
	}
}

func TestUpdate_KeepsAStateUnderAFileSizeLimit(t *testing.T) {
	if !runInChild(t, nil) {
		return
	}
	d := openTestDir(t)
	update(t, d, func(tx *Tx) error { tx.Bump(); return incrementCount(tx) })
	signal.Ignore(unix.SIGXFSZ)
	var limit unix.Rlimit
	requireNoError(t, unix.Getrlimit(unix.RLIMIT_FSIZE, &limit))
	lowered := limit
	lowered.Cur = 4096
	requireNoError(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &lowered))
	checkUnwritable(t, d, unix.EFBIG)
	checkDownIsRemembered(t, d)
	requireNoError(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &limit))
}

func TestUpdate_LeavesAStateThatCannotBeRead(t *testing.T) {
	if !runInChild(t, nil) {
		return
	}
	d := openTestDir(t)
	update(t, d, incrementCount)
	d.Warn = func(text string) { t.Error(text) }
	before, err := os.ReadFile(d.path("state.json"))
	requireNoError(t, err)
	var limit unix.Rlimit
	requireNoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	for free := range 4 {
		var held []*os.File
		lowered := limit
		lowered.Cur = 64
		requireNoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &lowered))
		for {
			file, err := os.Open("/dev/null")
			if err != nil {
				break
			}
			held = append(held, file)
		}
		for _, file := range held[:free] {
			file.Close()
		}
		_, err := d.Update(t.Context(), func(tx *Tx) error { tx.IsSupervisorRunning(); return incrementCount(tx) })
		_, readErr := d.Read()
		_, allErr := ListDirs()
		for _, file := range held {
			file.Close()
		}
		requireNoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
		if !errors.Is(err, unix.EMFILE) && free < 3 {
			t.Errorf("with %d descriptors: %v", free, err)
		}
		if free == 0 && (!errors.Is(readErr, unix.EMFILE) || !errors.Is(allErr, unix.EMFILE)) {
			t.Errorf("read: %v; all: %v", readErr, allErr)
		}
		if after, err := os.ReadFile(d.path("state.json")); err != nil || free < 3 && string(after) != string(before) {
			t.Fatalf("with %d descriptors the state became %s, %v", free, after, err)
		}
	}
}

func TestUpdate_LeavesAStateWithoutPermission(t *testing.T) {
	attr := &syscall.SysProcAttr{}
	if os.Getuid() == 0 && os.Getenv("LOCKSTATE_TEST_CHILD") == "" {
		// Root may read everything.
		t.Setenv("TMPDIR", "/tmp")
		attr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
	}
	if !runInChild(t, attr) {
		return
	}
	d := openTestDir(t)
	update(t, d, incrementCount)
	for _, name := range []string{"state.json", "lock", "down.unset"} { // a stop may be recorded in the last one only
		requireNoError(t, os.Chmod(d.path(name), 0))
		_, err := d.Update(t.Context(), func(*Tx) error { t.Error("run"); return nil })
		if !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), d.path(name)) {
			t.Errorf("%s: %v", name, err)
		}
		requireNoError(t, os.Chmod(d.path(name), 0o600))
	}
	requireNoError(t, os.Chmod(d.Path, 0o500))
	update(t, d, readOnly)
	_, err := d.Update(t.Context(), incrementCount)
	if _, ok := errors.AsType[*WriteError](err); !ok || !errors.Is(err, os.ErrPermission) {
		t.Errorf("in a directory that cannot be written: %v", err)
	}
	requireNoError(t, os.Chmod(d.Path, 0o700))
	if st := update(t, d, incrementCount); st.Ports["count"] != 2 {
		t.Errorf("count %d", st.Ports["count"])
	}
}

// The last change of a supervisor is stored in the runtime directory, and in the state file once that can be written.
func TestUpdate_KeepsAFinalChangeInTheRuntimeDirectoryNamespace(t *testing.T) {
	if !runInMountNamespace(t) {
		return
	}
	d, mount := openTmpfs(t, "")
	home := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", home)
	socket, err := d.SocketPath()
	requireNoError(t, err)
	const first, second, third = 1, 2, 3
	lease := func(pid int, since time.Time) Lease {
		return Lease{Kind: ShellLease, Process: Process{PID: pid}, Since: since}
	}
	update(t, d, func(tx *Tx) error {
		tx.AddLease(Lease{Kind: StartLease})
		tx.AddLease(lease(first, time.Now()))
		tx.AddLease(lease(second, time.Now()))
		tx.Supervisor = &Supervisor{Socket: socket}
		tx.Bump()
		return nil
	})
	requireNoError(t, unix.Mount("", mount, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	end := func(tx *Tx) error {
		tx.RemoveLease(StartLease, Process{})
		tx.RemoveLease(ShellLease, Process{PID: first})
		tx.Supervisor, tx.Down = nil, true
		tx.Bump()
		tx.MarkFinal()
		return nil
	}
	_, err = d.Update(t.Context(), end)
	failed, ok := errors.AsType[*WriteError](err)
	if !ok || failed.Fallback == "" || filepath.Dir(failed.Fallback) != filepath.Dir(socket) {
		t.Fatalf("got %+v, %v", failed, err)
	}
	// Another session has another runtime directory.
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	checkEnded := func(st State, pids ...int) {
		t.Helper()
		var got []int
		for _, l := range st.Leases {
			got = append(got, l.PID)
		}
		if !slices.Equal(got, pids) || st.Supervisor != nil || !st.Down {
			t.Errorf("leases of %v, want %v; supervisor %v, down %v", got, pids, st.Supervisor, st.Down)
		}
	}
	checkEnded(d.ReadOrZero(), second)
	checkEnded(update(t, d, readOnly), second)

	// An older release, which ignores the fallback, has recorded a lease since.
	requireNoError(t, unix.Mount("", mount, "", unix.MS_REMOUNT, ""))
	path := d.path("state.json")
	data, err := os.ReadFile(path)
	requireNoError(t, err)
	var st State
	requireNoError(t, json.Unmarshal(data, &st))
	st.AddLease(lease(third, time.Now()))
	data, err = json.Marshal(st)
	requireNoError(t, err)
	requireNoError(t, os.WriteFile(path, data, 0o600))
	checkEnded(d.ReadOrZero(), second, third)
	checkEnded(update(t, d, func(tx *Tx) error { tx.Bump(); return nil }), second, third)
	if _, err := os.Stat(failed.Fallback); err == nil {
		t.Errorf("%s is left", failed.Fallback)
	}
	checkEnded(d.ReadOrZero(), second, third)

	// An older fallback is ignored.
	st.Line = 0
	data, err = json.Marshal(fallback{st, time.Now()})
	requireNoError(t, err)
	requireNoError(t, os.WriteFile(failed.Fallback, data, 0o600))
	checkEnded(d.ReadOrZero(), second, third)
}
