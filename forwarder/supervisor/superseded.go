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
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/forwarder/handoff"
	"github.com/localport-sh/localport/forwarder/service"
)

// A supervisor is superseded when its election file was deleted and another supervisor has locked the new one, for example while it
// was frozen. It continues until the other has its listeners, so that no client is refused.

// handOverTimeout bounds one attempt to hand over the listeners.
const handOverTimeout = 5 * time.Second

// onSuperseded tries to hand the listeners over to the elected supervisor; the next guardFiles tick retries. As long as that one does
// not answer, this one continues until its last lease is released. For one of an older release, which cannot take listeners, it
// closes the ports. It is called within an operation.
func (s *Supervisor) onSuperseded(ctx context.Context) {
	if !s.isSuperseded.Swap(true) {
		s.log.Error("the election file was replaced and another supervisor has locked it; handing over the ports")
	}
	if elected := s.dir.ReadOrZero().Supervisor; elected != nil && elected.IsOnOtherNetwork() {
		s.log.Error("the other supervisor runs in another network namespace, where it has ports of its own; closing these")
		s.closePortsForElected(time.Time{})
		return
	}
	err := s.handOver(ctx)
	if client.IsUnknownRequest(err) {
		s.log.Error("the other supervisor cannot take over open ports; closing them for it", "error", err)
		s.closePortsForElected(time.Time{})
	} else if err != nil {
		s.log.Debug("the other supervisor does not take over the ports yet", "error", err)
	}
}

// handOverToElected hands the listeners to the elected supervisor and starts to drain this one's connections.
func (s *Supervisor) handOverToElected(ctx context.Context) error {
	conn, err := s.connectToElected(ctx)
	if err != nil {
		return err
	}
	taken, err := s.offerListeners(conn)
	if err != nil {
		conn.Close()
		return err
	}
	s.log.Info("the other supervisor has taken over the ports", "taken", taken)
	electedEndedCh := make(chan struct{})
	s.tasks.Go(func() {
		defer close(electedEndedCh)
		defer conn.Close()
		defer context.AfterFunc(ctx, func() { conn.Close() })()
		_, _ = io.Copy(io.Discard, conn) // until the elected supervisor ends
	})
	s.socket.close()
	s.leaveTo(electedEndedCh)
	return nil
}

// connectToElected connects to the elected supervisor, trying every path where it may listen.
func (s *Supervisor) connectToElected(ctx context.Context) (*net.UnixConn, error) {
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	err := errors.New("the elected supervisor has no socket yet")
	for _, socket := range s.dir.Sockets() {
		conn, callErr := client.Client{Socket: socket}.HandOver(ctx, api.HandOverRequest{Run: s.options.RunID})
		if callErr == nil || client.IsUnknownRequest(callErr) {
			return conn, callErr
		}
		err = callErr
	}
	return nil, err
}

// offerListeners sends copies of all services' listeners and returns the names of those that were taken.
func (s *Supervisor) offerListeners(conn *net.UnixConn) ([]string, error) {
	files := s.keeper.copyListeners()
	defer func() {
		for _, files := range files {
			closeFiles(files)
		}
	}()
	_ = conn.SetDeadline(time.Now().Add(handOverTimeout))
	if err := handoff.Offer(conn, files); err != nil {
		return nil, err
	}
	var response api.HandOverResponse
	if err := json.NewDecoder(conn).Decode(&response); err != nil {
		return nil, err
	}
	return response.Taken, conn.SetDeadline(time.Time{})
}

// TakeOver returns a function that receives the listeners of a superseded supervisor of this project on a connection, which it closes. The
// error is api.ErrEnding, or why this supervisor is not the elected one.
func (s *Supervisor) TakeOver(h api.HandOverRequest) (func(context.Context, *net.UnixConn), error) {
	switch {
	case h.Run == s.options.RunID:
		return nil, errors.New("a supervisor cannot hand its ports over to itself")
	case s.isClosing.Load() || s.active.Load() == nil:
		return nil, api.ErrEnding
	case s.isSuperseded.Load():
		return nil, errors.New("another supervisor holds the election lock")
	}
	return s.receiveHandOver, nil
}

// receiveHandOver takes the listeners offered on a connection, which stays open until one of the supervisors ends.
func (s *Supervisor) receiveHandOver(ctx context.Context, conn *net.UnixConn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(handOverTimeout))
	handed, err := handoff.AcceptOffer(conn)
	if err != nil {
		s.log.Error("cannot receive the ports of a superseded supervisor", "error", err)
		return
	}
	taken, err := s.adoptListeners(ctx, handed.Files)
	if err != nil {
		s.log.Warn("cannot take over the ports of a superseded supervisor", "error", err)
		return // the other supervisor keeps them
	}
	s.log.Info("took over from a superseded supervisor", "offered", len(handed.Files), "taken", taken)
	if json.NewEncoder(conn).Encode(api.HandOverResponse{Taken: taken}) != nil || conn.SetDeadline(time.Time{}) != nil {
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer conn.Close()
	peerClosedCh := make(chan struct{})
	wg.Go(func() {
		defer close(peerClosedCh)
		_, _ = io.Copy(io.Discard, conn)
	})
	select {
	case <-peerClosedCh:
	case <-s.endedCh:
	}
}

// adoptListeners has the services rebind with the listeners of another supervisor, and returns the names of those that did. It
// closes all files.
func (s *Supervisor) adoptListeners(ctx context.Context, files map[string][]*os.File) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, handOverTimeout)
	defer cancel()
	if err := s.beginOperation(ctx); err != nil {
		for _, files := range files {
			closeFiles(files)
		}
		return nil, err
	}
	defer s.endOperation()
	offered := slices.Collect(maps.Keys(files))
	s.inherited.add(files)
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		taken []string
	)
	for name, svc := range s.active.Load().services {
		if !slices.Contains(offered, serviceHoldName(name)) {
			continue
		}
		wg.Go(func() {
			if s.rebindService(svc) {
				mu.Lock()
				defer mu.Unlock()
				taken = append(taken, serviceHoldName(name))
			}
		})
	}
	wg.Wait()
	s.inherited.closeUnclaimed()
	slices.Sort(taken)
	return taken, nil
}

// rebindService has a service bind its port, twice in case the first bind began before the listener was there. It reports success.
func (s *Supervisor) rebindService(svc *runningService) bool {
	for range 2 {
		if now := svc.Snapshot(); now.IsPortHeld() || now.IsStopped() {
			break
		}
		svc.Start(service.StartOptions{})
	}
	return svc.Snapshot().IsPortHeld()
}
