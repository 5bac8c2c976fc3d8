package service

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/relay"
	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/project"
)

// scriptedShare is a port that another project shares as the test says.
type scriptedShare struct {
	changedCh, doneCh chan struct{}

	mu       sync.Mutex
	status   SharedStatus
	isClosed bool
}

func newScriptedShare(state forwarder.State) *scriptedShare {
	return &scriptedShare{
		changedCh: make(chan struct{}, 1), doneCh: make(chan struct{}),
		status: SharedStatus{Project: "/a/b", Service: "db", State: state, Target: "theirs"},
	}
}

func (p *scriptedShare) set(state forwarder.State, lastError, hint string) {
	p.mu.Lock()
	p.status.State, p.status.LastError, p.status.Hint = state, lastError, hint
	p.mu.Unlock()
	wait.Notify(p.changedCh)
}

func (p *scriptedShare) Status() SharedStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status
}

func (p *scriptedShare) Changed() <-chan struct{} { return p.changedCh }
func (p *scriptedShare) Done() <-chan struct{}    { return p.doneCh }

func (p *scriptedShare) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.isClosed = true
}

func (p *scriptedShare) hasClosed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.isClosed
}

// sharingHost is a host whose port another project has until it is freed. borrow says how the next attempts to borrow it end.
type sharingHost struct {
	Host
	mu     sync.Mutex
	isFree bool
	port   *countingPort
	borrow func() (SharedPort, error)
	opened int // how often OnPortOpened was called
}

func newSharingHost(borrow func() (SharedPort, error)) *sharingHost {
	h := &sharingHost{Host: testHost(), port: &countingPort{}, borrow: borrow}
	h.OpenPort = func(context.Context, project.Service, relay.Options) (Port, error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		if !h.isFree {
			return nil, errors.New("in use")
		}
		return h.port, nil
	}
	h.BorrowPort = func(context.Context, Definition, time.Time, error) (SharedPort, error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.borrow()
	}
	h.OnPortOpened = func() { h.change(func() { h.opened++ }) }
	return h
}

func (h *sharingHost) change(edit func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	edit()
}

func lend(p *scriptedShare) func() (SharedPort, error) {
	return func() (SharedPort, error) { return p, nil }
}

func TestShared_FollowsTheHolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		share := newScriptedShare(forwarder.Starting)
		h := newSharingHost(lend(share))
		s := startService(t, h.Host, testServiceConfig("db"), checkSucceeds, openSucceeds)
		defer s.end()
		dependent := testServiceConfig("api")
		dependent.DependsOn = []string{"db"}
		own := h.Host
		own.OpenPort = nil
		api := startService(t, own, dependent, checkSucceeds, openSucceeds)
		defer api.end()
		s.requireState(t, forwarder.Shared)
		if now := s.Snapshot(); now.IsPortHeld() || !now.IsReachable() || now.EffectiveState() != forwarder.Starting || now.Target != "theirs" {
			t.Errorf("%+v", now)
		}
		api.requireState(t, forwarder.Starting)

		share.set(forwarder.Healthy, "", "")
		api.requireState(t, forwarder.Healthy)
		share.set(forwarder.NeedsAttention, "a passphrase is missing", `run "localport login"`)
		synctest.Wait()
		if now := s.Snapshot(); now.EffectiveState() != forwarder.NeedsAttention || now.LastError != "a passphrase is missing" || now.Hint != `run "localport login" (in /a/b)` {
			t.Errorf("%+v", now)
		}
		if n := len(s.driver.openTimes()); n > 0 {
			t.Errorf("%d tunnels of its own", n)
		}
		<-s.Stop()
		if s.requireState(t, forwarder.Stopped); !share.hasClosed() || s.Snapshot().IsReachable() {
			t.Error("the port was not given back")
		}
	})
}

func TestShared_OpensATunnelWhenTheHolderEnds(t *testing.T) {
	for _, onDemand := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			share := newScriptedShare(forwarder.Healthy)
			h := newSharingHost(lend(share))
			svc := testServiceConfig("db")
			svc.OnDemand, svc.IdleTimeout = onDemand, time.Hour
			s := startService(t, h.Host, svc, checkSucceeds, openSucceeds)
			defer s.end()
			s.requireState(t, forwarder.Shared)
			h.change(func() { h.isFree = true })
			close(share.doneCh)
			want := forwarder.Healthy
			if onDemand {
				want = forwarder.Idle
			}
			s.requireState(t, want)
			if !s.Snapshot().IsPortHeld() || s.Snapshot().Shared != nil {
				t.Errorf("%+v", s.Snapshot())
			}
		})
	}
}

// While the next holder cannot be asked, the service is not failed, and its variables stay.
func TestShared_AsksAgainWhileTheHolderCannotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := newScriptedShare(forwarder.Healthy), newScriptedShare(forwarder.Healthy)
		h := newSharingHost(lend(first))
		s := startService(t, h.Host, testServiceConfig("db"), checkSucceeds, openSucceeds)
		defer s.end()
		s.requireState(t, forwarder.Shared)
		h.change(func() { h.borrow = func() (SharedPort, error) { return nil, &PortPendingError{Project: "/c/d"} } })
		close(first.doneCh)
		s.requireState(t, forwarder.Restarting)
		if now := s.Snapshot(); !now.IsReachable() || !strings.Contains(now.LastError, "/c/d") {
			t.Errorf("%+v", now)
		}
		h.change(func() { h.borrow = lend(second) })
		time.Sleep(pendingBindInterval)
		s.requireState(t, forwarder.Shared)

		h.change(func() { h.borrow = func() (SharedPort, error) { return nil, errors.New("leads elsewhere") } })
		close(second.doneCh)
		s.requireState(t, forwarder.Failed)
		if now := s.Snapshot(); now.IsReachable() || now.LastError != "leads elsewhere" {
			t.Errorf("%+v", now)
		}
		h.change(func() { h.borrow, h.opened = lend(newScriptedShare(forwarder.Healthy)), 0 })
		time.Sleep(bindInterval)
		if s.requireState(t, forwarder.Shared); h.opened != 1 {
			t.Errorf("prompts were told %d times", h.opened)
		}
	})
}

// A restart borrows the port for the definition as it is then; until that is done the former loan stays.
// The service is led elsewhere while the holder is asked whether it shares the former target.
func TestShared_AsksAgainAfterAChangeOfTheTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shares := []*scriptedShare{newScriptedShare(forwarder.Healthy), newScriptedShare(forwarder.Healthy)}
		asked := 0
		h := newSharingHost(func() (SharedPort, error) {
			share := shares[asked]
			asked++
			time.Sleep(time.Second)
			return share, nil
		})
		s := newTestService(t, h.Host, testServiceConfig("db"), checkSucceeds, &scriptedDriver{open: openSucceeds})
		defer s.end()
		go s.Start(StartOptions{}) // which returns when the port is bound
		time.Sleep(500 * time.Millisecond)
		go s.Redefine(Definition{testServiceConfig("db"), s.driver, checkSucceeds}, false, time.Now())
		time.Sleep(3 * time.Second)
		s.requireState(t, forwarder.Shared)
		if asked != 2 || !shares[0].hasClosed() || shares[1].hasClosed() {
			t.Errorf("asked %d times; the first share is closed: %v, the second: %v", asked, shares[0].hasClosed(), shares[1].hasClosed())
		}
	})
}

func TestShared_RestartBorrowsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := newScriptedShare(forwarder.Healthy), newScriptedShare(forwarder.Healthy)
		h := newSharingHost(lend(first))
		s := startService(t, h.Host, testServiceConfig("db"), checkSucceeds, openSucceeds)
		defer s.end()
		s.requireState(t, forwarder.Shared)
		h.change(func() {
			h.borrow = func() (SharedPort, error) {
				if first.hasClosed() {
					t.Error("the former loan has ended before")
				}
				return second, nil
			}
		})
		s.Restart(time.Time{})
		if s.requireState(t, forwarder.Shared); !first.hasClosed() || second.hasClosed() {
			t.Error("want the former loan ended, and the other one not")
		}
		h.change(func() { h.borrow = func() (SharedPort, error) { return nil, ErrPortFreed }; h.isFree = false })
		s.Restart(time.Time{})
		s.requireState(t, forwarder.Failed)
	})
}

// A service that is started again while its last tunnel is closed may find its port with another project.
func TestShared_WhileTheLastTunnelIsBeingClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		share := newScriptedShare(forwarder.Healthy)
		h := newSharingHost(lend(share))
		h.isFree = true
		s := startService(t, h.Host, testServiceConfig("db"), checkSucceeds, openSucceeds)
		defer s.end()
		s.requireState(t, forwarder.Healthy)
		dependentEnded := make(chan struct{})
		s.Stop(dependentEnded)
		h.change(func() { h.isFree = false })
		s.Start(StartOptions{})
		s.requireState(t, forwarder.Shared)
		s.Restart(time.Time{})
		close(dependentEnded)
		s.requireState(t, forwarder.Shared)
		h.change(func() { h.isFree = true })
		close(share.doneCh)
		s.requireState(t, forwarder.Healthy)
	})
}

func TestService_KeptUpHasATunnelWithoutClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		svc := testServiceConfig("db")
		svc.OnDemand, svc.IdleTimeout = true, time.Minute
		s := startService(t, testHost(), svc, checkSucceeds, openSucceeds)
		defer s.end()
		s.requireState(t, forwarder.Idle)
		s.SetKeptUp(true)
		s.requireState(t, forwarder.Healthy)
		time.Sleep(time.Hour)
		s.requireState(t, forwarder.Healthy)
		s.SetKeptUp(false)
		time.Sleep(svc.IdleTimeout + time.Second)
		s.requireState(t, forwarder.Idle)
	})
}
