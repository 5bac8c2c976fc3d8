package service

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/relay"
	"github.com/localport-sh/localport/project"
)

// stubbornTunnel takes a while to close, as one whose process ignores SIGTERM.
type stubbornTunnel struct {
	*scriptedTunnel
	takes  time.Duration
	closed chan time.Time
}

func newStubbornTunnel(takes time.Duration) *stubbornTunnel {
	return &stubbornTunnel{newTunnel(), takes, make(chan time.Time, 1)}
}

func (t *stubbornTunnel) Close() error {
	time.Sleep(t.takes)
	t.end(nil)
	t.closed <- time.Now()
	return nil
}

func TestService_StopClosesThePortBeforeTheTunnelEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tunnel := newStubbornTunnel(2 * time.Second)
		s := startService(t, testHost(), plain("db"), well, func(int) (forwarder.Tunnel, error) { return tunnel, nil })
		defer s.end()
		s.requireState(t, forwarder.Healthy)
		start := time.Now()
		ended := s.Stop()
		got := s.Snapshot()
		if took := time.Since(start); took > 0 || got.State != forwarder.Stopped || !got.Ending || got.Held() || s.port.released != 1 {
			t.Errorf("after %v the service is %s, ending %v, held %v, released %d times", took, got.State, got.Ending, got.Held(), s.port.released)
		}
		<-ended
		if took := time.Since(start); took != 2*time.Second || s.Snapshot().Ending {
			t.Errorf("ended after %v, ending %v", took, s.Snapshot().Ending)
		}
	})
}

func TestService_StopLetsWhatDependsOnItEndFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := newStubbornTunnel(2*time.Second), newStubbornTunnel(2*time.Second)
		web := startService(t, testHost(), plain("web"), well, func(int) (forwarder.Tunnel, error) { return first, nil })
		defer web.end()
		db := startService(t, testHost(), plain("db"), well, func(int) (forwarder.Tunnel, error) { return second, nil })
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

func TestService_StartWhileItEndsOpensThePortAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tunnel := newStubbornTunnel(2 * time.Second)
		s := startService(t, testHost(), plain("db"), well, func(n int) (forwarder.Tunnel, error) {
			if n == 1 {
				return tunnel, nil
			}
			return newTunnel(), nil
		})
		defer s.end()
		s.requireState(t, forwarder.Healthy)
		ended := s.Stop()
		s.Start(StartOptions{})
		if got := s.Snapshot(); got.State != forwarder.Starting || !got.Held() || got.Ending {
			t.Errorf("the service is %s, held %v, ending %v", got.State, got.Held(), got.Ending)
		}
		if n := len(s.driver.times()); n != 1 {
			t.Errorf("%d tunnels before the end of the first", n)
		}
		<-ended
		s.requireState(t, forwarder.Healthy)
		if n := len(s.driver.times()); n != 2 {
			t.Errorf("%d tunnels in all", n)
		}
	})
}

func TestService_StartWhileItEndsFindsThePortTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testHost()
		port, binds := &countingPort{}, 0
		h.OpenPort = func(context.Context, project.Service, relay.Options) (Port, error) {
			if binds++; binds == 2 {
				return nil, errors.New("it is in use")
			}
			return port, nil
		}
		tunnel := newStubbornTunnel(500 * time.Millisecond)
		s := startService(t, h, plain("db"), well, func(n int) (forwarder.Tunnel, error) {
			if n == 1 {
				return tunnel, nil
			}
			return newTunnel(), nil
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

func TestService_StopEndsAnAttemptThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		driver := &scriptedDriver{open: always}
		driver.hang.Store(true)
		s := startWithDriver(t, testHost(), plain("db"), well, driver)
		defer s.end()
		s.requireState(t, forwarder.Starting)
		<-s.Stop()
		s.requireState(t, forwarder.Stopped)
		driver.hang.Store(false)
		s.Start(StartOptions{})
		s.requireState(t, forwarder.Healthy)
	})
}

func TestService_AnswersWhileATunnelEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startService(t, testHost(), plain("db"), well, func(int) (forwarder.Tunnel, error) {
			return newStubbornTunnel(10 * time.Second), nil
		})
		defer s.end()
		s.requireState(t, forwarder.Healthy)
		start := time.Now()
		s.Restart()
		s.Restart()
		s.Start(StartOptions{})
		s.NetworkChanged()
		s.Redefine(Definition{plain("db"), s.driver, well}, true)
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
func TestService_ARequestIsAsOldAsTheWish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tunnel := newStubbornTunnel(time.Minute)
		s := startService(t, testHost(), plain("db"), well, func(n int) (forwarder.Tunnel, error) {
			if n == 1 {
				return tunnel, nil
			}
			return newTunnel(), nil
		})
		defer s.end()
		s.requireState(t, forwarder.Healthy)
		asked := time.Now()
		s.Restart()
		time.Sleep(2 * time.Minute)
		s.requireState(t, forwarder.Healthy)
		if !s.driver.run.Asked.Equal(asked) {
			t.Errorf("asked %v after the request", s.driver.run.Asked.Sub(asked))
		}
	})
}

func TestService_StartTriesAgainWhatFailedUnlessTheCallerSawItFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startService(t, testHost(), plain("db"), well, func(n int) (forwarder.Tunnel, error) {
			if n == 1 {
				return nil, &forwarder.Failure{Class: forwarder.Permanent, Reason: "no such host"}
			}
			return newTunnel(), nil
		})
		defer s.end()
		s.requireState(t, forwarder.Failed)
		s.Start(StartOptions{Spawned: true})
		s.requireState(t, forwarder.Failed)
		s.Start(StartOptions{})
		s.requireState(t, forwarder.Healthy)
	})
}

func TestService_StartTriesAPortThatWasTakenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testHost()
		port, taken := &countingPort{}, true
		h.OpenPort = func(context.Context, project.Service, relay.Options) (Port, error) {
			if taken {
				return nil, errors.New("it is in use")
			}
			return port, nil
		}
		s := startService(t, h, plain("db"), well, always)
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

func TestService_SignalsOfAnEarlierTunnelDoNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := newTunnel()
		s := startService(t, testHost(), plain("db"), well, func(n int) (forwarder.Tunnel, error) {
			if n == 1 {
				return first, nil
			}
			return newTunnel(), nil
		})
		defer s.end()
		s.requireState(t, forwarder.Healthy)
		s.Restart()
		s.requireState(t, forwarder.Healthy)
		s.port.options.OnRefusal(first, forwarder.Refusal{Reason: "connection refused", Connect: true})
		s.port.options.OnPanic(first, &forwarder.Failure{Class: forwarder.Permanent, Reason: "an error of ours"}, nil)
		s.requireState(t, forwarder.Healthy)
		if n := len(s.driver.times()); n != 2 {
			t.Errorf("%d tunnels", n)
		}
	})
}

func TestService_TheEndOfItsContextReleasesWhoWaitsForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		web := startService(t, testHost(), plain("web"), well, func(int) (forwarder.Tunnel, error) {
			return newStubbornTunnel(2 * time.Second), nil
		})
		db := startService(t, testHost(), plain("db"), well, always)
		db.requireState(t, forwarder.Healthy)
		ended := db.Stop(web.Stop())
		web.cancel()
		db.cancel()
		<-ended
		<-web.done
		<-db.done
	})
}

func TestService_TheEndWaitsForEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tunnel := newStubbornTunnel(3 * time.Second)
		s := startService(t, testHost(), plain("db"), well, func(int) (forwarder.Tunnel, error) { return tunnel, nil })
		s.requireState(t, forwarder.Healthy)
		start := time.Now()
		s.end()
		if took := time.Since(start); took != 3*time.Second || s.port.released != 1 {
			t.Errorf("ended after %v, the port was released %d times", took, s.port.released)
		}
	})
}

// slowPort takes a while to be released, as one of which a frozen process has a copy.
type slowPort struct {
	countingPort
	takes time.Duration
}

func (p *slowPort) Release() {
	time.Sleep(p.takes)
	p.countingPort.Release()
}

func TestService_IsNotHeldUpByThePortThatItReleases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testHost()
		var ports []*slowPort
		h.OpenPort = func(context.Context, project.Service, relay.Options) (Port, error) {
			if n := len(ports); n > 0 && ports[n-1].released == 0 {
				return nil, errors.New("it is in use")
			}
			ports = append(ports, &slowPort{takes: 2 * time.Second})
			return ports[len(ports)-1], nil
		}
		s := startService(t, h, plain("db"), well, always)
		defer s.end()
		s.requireState(t, forwarder.Healthy)
		start := time.Now()
		stopped := make(chan time.Duration, 1)
		go func() {
			s.Stop()
			stopped <- time.Since(start)
		}()
		s.requireState(t, forwarder.Stopped)
		described := plain("db")
		described.Description = "described"
		s.Redefine(Definition{described, s.driver, well}, true)
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
func TestService_StopReleasesAPortThatIsJustBeingBound(t *testing.T) {
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
		s := makeService(t, h, plain("db"), well, &scriptedDriver{open: always})
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
