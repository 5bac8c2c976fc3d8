package lockstate

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// What nobody will write again must not be lost where the state directory is read-only: what a supervisor knows when it ends,
// and that the user stopped the project. It goes to a file beside the control socket. The runtime directory lasts as long as the
// session or the boot, and so do leases. The file counts as long as its Line is greater than that of the state file: whoever
// writes the state next writes what it says.

// fallback is a state that could not be written to the state file.
type fallback struct {
	State
	At time.Time `json:"at"` // leases in the state file that are younger count as well
}

const fallbackSuffix = ".state"

// storeFallback writes a state, in JSON, to the runtime directory, and returns the path.
func (d *Dir) storeFallback(state State) (string, error) {
	socket, err := d.SocketPath()
	if err != nil {
		return "", err
	}
	data, err := json.Marshal(fallback{state, time.Now()})
	if err != nil {
		return "", err
	}
	path := fallbackPath(socket)
	return path, replaceFile(path, data)
}

func fallbackPath(socket string) string {
	return strings.TrimSuffix(socket, filepath.Ext(socket)) + fallbackSuffix
}

// mergeFallback takes over what could not be written to the state file, and returns the files that say so.
func (d *Dir) mergeFallback(st *State) (paths []string) {
	var newest *fallback
	for _, socket := range d.socketsOf(st.Supervisor) {
		path := fallbackPath(socket)
		data, err := readFile(path)
		if err != nil {
			continue
		}
		paths = append(paths, path)
		var f fallback
		if json.Unmarshal(data, &f) != nil || f.Version != stateVersion || f.ID != st.ID || f.Boot != st.Boot || f.Line <= st.Line {
			continue
		}
		if newest == nil || f.Line > newest.Line {
			newest = &f
		}
	}
	if newest == nil {
		return paths
	}
	stored := st.Leases
	*st = newest.State
	for _, lease := range stored {
		if lease.Since.After(newest.At) {
			st.Hold(lease)
		}
	}
	return paths
}

func removeAll(paths []string) {
	for _, path := range paths {
		_ = os.Remove(path)
	}
}
