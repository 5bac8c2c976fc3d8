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

// damageStateEvent deletes the state file, tears it, or puts something else in its place.
func damageStateEvent(p *project, r *rand.Rand) bool {
	path := p.stateFile("state.json")
	data, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	p.nudgeAfterLoss()
	switch r.IntN(3) {
	case 0:
		p.note("state.json is deleted")
		err = os.Remove(path)
	case 1:
		p.note("state.json is torn")
		err = os.WriteFile(path, data[:len(data)/2], 0o600)
	case 2:
		p.note("state.json is another file")
		err = os.WriteFile(path, []byte(`{"hello":"world"}`+"\n"), 0o600)
	}
	return err == nil
}

// nudgeAfterLoss allows for what a lost file said alone: that somebody has said stop, who may say it again.
func (p *project) nudgeAfterLoss() {
	if p.act.State == Stopping && p.down {
		p.unsure = true
	}
}

func deleteFileEvent(name string) func(*project, *rand.Rand) bool {
	return func(p *project, _ *rand.Rand) bool {
		p.note("%s is deleted", name)
		err := os.Remove(p.stateFile(name))
		return err == nil || p.act.State == Down && errors.Is(err, fs.ErrNotExist)
	}
}

func deleteStateEvent(p *project, _ *rand.Rand) bool {
	p.nudgeAfterLoss()
	p.note("the state directory is deleted")
	return os.RemoveAll(p.stateAt) == nil
}

func makeFIFO(path string) error { return syscall.Mkfifo(path, 0o600) }

// makeLoop makes a symbolic link that leads to itself.
func makeLoop(path string) error { return os.Symlink(filepath.Base(path), path) }

func makeDirectory(path string) error { return os.Mkdir(path, 0o700) }

// stateInterval is more than the second in which a supervisor sees that its state file is gone. Then its keeper has the leases:
// file and supervisor, lost within less, take those with them that no prompt takes again.
const stateInterval = 1500 * time.Millisecond

// replaceFileEvent puts something that is no file in the place of one for a while.
func replaceFileEvent(make func(path string) error) func(*project, *rand.Rand) bool {
	return func(p *project, r *rand.Rand) bool {
		names := []string{"lock", "election", "prompt", "state.json"}
		isKilled := p.act.Meanwhile == "kill supervisor"
		// A lease that comes while the file is gone is nowhere until the supervisor, who is killed, has it. One who ends on
		// request has nobody to leave leases to: shells take theirs again at a prompt, execs do not.
		if isKilled && p.overlaps() || p.act.Meanwhile == "stop" && len(p.execs) > 0 {
			names = names[:3]
		}
		name := names[r.IntN(len(names))]
		path := p.stateFile(name)
		p.nudgeAfterLoss()
		_ = os.Remove(path)
		if err := make(path); err != nil {
			p.note("%v", err)
			return false
		}
		p.note("%s is no file", name)
		if isKilled && name == "state.json" {
			p.w.pause(stateInterval)
		}
		p.undo(func() {
			if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
				_ = os.RemoveAll(path)
			}
		})
		return true
	}
}

// holdLockEvent locks the project's lock file as another program might: longer than a prompt waits, sometimes.
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
	p.note("the lock is held")
	if p.act.State == Up || p.act.State == Busy || p.act.State == Degraded {
		p.checkAnswer("the lock is held")
	}
	p.undo(func() {
		const factor = 2 // together with the hold itself
		p.w.pause(factor * p.act.Hold)
		file.Close()
		p.note("the lock is free")
	})
	return true
}

// checkAnswer has status answered at once by a supervisor that runs.
func (p *project) checkAnswer(why string) {
	r := p.localport("status", "--json")
	switch s, err := parseStatus(r.out); {
	case p.w.ctx.Err() != nil:
	case r.code != 0 || err != nil || s.State != running:
		p.fail("%s, and status of a project that is up says %s: %s", why, s.State, r)
	case r.took > statusLimit:
		p.fail("%s, and status was answered after %v", why, r.took)
	}
}

// deleteSocketEvent removes the control socket.
func deleteSocketEvent(p *project, _ *rand.Rand) bool {
	path := filepath.Join(p.w.runtime(), "localport", filepath.Base(p.stateAt)+".sock")
	_, ok := p.target(func() (process, bool) {
		_, err := os.Lstat(path)
		return process{}, err == nil
	})
	p.note("the control socket is deleted")
	return ok && os.Remove(path) == nil
}

// fillDisk leaves no byte, or no inode, on the disk of HOME.
func fillDisk(w *world, r *rand.Rand) (undo func(), err error) {
	dir := filepath.Join(w.home(), "fill")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	undo = func() {
		_ = os.RemoveAll(dir)
		w.note("", "the disk has room")
	}
	if r.IntN(2) == 0 {
		w.note("", "the disk has no inode left")
		for i := 0; ; i++ {
			file, err := os.Create(filepath.Join(dir, strings.Repeat("x", 1+i%200)+"."+time.Now().Format("05.000000000")))
			if err != nil {
				break
			}
			file.Close()
		}
		return undo, nil
	}
	w.note("", "the disk is full")
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

// readOnlyHome mounts HOME read-only, but for the runtime directory. What is open for writing stays so.
func readOnlyHome(w *world, _ *rand.Rand) (undo func(), err error) {
	if err := coverReadOnly(w.home()); err != nil {
		w.note("", "%v", err)
		return nil, err
	}
	w.note("", "HOME is read-only")
	return func() {
		if err := makeWritable(w.home()); err != nil {
			w.fail("", "mount HOME writable again: %v", err)
		}
		w.note("", "HOME is writable")
	}, nil
}

// deleteRuntime removes the directory of sockets, as a logout or a cleaner of old files does.
func deleteRuntime(w *world, _ *rand.Rand) (undo func(), err error) {
	w.note("", "the runtime directory is deleted")
	return nil, os.RemoveAll(filepath.Join(w.runtime(), "localport"))
}
