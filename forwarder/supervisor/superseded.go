package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/forwarder/handoff"
	"github.com/localport-sh/localport/forwarder/service"
)

// A supervisor is superseded when its election file was deleted and another supervisor has locked the new one, as when it was
// frozen or out of reach. It goes on until the other one has its listeners, so that nobody is refused.

// handOverLimit bounds one attempt to hand the listeners over.
const handOverLimit = 5 * time.Second

// onSuperseded hands the listeners over to the supervisor that was elected, and otherwise leaves that to the next look: as long as
// the other one does not answer, this one goes on, until its last lease is gone. One of an older release, which cannot take them,
// finds the ports free. It is called within an act.
func (s *Supervisor) onSuperseded(ctx context.Context) {
	if !s.isSuperseded.Swap(true) {
		s.log.Error("the election file was replaced, and another supervisor has locked it; it is handed the ports")
	}
	err := s.handToElected(ctx)
	if client.IsUnknownRequest(err) {
		s.log.Error("the other supervisor cannot take the ports over; they are closed for it", "error", err)
		s.giveUp()
	} else if err != nil {
		s.log.Debug("the other supervisor does not take the ports over yet", "error", err)
	}
}

// giveUp closes the ports for another supervisor, which tries them again every second, and writes nothing.
func (s *Supervisor) giveUp() {
	s.closing.Store(true)
	s.closePorts()
	_ = s.election.Handover()
	close(s.ended)
}

// handToElected offers the listeners to the supervisor that was elected. Once that has them, this one finishes the connections
// that it has.
func (s *Supervisor) handToElected(ctx context.Context) error {
	conn, err := s.callElected(ctx)
	if err != nil {
		return err
	}
	taken, err := s.offer(conn)
	if err != nil {
		conn.Close()
		return err
	}
	s.log.Info("the other supervisor has taken the ports over", "taken", taken)
	passed := make(chan struct{})
	s.running.Go(func() {
		defer close(passed)
		defer conn.Close()
		defer context.AfterFunc(ctx, func() { conn.Close() })()
		_, _ = io.Copy(io.Discard, conn) // until the other one ends
	})
	s.leaveTo(passed)
	s.keeping.end()
	s.socket.close()
	_ = s.election.Handover()
	close(s.ended)
	return nil
}

// callElected connects to the supervisor that was elected, which is asked wherever it may listen.
func (s *Supervisor) callElected(ctx context.Context) (*net.UnixConn, error) {
	ctx, cancel := context.WithTimeout(ctx, lockLimit)
	defer cancel()
	err := errors.New("it has no socket yet")
	for _, socket := range s.dir.Sockets() {
		conn, callErr := client.Client{Socket: socket}.HandOver(ctx, api.HandOver{Run: s.o.Run})
		if callErr == nil || client.IsUnknownRequest(callErr) {
			return conn, callErr
		}
		err = callErr
	}
	return nil, err
}

// offer sends copies of all services' listeners, and returns the names of those that were taken.
func (s *Supervisor) offer(conn *net.UnixConn) ([]string, error) {
	files := s.keeping.listeners()
	defer func() {
		for _, files := range files {
			closeFiles(files)
		}
	}()
	_ = conn.SetDeadline(time.Now().Add(handOverLimit))
	if err := handoff.Offer(conn, files); err != nil {
		return nil, err
	}
	var response api.HandOverResponse
	if err := json.NewDecoder(conn).Decode(&response); err != nil {
		return nil, err
	}
	return response.Taken, conn.SetDeadline(time.Time{})
}

// listeners are copies of the services' listeners, by the names that the keeper has them under.
func (k *keeping) listeners() map[string][]*os.File {
	k.mu.Lock()
	defer k.mu.Unlock()
	files := make(map[string][]*os.File)
	for _, one := range k.kept {
		if !strings.HasPrefix(one.name, keptService("")) || one != k.last(one.name) {
			continue
		}
		copies, err := one.source()
		if err != nil {
			k.log.Error("copy a listener", "name", one.name, "error", err)
			continue
		}
		files[one.name] = copies
	}
	return files
}

// TakeOver lets another supervisor of this project hand its listeners over, which is none any more.
func (s *Supervisor) TakeOver(h api.HandOver) (func(*net.UnixConn), error) {
	switch {
	case h.Run == s.o.Run:
		return nil, errors.New("this is the supervisor that asks")
	case s.closing.Load() || s.plan.Load() == nil:
		return nil, api.ErrEnding
	case s.isSuperseded.Load():
		return nil, errors.New("another supervisor has the election")
	}
	return s.takeOver, nil
}

// takeOver takes what is offered on a connection, which lasts as long as both supervisors do.
func (s *Supervisor) takeOver(conn *net.UnixConn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(handOverLimit))
	handed, err := handoff.Accept(conn)
	if err != nil {
		s.log.Error("take over from a superseded supervisor", "error", err)
		return
	}
	taken, err := s.takeListeners(handed.Files)
	if err != nil {
		s.log.Warn("take over from a superseded supervisor", "error", err)
		return // it keeps them
	}
	s.log.Info("took over from a superseded supervisor", "offered", len(handed.Files), "taken", taken)
	if json.NewEncoder(conn).Encode(api.HandOverResponse{Taken: taken}) != nil || conn.SetDeadline(time.Time{}) != nil {
		return
	}
	var reading sync.WaitGroup
	defer reading.Wait()
	defer conn.Close()
	gone := make(chan struct{})
	reading.Go(func() {
		defer close(gone)
		_, _ = io.Copy(io.Discard, conn)
	})
	select {
	case <-gone:
	case <-s.ended:
	}
}

// takeListeners has the services whose ports another supervisor has had use its listeners, and returns the names of those that
// do. All files are closed.
func (s *Supervisor) takeListeners(files map[string][]*os.File) ([]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), handOverLimit)
	defer cancel()
	if err := s.beginAct(ctx); err != nil {
		for _, files := range files {
			closeFiles(files)
		}
		return nil, err
	}
	defer s.endAct()
	offered := slices.Collect(maps.Keys(files))
	s.inherited.add(files)
	var (
		binding sync.WaitGroup
		mu      sync.Mutex
		taken   []string
	)
	for name, svc := range s.plan.Load().services {
		if !slices.Contains(offered, keptService(name)) {
			continue
		}
		binding.Go(func() {
			if s.takeListener(svc) {
				mu.Lock()
				defer mu.Unlock()
				taken = append(taken, keptService(name))
			}
		})
	}
	binding.Wait()
	s.inherited.rest()
	slices.Sort(taken)
	return taken, nil
}

// takeListener has a service bind again, twice if it was just about to without the listener, and reports whether it has its port.
func (s *Supervisor) takeListener(svc *runningService) bool {
	for range 2 {
		if now := svc.Snapshot(); now.Held() || now.IsStopped() {
			break
		}
		svc.Start(service.StartOptions{})
	}
	return svc.Snapshot().Held()
}
