package lockstate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

// Dir is one project's state directory.
type Dir struct {
	Path   string
	Config string // the project's config file: its identity
	// Warn is told when Update found a state file that was unusable, and where that was put. It may be nil.
	Warn func(string)
}

// Open makes the state directory of the project with this config file, 0700, and returns it.
func Open(config string) (*Dir, error) {
	home, err := StateHome()
	if err != nil {
		return nil, err
	}
	d := &Dir{Path: filepath.Join(home, "projects", key(config)), Config: config}
	if err := os.MkdirAll(d.LogDir(), 0o700); err != nil {
		return nil, fmt.Errorf("make the state directory: %w", err)
	}
	return d, nil
}

// All are the state directories of every project that this user ever had, without those that cannot be read.
func All() ([]*Dir, error) {
	home, err := StateHome()
	if err != nil {
		return nil, err
	}
	paths, err := filepath.Glob(filepath.Join(home, "projects", "*"))
	if err != nil {
		return nil, err
	}
	var dirs []*Dir
	for _, path := range paths {
		var st State
		data, err := os.ReadFile(filepath.Join(path, "state.json"))
		if err == nil && json.Unmarshal(data, &st) == nil && key(st.Config) == filepath.Base(path) {
			dirs = append(dirs, &Dir{Path: path, Config: st.Config})
		}
	}
	return dirs, nil
}

// LogDir is where the supervisor's and the services' logs lie.
func (d *Dir) LogDir() string { return filepath.Join(d.Path, "log") }

// Log is the path of a log; name is a service's, or "supervisor".
func (d *Dir) Log(name string) string { return filepath.Join(d.LogDir(), name+".log") }

// SocketPath is where the project's supervisor listens for its clients.
func (d *Dir) SocketPath() (string, error) {
	dir, err := RuntimeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, filepath.Base(d.Path)+".sock"), nil
}

func (d *Dir) file(name string) string { return filepath.Join(d.Path, name) }

// Tx is one change of the state, made while the file lock is held.
type Tx struct {
	State
	Warning string // not empty: the state file was unusable, and where it was put

	dir  *Dir
	bump bool
}

// Update runs fn under the project's file lock and writes what fn made of the state. An error of fn's is returned
// as it is and nothing is written. The lock is waited for as long as ctx allows.
func (d *Dir) Update(ctx context.Context, fn func(*Tx) error) (State, error) {
	lock := flock.New(d.file("lock"), flock.SetPermissions(0o600))
	if err := d.acquire(ctx, lock); err != nil {
		return State{}, err
	}
	defer lock.Close()

	tx := d.load()
	if tx.Warning != "" && d.Warn != nil {
		d.Warn(tx.Warning)
	}
	before, _ := json.Marshal(tx.State)
	if err := fn(tx); err != nil {
		return tx.State, err
	}
	if tx.bump {
		tx.Line++
	}
	after, err := json.Marshal(tx.State)
	if err != nil {
		return tx.State, err
	}
	if string(after) != string(before) || tx.Warning != "" {
		if err := replaceFile(d.file("state.json"), after); err != nil {
			return tx.State, fmt.Errorf("write the state: %w", err)
		}
	}
	if tx.bump {
		return tx.State, d.writeLine(tx.State)
	}
	return tx.State, nil
}

// acquire waits at a growing pace: a crowd that asked all the time would keep the holder from getting on.
func (d *Dir) acquire(ctx context.Context, lock *flock.Flock) error {
	const first, last = 2 * time.Millisecond, 50 * time.Millisecond
	for pause := first; ; pause = min(2*pause, last) {
		if ok, err := lock.TryLock(); err != nil {
			return fmt.Errorf("lock %s: %w", lock.Path(), err)
		} else if ok {
			return nil
		}
		timer := time.NewTimer(pause/2 + rand.N(pause))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			if errors.Is(ctx.Err(), context.Canceled) {
				return fmt.Errorf("lock %s: %w", lock.Path(), ctx.Err())
			}
			return fmt.Errorf("wait for the lock %s: another localport has held it for too long", lock.Path())
		}
	}
}

// load reads the state, or makes a new one. A torn, empty or foreign file is put aside, not lost.
func (d *Dir) load() *Tx {
	tx := &Tx{dir: d}
	path := d.file("state.json")
	data, err := os.ReadFile(path)
	if err == nil {
		tx.State, err = parseState(data, d.Config)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		tx.State = newState(d.Config)
	case err != nil:
		tx.State = newState(d.Config)
		// The prompt's line may be ahead of a new state's number; a repeated number could hide a change.
		tx.Line = uint64(time.Now().Unix())
		aside := path + ".unusable"
		_ = os.Rename(path, aside)
		tx.Warning = fmt.Sprintf("state file %s was unusable (%v); it was put aside as %s and begun anew", path, err, aside)
	}
	return tx
}

// Bump makes the prompts of every shell in the project look again.
func (tx *Tx) Bump() { tx.bump = true }

// Alive reports whether a supervisor lives: whether its election lock is held. It is asked under the file lock, as
// is every election, so that asking never makes a candidate lose.
func (tx *Tx) Alive() bool {
	lock := flock.New(tx.dir.file("election"), flock.SetPermissions(0o600))
	ok, err := lock.TryRLock()
	if err != nil || !ok {
		return err == nil
	}
	_ = lock.Close()
	return false
}

// Socket is where the living supervisor listens: as it recorded, or where it would, if the record was lost.
func (tx *Tx) Socket() (string, error) {
	if tx.Supervisor != nil {
		return tx.Supervisor.Socket, nil
	}
	return tx.dir.SocketPath()
}

// Peek reads the state without the lock: good enough for a look, not for a decision. The zero State where there is
// none that can be read.
func (d *Dir) Peek() State {
	data, err := os.ReadFile(d.file("state.json"))
	if err != nil {
		return State{}
	}
	st, err := parseState(data, d.Config)
	if err != nil {
		return State{}
	}
	return st
}
