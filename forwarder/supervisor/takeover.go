package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder/control"
	"github.com/localport-sh/localport/forwarder/control/server"
	"github.com/localport-sh/localport/forwarder/keeper"
	"github.com/localport-sh/localport/forwarder/relay"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/trust"
)

var errNoKeeper = errors.New("no process could be started to hand the ports over")

// memory is what a supervisor tells its successor: the text that it runs, which on disk may have been changed and not
// be allowed yet.
type memory struct {
	Files *project.Files `json:"files"`
}

// inheritance is what a keeper handed over, until it is taken.
type inheritance struct {
	alive  bool // the supervisor before this one lives, and is not to be disturbed before this one is ready
	memory memory

	mu    sync.Mutex
	files map[string][]*os.File
}

func inherit(handed *keeper.Handed) (*inheritance, error) {
	if handed == nil {
		return &inheritance{}, nil
	}
	in := &inheritance{alive: handed.Alive, files: handed.Files}
	if err := json.Unmarshal(handed.Memory, &in.memory); err != nil {
		return nil, fmt.Errorf("read what the supervisor before this one left: %w", err)
	}
	return in, nil
}

// take gives what was held under a name; nil if nothing was.
func (in *inheritance) take(name string) []*os.File {
	in.mu.Lock()
	defer in.mu.Unlock()
	files := in.files[name]
	delete(in.files, name)
	return files
}

// listeners are the inherited ones of a service, if they listen where it is to listen.
func (in *inheritance) listeners(svc project.Service) *relay.Listeners {
	files := in.take(keptService(svc.Name))
	defer closeFiles(files)
	if len(files) == 0 {
		return nil
	}
	ls, err := relay.FromFiles(files)
	if err != nil {
		return nil
	}
	for _, addr := range ls.Addrs() {
		if !slices.Contains(svc.Listens(), addr) {
			ls.Close()
			return nil
		}
	}
	return ls
}

// has reports whether a service's listener on a port is among what was handed over.
func (in *inheritance) has(service string, port int) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, file := range in.files[keptService(service)] {
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

// rest gives everything that nobody took, by name: what the config has no use for any more.
func (in *inheritance) rest() []string {
	in.mu.Lock()
	defer in.mu.Unlock()
	var names []string
	for name, files := range in.files {
		closeFiles(files)
		names = append(names, name)
	}
	in.files = nil
	return names
}

func closeFiles(files []*os.File) {
	for _, file := range files {
		file.Close()
	}
}

// succeed takes the office over from the supervisor whose election was handed to us, and returns its record if it died.
func (s *Supervisor) succeed(ctx context.Context, election *os.File, socket string) (before *lockstate.Supervisor, err error) {
	s.election = s.dir.Inherit(election)
	s.state, err = s.dir.Update(ctx, func(tx *lockstate.Tx) error {
		if s.inherited.alive {
			return nil // the record is its own until we are ready
		}
		before = tx.Supervisor
		tx.Supervisor = s.record(socket)
		tx.Prune()
		return nil
	})
	return before, err
}

// loadInherited reads the files; where they do not do as they stand, it falls back on those that ran before.
func (s *Supervisor) loadInherited() (*project.Files, *project.Project, error) {
	files, parsed, err := s.load()
	old := s.inherited.memory.Files
	if err == nil || old == nil {
		return files, parsed, err
	}
	verdict, old, askErr := s.trust.Ask(old)
	if askErr != nil || verdict != trust.Allowed {
		return files, parsed, err
	}
	s.log.Warn("the files do not do as they stand; those that ran before go on", "error", s.mask(err.Error()))
	parsed, err = s.parse(old)
	return old, parsed, err
}

// listen gets the control socket: the one that was handed over, or a new one.
func (s *Supervisor) listen(path string) (*net.UnixListener, error) {
	files := s.inherited.take(keptSocket)
	defer closeFiles(files)
	if len(files) == 0 {
		return server.Listen(path)
	}
	l, err := net.FileListener(files[0])
	if err != nil {
		return nil, fmt.Errorf("take over the control socket: %w", err)
	}
	socket, ok := l.(*net.UnixListener)
	if !ok {
		l.Close()
		return nil, fmt.Errorf("take over the control socket: it is a %s", l.Addr().Network())
	}
	socket.SetUnlinkOnClose(!s.inherited.alive) // until we are ready it is the living one's
	return socket, nil
}

// remind tells the keeper what a next supervisor is to be started with.
func (s *Supervisor) remind(files *project.Files) {
	data, err := json.Marshal(memory{Files: files})
	if err != nil {
		s.log.Error("remind", "error", err)
		return
	}
	s.keeping.leave(keeper.Note{
		Exe: s.o.Exe, Args: []string{"supervise", "--config", s.o.Config, "--kept", "--log-level", strings.ToLower(s.o.Level.Level().String())},
		Env: s.env.inherited(), Log: s.dir.Log("supervisor"), Memory: data,
	})
}

// Replace hands the project over to another supervisor: leases, ports and waiting clients of the kernel's go there, and
// this one finishes the connections that it has.
func (s *Supervisor) Replace(ctx context.Context, r control.Replacement) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return control.ErrEnding
	}
	s.log.Info("replaced by another supervisor", "exe", r.Exe, "version", r.Version)
	over, err := s.keeping.replace(ctx, r.Exe)
	if err != nil {
		err = fmt.Errorf("start %s: %w", r.Exe, err)
		s.stay(r, err)
		return err
	}
	s.closed, s.passed = true, over
	for _, f := range s.forwards {
		f.pass()
	}
	s.socket.SetUnlinkOnClose(false)
	_ = s.socket.Close()
	_ = s.election.Pass()
	close(s.ended)
	return nil
}

// stay records this supervisor again after a successor could not take over, which is not tried again.
func (s *Supervisor) stay(r control.Replacement, cause error) {
	s.log.Error("the replacement failed; this supervisor goes on", "version", r.Version, "error", cause)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	state, err := s.dir.Update(ctx, func(tx *lockstate.Tx) error {
		socket := s.state.Supervisor.Socket
		tx.Supervisor = s.record(socket)
		tx.Supervisor.Refused = r.Version
		tx.Bump()
		return nil
	})
	if err != nil {
		s.log.Error("write the state", "error", err)
		return
	}
	s.state = state
}

// finishOpen returns when every connection of a supervisor that was replaced has ended, or with the project.
func (s *Supervisor) finishOpen(ctx context.Context) {
	var finishing sync.WaitGroup
	defer finishing.Wait()
	left := maps.Clone(s.forwards)
	tick := time.NewTicker(5 * time.Second) // for a forward that ends by itself
	defer tick.Stop()
	for {
		for name, f := range left {
			if !f.busy() {
				delete(left, name)
				finishing.Go(f.stop)
			}
		}
		if len(left) == 0 {
			return
		}
		select {
		case <-s.calm:
		case <-tick.C:
		case <-s.passed:
			return
		case <-ctx.Done():
			return
		}
	}
}

// busy reports whether the forward has clients.
func (f *forward) busy() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.relay == nil {
		return false
	}
	stats := f.relay.Stats()
	return stats.Open+stats.Waiting > 0
}

// pass stops accepting; others accept on copies of the listeners.
func (f *forward) pass() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.relay != nil {
		f.relay.StopAccepting()
	}
}

// inherit takes what a keeper has for us.
func (s *Supervisor) inherit() (err error) {
	if s.o.Kept == nil {
		s.inherited = &inheritance{}
		return nil
	}
	link, handed, err := s.o.Kept()
	if err != nil {
		return err
	}
	s.keeping.link = link
	s.inherited, err = inherit(handed)
	return err
}

// record is this supervisor as it stands in the state.
func (s *Supervisor) record(socket string) *lockstate.Supervisor {
	return &lockstate.Supervisor{
		Process: lockstate.Self(), Run: s.o.Run, Socket: socket, Version: s.o.Version, Since: s.started.UTC(),
	}
}

// recordKeeper writes the keeper's pid down: the system may name it as who holds our ports.
func (s *Supervisor) recordKeeper(pid int) {
	ctx, cancel := context.WithTimeout(s.work, 5*time.Second)
	defer cancel()
	_, err := s.dir.Update(ctx, func(tx *lockstate.Tx) error {
		if tx.Supervisor != nil && tx.Supervisor.Process == lockstate.Self() {
			tx.Supervisor.Keeper = pid
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		s.log.Error("write the state", "error", err)
	}
}

// withdraw gives up taking over from a supervisor that lives: it goes on as it was.
func (s *Supervisor) withdraw(cause error) {
	s.keeping.quit()
	for _, f := range s.forwards {
		f.stop()
	}
	if s.socket != nil {
		_ = s.socket.Close()
	}
	_ = s.election.Pass()
	_ = s.folder.clean()
	s.o.Say(control.Word{Outcome: outcome(cause), Error: s.mask(cause.Error())})
}
