package supervisor

import (
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder/handoff"
	"github.com/localport-sh/localport/forwarder/relay"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
)

// handoffState is what a supervisor tells its successor: the files that it runs, which may have changed on disk without being
// allowed yet, and the state if that could not be written.
type handoffState struct {
	Files  *project.Files   `json:"files"`
	Socket socketFile       `json:"socket"`
	State  *lockstate.State `json:"state,omitempty"` // null if the state file is up to date
	At     time.Time        `json:"at,omitzero"`     // leases in the file taken after this count too
	// Terminated is set if a SIGTERM ended the supervisor and its keeper starts the next.
	Terminated bool `json:"terminated,omitempty"`
	// LoggedIn are the services that have a tunnel for which a user has logged in.
	LoggedIn []string `json:"logged_in,omitempty"`
}

// inheritance has what a keeper handed over, until it is taken. It is safe for concurrent use.
type inheritance struct {
	isPredecessorAlive bool // the predecessor runs until this supervisor is ready
	handoffState       handoffState
	deaths             []handoff.Death

	mu    sync.Mutex // guards files
	files map[string][]*os.File
}

// take removes and returns the files held under a name; nil if there are none.
func (in *inheritance) take(name string) []*os.File {
	in.mu.Lock()
	defer in.mu.Unlock()
	files := in.files[name]
	delete(in.files, name)
	return files
}

// names returns the names of the files that were not taken yet.
func (in *inheritance) names() []string {
	in.mu.Lock()
	defer in.mu.Unlock()
	return slices.Collect(maps.Keys(in.files))
}

// takeListeners takes a service's inherited listeners; nil if there are none for its addresses.
func (in *inheritance) takeListeners(svc project.Service) *relay.Listeners {
	return in.takeListenersOn(serviceHoldName(svc.Name), svc.ListenAddresses())
}

// takeListenersOn takes the listeners held under a name; nil if there are none, or one has another address.
func (in *inheritance) takeListenersOn(name string, addrs []netip.AddrPort) *relay.Listeners {
	files := in.take(name)
	defer closeFiles(files)
	if len(files) == 0 {
		return nil
	}
	listeners, err := relay.InheritListeners(files)
	if err != nil {
		return nil
	}
	for _, addr := range listeners.Addrs() {
		if !slices.Contains(addrs, addr) {
			listeners.Close()
			return nil
		}
	}
	return listeners
}

// hasListener reports whether a listener of a service on a port was handed over.
func (in *inheritance) hasListener(service string, port int) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, file := range in.files[serviceHoldName(service)] {
		if l, err := net.FileListener(file); err == nil {
			addr, ok := l.Addr().(*net.TCPAddr)
			l.Close()
			if ok && addr.Port == port {
				return true
			}
		}
	}
	return false
}

// add adds files, in place of those that have the same names.
func (in *inheritance) add(files map[string][]*os.File) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.files == nil {
		in.files = make(map[string][]*os.File)
	}
	for name, files := range files {
		closeFiles(in.files[name])
		in.files[name] = files
	}
}

// closeUnclaimed closes the files that were not taken, because the config no longer needs them, and returns their names.
func (in *inheritance) closeUnclaimed() []string {
	in.mu.Lock()
	defer in.mu.Unlock()
	unclaimed := in.files
	in.files = nil
	for _, files := range unclaimed {
		closeFiles(files)
	}
	return slices.Collect(maps.Keys(unclaimed))
}
