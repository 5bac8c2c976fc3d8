package lockstate

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// The files of a state directory that are locked.
const (
	lockName     = "lock"
	stateName    = "state.json"
	electionName = "election"
)

// Dir is one project's state directory.
type Dir struct {
	Path   string
	Config string // the project's config file: its identity
	// Warn is called when Update replaced an unusable state file, with the path that it was moved to, and when the prompt's
	// line cannot be written because something else is at its path. It may be nil.
	Warn func(string)
	// BeforeCall, if not nil, is called before the file system calls by which the state is read and changed, with the name of the file. If
	// it returns an error, that is the outcome of the call. It is for tests, which have calls fail or wait.
	BeforeCall func(call Call, name string) error

	// mustExist: locking does not make a directory that is missing.
	mustExist bool

	joinFingerprinted sync.Once // sets fingerprinted
	fingerprinted     fingerprintedPaths
}

// Open makes the state directory of the project with this config file, 0700, and returns it. A *WriteError says that
// it is missing and cannot be made; the Dir is returned with any error, for its Sockets.
func Open(config string) (*Dir, error) {
	home, err := StateHome()
	if err != nil {
		return nil, err
	}
	d := &Dir{Path: filepath.Join(home, projectsName, stateKey(config)), Config: config}
	return d, d.makeDirs()
}

// ListDirs returns the state directories of all projects of this user, including those whose config file does not exist any more.
// An error names the states that cannot be read; the directories of the others are returned with it. A state that is
// damaged belongs to no known project and is left out.
func ListDirs() ([]*Dir, error) {
	home, err := StateHome()
	if err != nil {
		return nil, err
	}
	projects := filepath.Join(home, projectsName)
	entries, err := os.ReadDir(projects)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var dirs []*Dir
	var failures []error
	for _, entry := range entries {
		path := filepath.Join(projects, entry.Name())
		var st State
		data, err := readFile(filepath.Join(path, stateName))
		switch {
		case isAbsent(err):
		case err != nil:
			failures = append(failures, err)
		case decodeState(data, &st) == nil && stateKey(st.Config) == entry.Name():
			dirs = append(dirs, &Dir{Path: path, Config: st.Config})
		}
	}
	return dirs, errors.Join(failures...)
}

// LogDir returns the directory of the supervisor's and the services' logs.
func (d *Dir) LogDir() string { return filepath.Join(d.Path, "log") }

// LogPath returns the path of a log; name is a service's, or "supervisor".
func (d *Dir) LogPath(name string) string { return filepath.Join(d.LogDir(), name+".log") }

// SocketPath returns the path of the socket on which the project's supervisor listens for its clients.
func (d *Dir) SocketPath() (string, error) {
	dir, err := RuntimeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, d.socketName()), nil
}

func (d *Dir) path(name string) string { return filepath.Join(d.Path, name) }

// Read reads the state without the lock: good enough to show, not to base a decision on. The error is fs.ErrNotExist if there is no
// state; after any other error there may be one.
func (d *Dir) Read() (State, error) {
	if err := d.beforeCall(CallRead, stateName); err != nil {
		return State{}, readError(d.path(stateName), err)
	}
	data, err := readFile(d.path(stateName))
	if err != nil {
		return State{}, err
	}
	st, err := parseState(data, d.Config)
	if err != nil {
		return State{}, readError(d.path(stateName), err)
	}
	_, err = d.applyFallback(&st)
	if err == nil {
		_, err = d.applyDownFile(&st)
	}
	if err != nil {
		return State{}, err
	}
	return st, nil
}

// ReadOrZero is Read for callers that treat a state that cannot be read like none: it returns the zero State.
func (d *Dir) ReadOrZero() State {
	st, _ := d.Read()
	return st
}
