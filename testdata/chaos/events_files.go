package chaos

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// damageStateEvent deletes the state file, cuts it in half, or replaces its contents.
func damageStateEvent(p *project, r *rand.Rand) bool {
	path := p.stateFile("state.json")
	data, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	p.allowForLostStop()
	switch r.IntN(3) {
	case 0:
		p.logf("state.json is deleted")
		err = os.Remove(path)
	case 1:
		p.logf("state.json is cut in half")
		err = os.WriteFile(path, data[:len(data)/2], 0o600)
	case 2:
		p.logf("state.json has other contents")
		err = os.WriteFile(path, []byte(`{"hello":"world"}`+"\n"), 0o600)
	}
	return err == nil
}

// allowForLostStop allows that a stop is lost with the state file, which alone recorded it.
func (p *project) allowForLostStop() {
	if p.act.State == Stopping && p.isDown {
		p.isOutcomeUnknown = true
	}
}

func deleteFileEvent(name string) func(*project, *rand.Rand) bool {
	return func(p *project, _ *rand.Rand) bool {
		p.logf("%s is deleted", name)
		err := os.Remove(p.stateFile(name))
		return err == nil || p.act.State == Down && errors.Is(err, fs.ErrNotExist)
	}
}

func deleteStateEvent(p *project, _ *rand.Rand) bool {
	p.allowForLostStop()
	p.logf("the state directory is deleted")
	return os.RemoveAll(p.stateDir) == nil
}

func makeFIFO(path string) error { return syscall.Mkfifo(path, 0o600) }

// makeLoop makes a symbolic link that leads to itself.
func makeLoop(path string) error { return os.Symlink(filepath.Base(path), path) }

func makeDirectory(path string) error { return os.Mkdir(path, 0o700) }

// leaseBackupTime is longer than the second after which a supervisor notices that its state file is gone and gives the leases to its
// keeper. If file and supervisor are lost sooner, leases that no prompt takes again are lost too.
const leaseBackupTime = 1500 * time.Millisecond

// replaceFileEvent replaces a random state file with what make makes at its path, until the event ends.
func replaceFileEvent(make func(path string) error) func(*project, *rand.Rand) bool {
	return func(p *project, r *rand.Rand) bool {
		names := []string{"lock", "election", "prompt", "state.json"}
		isKilled := p.act.Meanwhile == "kill supervisor"
		// Without state.json a new lease is only in the supervisor's memory, and is lost if that is killed. A supervisor that is
		// stopped hands its leases to nobody: shells take theirs again at a prompt, execs do not.
		if isKilled && p.isInTransition() || p.act.Meanwhile == "stop" && len(p.execs) > 0 {
			names = names[:3]
		}
		name := names[r.IntN(len(names))]
		path := p.stateFile(name)
		p.allowForLostStop()
		_ = os.Remove(path)
		if err := make(path); err != nil {
			p.logf("%v", err)
			return false
		}
		p.logf("%s is no regular file", name)
		if isKilled && name == "state.json" {
			p.world.pause(leaseBackupTime)
		}
		p.addUndo(func() {
			if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
				_ = os.RemoveAll(path)
			}
		})
		return true
	}
}

// holdLockEvent holds the project's file lock, as another program might, for up to twice the duration of the act.
func holdLockEvent(p *project, _ *rand.Rand) bool {
	file, err := os.OpenFile(p.stateFile("lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return false
	}
	for range 2000 {
		if err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if err != nil {
		file.Close()
		return false
	}
	p.logf("the lock is held")
	if p.act.State == Up || p.act.State == Busy || p.act.State == Degraded {
		p.checkStatusAnswers("the lock is held")
	}
	p.addUndo(func() {
		p.world.pause(2 * p.act.Duration) // after the act's own pause: longer than a prompt waits
		file.Close()
		p.logf("the lock is free")
	})
	return true
}

// checkStatusAnswers checks that status of a project that is up is answered within statusLimit, whatever the situation is.
func (p *project) checkStatusAnswers(situation string) {
	r := p.runLocalport("status", "--json")
	switch s, err := parseStatus(r.stdout); {
	case p.world.ctx.Err() != nil:
	case r.exitCode != 0 || err != nil || s.State != stateRunning:
		p.fail("%s, and status of a project that is up says %s: %s", situation, s.State, r)
	case r.duration > statusLimit:
		p.fail("%s, and status was answered after %v", situation, r.duration)
	}
}

// deleteSocketEvent deletes the control socket.
func deleteSocketEvent(p *project, _ *rand.Rand) bool {
	path := filepath.Join(p.world.runtimeDir(), "localport", filepath.Base(p.stateDir)+".sock")
	_, ok := p.awaitProcess(func() (process, bool) {
		_, err := os.Lstat(path)
		return process{}, err == nil
	})
	p.logf("the control socket is deleted")
	return ok && os.Remove(path) == nil
}

// fillDisk leaves no free byte, or no free inode, on the disk of HOME.
func fillDisk(w *world, r *rand.Rand) (undo func(), err error) {
	dir := filepath.Join(w.homeDir(), "fill")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	undo = func() {
		_ = os.RemoveAll(dir)
		w.logf("", "the disk has free space")
	}
	if r.IntN(2) == 0 {
		w.logf("", "the disk has no inode left")
		for i := 0; ; i++ {
			file, err := os.Create(filepath.Join(dir, strings.Repeat("x", 1+i%200)+"."+time.Now().Format("05.000000000")))
			if err != nil {
				break
			}
			file.Close()
		}
		return undo, nil
	}
	w.logf("", "the disk is full")
	file, err := os.Create(filepath.Join(dir, "fill"))
	if err != nil {
		return undo, err
	}
	defer file.Close()
	for size := 1 << 20; size > 0; size /= 2 {
		for {
			if n, err := file.Write(make([]byte, size)); err != nil || n < size {
				break
			}
		}
	}
	return undo, nil
}

// readOnlyHome makes HOME read-only, except the runtime directory and files that are open for writing.
func readOnlyHome(w *world, _ *rand.Rand) (undo func(), err error) {
	if err := mountReadOnly(w.homeDir()); err != nil {
		w.logf("", "%v", err)
		return nil, err
	}
	w.logf("", "HOME is read-only")
	return func() {
		if err := makeWritable(w.homeDir()); err != nil {
			w.fail("", "mount HOME writable again: %v", err)
		}
		w.logf("", "HOME is writable")
	}, nil
}

// deleteRuntime deletes LocalPort's directory of sockets, as a logout or a program that deletes old files does.
func deleteRuntime(w *world, _ *rand.Rand) (undo func(), err error) {
	w.logf("", "the runtime directory is deleted")
	return nil, os.RemoveAll(filepath.Join(w.runtimeDir(), "localport"))
}
