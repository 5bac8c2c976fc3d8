package lockstate

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The last change of a supervisor that ends, or of a stop, must not be lost if the state directory is read-only.
// It is written to a file beside the control socket. The runtime directory exists as long as the
// session or the boot, and so do leases. The file takes precedence while its Line is greater than that of the state file: the
// next Update that can write the state includes it.

// fallback is a state that could not be written to the state file.
type fallback struct {
	State
	At time.Time `json:"at"` // leases in the state file that were taken later are valid too
}

const fallbackSuffix = ".state"

// writeFallback writes a state, in JSON, to the runtime directory, and returns the path.
func (d *Dir) writeFallback(state State) (string, error) {
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

// applyFallback replaces st by the newest fallback, if that is newer, and returns the paths of all fallbacks. After an error st is
// unchanged.
func (d *Dir) applyFallback(st *State) (paths []string, err error) {
	var newest *fallback
	for _, socket := range d.socketsOf(st.Supervisor) {
		path := fallbackPath(socket)
		data, err := readIfRegular(path)
		if err != nil {
			return nil, err
		}
		if data == nil {
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
		return paths, nil
	}
	stored := st.Leases
	newest.Config = st.Config
	*st = newest.State
	for _, lease := range stored {
		if lease.Since.After(newest.At) {
			st.AddLease(lease)
		}
	}
	return paths, nil
}

func removeFiles(paths []string) {
	for _, path := range paths {
		_ = os.Remove(path)
	}
}
