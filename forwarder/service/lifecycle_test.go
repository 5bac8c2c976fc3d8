package service

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/eventlog"
	"github.com/localport-sh/localport/forwarder/relay"
	"github.com/localport-sh/localport/project"
)

// slowClosingTunnel takes a while to close, as one whose process ignores SIGTERM.
type slowClosingTunnel struct {
	*scriptedTunnel
	closeTime time.Duration
	closed    chan time.Time
}

func newSlowClosingTunnel(takes time.Duration) *slowClosingTunnel {
	return &slowClosingTunnel{newScriptedTunnel(), takes, make(chan time.Time, 1)}
}

func (t *slowClosingTunnel) Close() error {
	time.Sleep(t.closeTime)
	t.end(nil)
	t.closed <- time.Now()
	return nil
}

func TestService_StopClosesThePortBeforeTheTunnelEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tunnel := newSlowClosingTunnel(2 * time.Second)
		s := startService(t, testHost(), testServiceConfig("db"), checkSucceeds, func(int) (forwarder.Tunnel, error) { return tunnel, nil })
		defer s.end()
		s.requireState(t, forwarder.Healthy)
		start := time.Now()
		ended := s.Stop()
		got := s.Snapshot()
		if took := time.Since(start); took > 0 || got.State != forwarder.Stopped || !got.IsEnding || got.IsPortHeld() || s.port.released != 1 {
			t.Errorf("after %v the service is %s, ending %v, held %v, released %d times", took, got.State, got.IsEnding, got.IsPortHeld(), s.port.released)
		}
		<-ended
		if took := time.Since(start); took != 2*time.Second || s.Snapshot().IsEnding {
			t.Errorf("ended after %v, ending %v", took, s.Snapshot().IsEnding)
		}
	})
}

func TestService_StopEndsDependentsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := newSlowClosingTunnel(2*time.Second), newSlowClosingTunnel(2*time.Second)
		web := startService(t, testHost(), testServiceConfig("web"), checkSucceeds, func(int) (forwarder.Tunnel, error) { return first, nil })
		defer web.end()
		db := startService(t, testHost(), testServiceConfig("db"), checkSucceeds, func(int) (forwarder.Tunnel, error) { return second, nil })
		defer db.end()
		db.requireState(t, forwarder.Healthy)
		start := time.Now()
		ended := db.Stop(web.Stop())
		if db.state() != forwarder.Stopped || time.Since(start) > 0 {
			t.Errorf("db is %s after %v", db.state(), time.Since(start))
		}
		<-ended
		if a, b := (<-first.closed).Sub(start), (<-second.closed).Sub(start); a != 2*time.Second || b != 4*time.Second {
			t.Errorf("web ended after %v, db after %v", a, b)
		}
	})
}

func TestService_StartWhileStoppingOpensThePortAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tunnel := newSlowClosingTunnel(2 * time.Second)
		s := startService(t, testHost(), testServiceConfig("db"), checkSucceeds, func(n int) (forwarder.Tunnel, error) {
			if n == 1 {
				return tunnel, nil
			}
			return newScriptedTunnel(), nil
		})
		defer s.end()
		s.requireState(t, forwarder.Healthy)
		ended := s.Stop()
		s.Start(StartOptions{})
		if got := s.Snapshot(); got.State != forwarder.Starting || !got.IsPortHeld() || got.IsEnding {
			t.Errorf("the service is %s, held %v, ending %v", got.State, got.IsPortHeld(), got.IsEnding)
		}
		if n := len(s.driver.openTimes()); n != 1 {
			t.Errorf("%d tunnels before the end of the first", n)
		}
		<-ended
		s.requireState(t, forwarder.Healthy)
		if n := len(s.driver.openTimes()); n != 2 {
			t.Errorf("%d tunnels in all", n)
		}
	})
}

func TestService_StartWhileStoppingRetriesPortInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testHost()
		port, binds := &countingPort{}, 0
		h.OpenPort = func(context.Context, project.Service, relay.Options) (Port, error) {
			if binds++; binds == 2 {
				return nil, errors.New("it is in use")
			}
			return port, nil
		}
		tunnel := newSlowClosingTunnel(500 * time.Millisecond)
		s := startService(t, h, testServiceConfig("db"), checkSucceeds, func(n int) (forwarder.Tunnel, error) {
			if n == 1 {
				return tunnel, nil
			}
			return newScriptedTunnel(), nil
		})
		defer s.end()
		s.requireState(t, forwarder.Healthy)
		s.Stop()
		s.Start(StartOptions{})
		if got := s.Snapshot(); got.State != forwarder.Failed || got.LastError != "it is in use" {
			t.Errorf("the service is %s: %s", got.State, got.LastError)
		}
		time.Sleep(2 * time.Second)
		s.requireState(t, forwarder.Healthy)
	})
}

func TestService_StopEndsHangingAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		driver := &scriptedDriver{open: openSucceeds}
		driver.hang.Store(true)
		s := startWithDriver(t, testHost(), testServiceConfig("db"), checkSucceeds, driver)
		defer s.end()
		s.requireState(t, forwarder.Starting)
		<-s.Stop()
		s.requireState(t, forwarder.Stopped)
		driver.hang.Store(false)
		s.Start(StartOptions{})
		s.requireState(t, forwarder.Healthy)
	})
}

func TestService_AnswersRequestsWhileTunnelIsClosing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startService(t, testHost(), testServiceConfig("db"), checkSucceeds, func(int) (forwarder.Tunnel, error) {
			return newSlowClosingTunnel(10 * time.Second), nil
		})
		defer s.end()
		s.requireState(t, forwarder.Healthy)
		start := time.Now()
		s.Restart(time.Time{})
		s.Restart(time.Time{})
		s.Start(StartOptions{})
		s.OnNetworkChange()
		s.Redefine(Definition{testServiceConfig("db"), s.driver, checkSucceeds}, true, time.Time{})
		if took := time.Since(start); took > 0 || s.state() != forwarder.Restarting {
			t.Errorf("after %v the service is %s", took, s.state())
		}
		s.Stop()
		if took := time.Since(start); took > 0 || s.state() != forwarder.Stopped {
			t.Errorf("after %v the service is %s", took, s.state())
		}
	})
}

// What another service has found out between a request and its attempt need not be tried again: see forwarder.Run.
func TestService_AttemptHasTheTimeOfItsRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tunnel := newSlowClosingTunnel(time.Minute)
		s := startService(t, testHost(), testServiceConfig("db"), checkSucceeds, func(n int) (forwarder.Tunnel, error) {
			if n == 1 {
				return tunnel, nil
			}
			return newScriptedTunnel(), nil
		})
		defer s.end()
		s.requireState(t, forwarder.Healthy)
		asked := time.Now()
		s.Restart(time.Time{})
		time.Sleep(2 * time.Minute)
		s.requireState(t, forwarder.Healthy)
		if !s.driver.run.RequestedAt.Equal(asked) {
			t.Errorf("asked %v after the request", s.driver.run.RequestedAt.Sub(asked))
		}
		// The time of a command that applies to several services is that of the command.
		for name, request := range map[string]func(){
			"restart":  func() { s.Restart(asked) },
			"start":    func() { <-s.Stop(); s.Start(StartOptions{RequestedAt: asked}) },
			"redefine": func() { s.Redefine(Definition{testServiceConfig("db"), s.driver, checkSucceeds}, false, asked) },
			"login":    func() { s.LogIn("/ask", asked) },
		} {
			s.Restart(time.Time{})
			synctest.Wait()
			request()
			s.requireState(t, forwarder.Healthy)
			if !s.driver.run.RequestedAt.Equal(asked) {
				t.Errorf("%s: asked %v after the command", name, s.driver.run.RequestedAt.Sub(asked))
			}
		}
	})
}

func TestService_StartRetriesFailedServiceUnlessJustSpawned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startService(t, testHost(), testServiceConfig("db"), checkSucceeds, func(n int) (forwarder.Tunnel, error) {
			if n == 1 {
				return nil, &forwarder.Failure{Class: forwarder.Permanent, Reason: "no such host"}
			}
			return newScriptedTunnel(), nil
		})
		defer s.end()
		s.requireState(t, forwarder.Failed)
		s.Start(StartOptions{Spawned: true})
		s.requireState(t, forwarder.Failed)
		s.Start(StartOptions{})
		s.requireState(t, forwarder.Healthy)
	})
}

func TestService_StartRetriesPortInUseAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testHost()
		port, taken := &countingPort{}, true
		h.OpenPort = func(context.Context, project.Service, relay.Options) (Port, error) {
			if taken {
				return nil, errors.New("it is in use")
			}
			return port, nil
		}
		s := startService(t, h, testServiceConfig("db"), checkSucceeds, openSucceeds)
		defer s.end()
		s.requireState(t, forwarder.Failed)
		taken = false
		start := time.Now()
		s.Start(StartOptions{})
		s.requireState(t, forwarder.Healthy)
		if took := time.Since(start); took > 0 {
			t.Errorf("the port was tried again after %v", took)
		}
	})
}

func TestService_IgnoresReportsOfEarlierTunnel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := newScriptedTunnel()
		s := startService(t, testHost(), testServiceConfig("db"), checkSucceeds, func(n int) (forwarder.Tunnel, error) {
			if n == 1 {
				return first, nil
			}
			return newScriptedTunnel(), nil
		})
		defer s.end()
		s.requireState(t, forwarder.Healthy)
		s.Restart(time.Time{})
		s.requireState(t, forwarder.Healthy)
		s.port.options.OnRefusal(first, forwarder.Refusal{Reason: "connection refused", IsConnectFailure: true})
		s.port.options.OnPanic(first, &forwarder.Failure{Class: forwarder.Permanent, Reason: "an error of ours"}, nil)
		s.requireState(t, forwarder.Healthy)
		if n := len(s.driver.openTimes()); n != 2 {
			t.Errorf("%d tunnels", n)
		}
	})
}

func TestService_EndOfRunReleasesCallersOfStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		web := startService(t, testHost(), testServiceConfig("web"), checkSucceeds, func(int) (forwarder.Tunnel, error) {
			return newSlowClosingTunnel(2 * time.Second), nil
		})
		db := startService(t, testHost(), testServiceConfig("db"), checkSucceeds, openSucceeds)
		db.requireState(t, forwarder.Healthy)
		ended := db.Stop(web.Stop())
		web.cancel()
		db.cancel()
		<-ended
		<-web.doneCh
		<-db.doneCh
	})
}

func TestService_RunWaitsForTunnelToClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tunnel := newSlowClosingTunnel(3 * time.Second)
		s := startService(t, testHost(), testServiceConfig("db"), checkSucceeds, func(int) (forwarder.Tunnel, error) { return tunnel, nil })
		s.requireState(t, forwarder.Healthy)
		start := time.Now()
		s.end()
		if took := time.Since(start); took != 3*time.Second || s.port.released != 1 {
			t.Errorf("ended after %v, the port was released %d times", took, s.port.released)
		}
	})
}

// slowReleasePort takes a while to be released, as one of which a frozen process has a copy.
type slowReleasePort struct {
	countingPort
	releaseTime time.Duration
}

func (p *slowReleasePort) Release() {
	time.Sleep(p.releaseTime)
	p.countingPort.Release()
}

func TestService_AnswersRequestsWhilePortIsReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testHost()
		var ports []*slowReleasePort
		h.OpenPort = func(context.Context, project.Service, relay.Options) (Port, error) {
			if n := len(ports); n > 0 && ports[n-1].released == 0 {
				return nil, errors.New("it is in use")
			}
			ports = append(ports, &slowReleasePort{releaseTime: 2 * time.Second})
			return ports[len(ports)-1], nil
		}
		s := startService(t, h, testServiceConfig("db"), checkSucceeds, openSucceeds)
		defer s.end()
		s.requireState(t, forwarder.Healthy)
		start := time.Now()
		stopped := make(chan time.Duration, 1)
		go func() {
			s.Stop()
			stopped <- time.Since(start)
		}()
		s.requireState(t, forwarder.Stopped)
		described := testServiceConfig("db")
		described.Description = "described"
		s.Redefine(Definition{described, s.driver, checkSucceeds}, true, time.Time{})
		if took := time.Since(start); took > 0 || s.Snapshot().Service.Description != "described" {
			t.Errorf("another request was answered after %v", took)
		}
		// The next bind waits as well.
		s.Start(StartOptions{})
		if took := time.Since(start); took != 2*time.Second || s.Snapshot().LastError != "" {
			t.Errorf("started after %v: %s", took, s.Snapshot().LastError)
		}
		if took := <-stopped; took != 2*time.Second {
			t.Errorf("the stop returned after %v, the port was free after 2s", took)
		}
		s.requireState(t, forwarder.Healthy)
	})
}

// A port that comes when the service has just been stopped is free when the stop returns, whatever else is waited for.
func TestService_StopReleasesPortBeingBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testHost()
		port := &countingPort{}
		h.OpenPort = func(ctx context.Context, _ project.Service, _ relay.Options) (Port, error) {
			select {
			case <-ctx.Done(): // asks other projects for it
			case <-time.After(time.Hour):
			}
			return port, nil
		}
		s := newTestService(t, h, testServiceConfig("db"), checkSucceeds, &scriptedDriver{open: openSucceeds})
		defer s.end()
		started := make(chan struct{})
		go func() {
			defer close(started)
			s.Start(StartOptions{})
		}()
		synctest.Wait()
		start, dependent := time.Now(), make(chan struct{})
		ended := s.Stop(dependent)
		if took := time.Since(start); took > 0 || port.released != 1 {
			t.Errorf("after %v the port was released %d times", took, port.released)
		}
		<-started
		close(dependent)
		<-ended
	})
}

// A failure that only a person can end is tried again when what it rests on has changed; stopping the service ends the wait.
func TestService_RetriesWhenTheCauseHasChanged(t *testing.T) {
	for class, want := range map[forwarder.Class]forwarder.State{
		forwarder.NeedsUser: forwarder.NeedsAttention, forwarder.Permanent: forwarder.Failed,
	} {
		synctest.Test(t, func(t *testing.T) {
			changedCh, waits := make(chan struct{}), make(chan error, 2)
			failure := &forwarder.Failure{Class: class, Reason: "the file is missing", AwaitChange: func(ctx context.Context) bool {
				select {
				case <-changedCh:
					waits <- nil
					return true
				case <-ctx.Done():
					waits <- ctx.Err()
					return false
				}
			}}
			s := startService(t, testHost(), testServiceConfig("web"), nil, func(n int) (forwarder.Tunnel, error) {
				if n == 2 {
					return newTunnelEndingAfter(time.Hour), nil
				}
				return nil, failure
			})
			defer s.end()
			time.Sleep(time.Minute)
			s.requireState(t, want)
			if opened := len(s.driver.openTimes()); opened != 1 {
				t.Fatalf("%d attempts without a change", opened)
			}
			changedCh <- struct{}{}
			s.requireState(t, forwarder.Healthy)
			time.Sleep(2 * time.Hour) // the tunnel ends, and the third attempt fails
			s.requireState(t, want)
			<-s.Stop()
			if first, second := <-waits, <-waits; first != nil || second == nil {
				t.Errorf("the waits ended with %v and %v", first, second)
			}
		})
	}
}

// A change of what a passing failure rests on brings the next attempt forward; nothing else does.
func TestService_ChangeOfTheCauseEndsABackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var isChanged atomic.Bool
		changedCh := make(chan struct{})
		failure := &forwarder.Failure{Class: forwarder.NeedsUser, MayPass: true, Reason: "Unauthorized", AwaitChange: func(ctx context.Context) bool {
			select {
			case <-changedCh:
				return true
			case <-ctx.Done():
				return false
			}
		}}
		s := startService(t, testHost(), testServiceConfig("web"), nil, func(int) (forwarder.Tunnel, error) {
			if isChanged.Load() {
				return newTunnelEndingAfter(time.Hour), nil
			}
			return nil, failure
		})
		defer s.end()
		var attempts []time.Time
		for len(attempts) < 4 { // so that the backoff is longer than minAttemptInterval
			time.Sleep(time.Millisecond)
			attempts = s.driver.openTimes()
		}
		s.requireState(t, forwarder.Restarting)
		time.Sleep(minAttemptInterval + time.Millisecond)
		if opened := len(s.driver.openTimes()); opened != len(attempts) {
			t.Fatalf("%d attempts without a change, %d before", opened, len(attempts))
		}
		isChanged.Store(true)
		changedCh <- struct{}{}
		synctest.Wait()
		s.requireState(t, forwarder.Healthy)
	})
}

// A cause that changes all the time, or a driver that remembers its failure, must not make the service try in a loop.
func TestService_TriesAtMostOnceASecondWhenTheCauseChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startService(t, testHost(), testServiceConfig("web"), nil, func(int) (forwarder.Tunnel, error) {
			return nil, &forwarder.Failure{Class: forwarder.NeedsUser, Reason: "not installed", AwaitChange: func(context.Context) bool { return true }}
		})
		defer s.end()
		time.Sleep(10 * time.Second)
		if got := len(s.driver.openTimes()); got > 12 {
			t.Errorf("%d attempts in ten seconds", got)
		}
	})
}

// A change of the network may have been what a login was waiting for.
func TestService_NetworkChangeRechecksALogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var isOver atomic.Bool
		s := startService(t, testHost(), testServiceConfig("web"), nil, func(int) (forwarder.Tunnel, error) {
			if isOver.Load() {
				return newTunnelEndingAfter(24 * time.Hour), nil
			}
			return nil, &forwarder.Failure{Class: forwarder.NeedsUser, Reason: "denied", RecheckAfter: time.Hour}
		})
		defer s.end()
		time.Sleep(2 * time.Second)
		s.requireState(t, forwarder.NeedsAttention)
		isOver.Store(true)
		s.OnNetworkChange()
		time.Sleep(time.Second)
		s.requireState(t, forwarder.Healthy)
	})
}

// A shell may bring another ssh agent at the moment at which an attempt is about to fail with the former one.
func TestService_RetriesALoginWhoseEnvironmentWasReplacedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mayEndCh := make(chan struct{})
		s := startService(t, testHost(), testServiceConfig("web"), nil, func(n int) (forwarder.Tunnel, error) {
			if n > 1 {
				return newTunnelEndingAfter(24 * time.Hour), nil
			}
			<-mayEndCh
			return nil, &forwarder.Failure{Class: forwarder.NeedsUser, Reason: "Permission denied (publickey)."}
		})
		defer s.end()
		synctest.Wait()
		s.RetryLogin(time.Now())
		s.requireState(t, forwarder.Starting)
		close(mayEndCh)
		time.Sleep(time.Second)
		s.requireState(t, forwarder.Healthy)
	})
}

// A login program may run for minutes in the former environment, while attempts that wait for it end and begin.
func TestService_RetriesALoginWhoseEnvironmentWasReplacedBeforeItFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startService(t, testHost(), testServiceConfig("web"), nil, func(n int) (forwarder.Tunnel, error) {
			if n < 4 {
				return nil, &forwarder.Failure{Reason: "the login helper may be waiting for you"}
			}
			if n == 4 {
				return nil, &forwarder.Failure{Class: forwarder.NeedsUser, Reason: "the login helper failed"}
			}
			return newTunnelEndingAfter(24 * time.Hour), nil
		})
		defer s.end()
		s.requireState(t, forwarder.Restarting)
		s.RetryLogin(time.Now())
		time.Sleep(time.Minute)
		s.requireState(t, forwarder.Healthy)
		if got := len(s.driver.openTimes()); got != 5 {
			t.Errorf("%d attempts, want 5", got)
		}
	})
}

// While a tunnel is open, a login program may renew a credential in the former environment.
func TestService_RetriesALoginWhoseEnvironmentWasReplacedWhileConnected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startService(t, testHost(), testServiceConfig("web"), nil, func(n int) (forwarder.Tunnel, error) {
			switch n {
			case 1:
				return newTunnelEndingAfter(time.Minute), nil
			case 2:
				return nil, &forwarder.Failure{Class: forwarder.NeedsUser, Reason: "the login helper failed"}
			}
			return newTunnelEndingAfter(24 * time.Hour), nil
		})
		defer s.end()
		s.requireState(t, forwarder.Healthy)
		s.RetryLogin(time.Now())
		time.Sleep(2 * time.Minute)
		s.requireState(t, forwarder.Healthy)
		if got := len(s.driver.openTimes()); got != 3 {
			t.Errorf("%d attempts, want 3", got)
		}
	})
}

func TestService_RetriesALoginOnceWhenTheEnvironmentIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startService(t, testHost(), testServiceConfig("web"), nil, func(int) (forwarder.Tunnel, error) {
			return nil, &forwarder.Failure{Class: forwarder.NeedsUser, Reason: "Permission denied (publickey)."}
		})
		defer s.end()
		s.requireState(t, forwarder.NeedsAttention)
		s.RetryLogin(time.Now())
		time.Sleep(time.Minute)
		s.requireState(t, forwarder.NeedsAttention)
		if got := len(s.driver.openTimes()); got != 2 {
			t.Errorf("%d attempts, want 2", got)
		}
	})
}

// What a cluster lacks may be deployed at any time.
func TestService_RechecksAPermanentFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var isOver atomic.Bool
		s := startService(t, testHost(), testServiceConfig("web"), nil, func(int) (forwarder.Tunnel, error) {
			if isOver.Load() {
				return newTunnelEndingAfter(24 * time.Hour), nil
			}
			return nil, &forwarder.Failure{Class: forwarder.Permanent, Reason: "not found", RecheckAfter: time.Minute}
		})
		defer s.end()
		s.requireState(t, forwarder.Failed)
		time.Sleep(150 * time.Second)
		s.requireState(t, forwarder.Failed)
		if got := len(s.driver.openTimes()); got != 3 {
			t.Errorf("%d attempts, want 3", got)
		}
		if got := s.Snapshot().Restarts; got != 0 {
			t.Errorf("%d restarts are shown", got)
		}
		isOver.Store(true)
		time.Sleep(time.Minute)
		s.requireState(t, forwarder.Healthy)
	})
}

// A failure that may pass is retried with backoff for a minute; then the service needs attention, and an attempt is made every five minutes.
func TestService_RetriesAFailureThatMayPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var isOver atomic.Bool
		s := startService(t, testHost(), testServiceConfig("web"), nil, func(int) (forwarder.Tunnel, error) {
			if isOver.Load() {
				return newTunnelEndingAfter(24 * time.Hour), nil
			}
			return nil, &forwarder.Failure{Class: forwarder.NeedsUser, Reason: "Unauthorized", MayPass: true}
		})
		defer s.end()
		s.requireState(t, forwarder.Restarting)
		time.Sleep(50 * time.Second)
		s.requireState(t, forwarder.Restarting)
		if got := s.lastError(); got != "Unauthorized" {
			t.Errorf("meanwhile it says %q", got)
		}
		time.Sleep(30 * time.Second)
		s.requireState(t, forwarder.NeedsAttention)
		attempts := len(s.driver.openTimes())
		time.Sleep(passRetryInterval + time.Minute)
		s.requireState(t, forwarder.NeedsAttention)
		if more := len(s.driver.openTimes()) - attempts; more != 1 {
			t.Errorf("%d attempts in the next five minutes, want 1", more)
		}
		isOver.Store(true)
		time.Sleep(passRetryInterval)
		s.requireState(t, forwarder.Healthy)
	})
}

// A request begins a new series of attempts: its failures may pass for another minute.
func TestService_RequestGivesAFailureThatMayPassAnotherMinute(t *testing.T) {
	for name, request := range map[string]func(*testService){
		"restart": func(s *testService) { s.Restart(time.Now()) },
		"a config change": func(s *testService) {
			s.Redefine(Definition{testServiceConfig("web"), s.driver, nil}, false, time.Now())
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := startService(t, testHost(), testServiceConfig("web"), nil, func(int) (forwarder.Tunnel, error) {
					return nil, &forwarder.Failure{Class: forwarder.NeedsUser, Reason: "Unauthorized", MayPass: true}
				})
				defer s.end()
				time.Sleep(2 * time.Minute)
				s.requireState(t, forwarder.NeedsAttention)
				request(s)
				time.Sleep(50 * time.Second)
				s.requireState(t, forwarder.Restarting)
				time.Sleep(30 * time.Second)
				s.requireState(t, forwarder.NeedsAttention)
			})
		})
	}
}

// The user restarts a service that has failed and recovered: that is no failure, however often it had failed.
func TestService_RestartAfterARecoveryIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var kinds []eventlog.Kind
		h := testHost()
		h.PublishEvent = func(e eventlog.Event, _ forwarder.State) {
			mu.Lock()
			defer mu.Unlock()
			if e.Kind != eventlog.StateChanged {
				kinds = append(kinds, e.Kind)
			}
		}
		s := startService(t, h, testServiceConfig("db"), checkSucceeds, func(n int) (forwarder.Tunnel, error) {
			if n <= 5 {
				return openFails(n)
			}
			return newScriptedTunnel(), nil
		})
		defer s.end()
		time.Sleep(time.Minute)
		s.requireState(t, forwarder.Healthy)
		s.Restart(time.Now())
		time.Sleep(time.Minute)
		s.requireState(t, forwarder.Healthy)
		mu.Lock()
		defer mu.Unlock()
		if want := []eventlog.Kind{eventlog.ServiceFailed, eventlog.ServiceRecovered}; !slices.Equal(kinds, want) {
			t.Errorf("the events are %v, want %v", kinds, want)
		}
	})
}

func TestService_NetworkChangeLeavesAStoppedServiceStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startService(t, testHost(), testServiceConfig("db"), checkSucceeds, openSucceeds)
		defer s.end()
		s.requireState(t, forwarder.Healthy)
		<-s.Stop()
		s.OnNetworkChange()
		s.requireState(t, forwarder.Stopped)
		s.Start(StartOptions{})
		s.requireState(t, forwarder.Healthy)
	})
}
