package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/eventlog"
	"github.com/localport-sh/localport/forwarder/relay"
	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/probe"
	"github.com/localport-sh/localport/project"
)

// A service's lifecycle is about time: here it runs on a clock of its own, without sockets and processes.

// scriptedDriver opens tunnels as the test says.
type scriptedDriver struct {
	mu        sync.Mutex
	opened    []time.Time
	run       forwarder.Run                         // of the last opening
	open      func(n int) (forwarder.Tunnel, error) // the n-th opening, from 1
	hang      atomic.Bool                           // no opening comes to an end
	openError *forwarder.Failure                    // what one that hangs says when it is given up; nil: nothing
}

func (s *scriptedDriver) Target(project.Service) string { return "scripted" }
func (s *scriptedDriver) Close() error                  { return nil }

func (s *scriptedDriver) Open(ctx context.Context, _ project.Service, run forwarder.Run) (forwarder.Tunnel, error) {
	s.mu.Lock()
	s.opened, s.run = append(s.opened, time.Now()), run
	n := len(s.opened)
	s.mu.Unlock()
	if s.hang.Load() {
		<-ctx.Done()
		if s.openError != nil {
			return nil, s.openError
		}
		return nil, ctx.Err()
	}
	return s.open(n)
}

func (s *scriptedDriver) openTimes() []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.opened)
}

type scriptedTunnel struct {
	done chan struct{}
	once sync.Once
	err  error
}

// failingTunnel is a tunnel that says what stands in its way.
type failingTunnel struct {
	*scriptedTunnel
	mu      sync.Mutex
	failure *forwarder.Failure
	changed chan struct{}
}

func (t *failingTunnel) FailureChanged() <-chan struct{} { return t.changed }

func (t *failingTunnel) CurrentFailure() *forwarder.Failure {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.failure
}

func (t *failingTunnel) setFailure(failure *forwarder.Failure) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failure = failure
	wait.Notify(t.changed)
}

func newScriptedTunnel() *scriptedTunnel { return &scriptedTunnel{done: make(chan struct{})} }

// newTunnelEndingAfter is a tunnel that ends by itself after d.
func newTunnelEndingAfter(d time.Duration) *scriptedTunnel {
	t := newScriptedTunnel()
	time.AfterFunc(d, func() { t.end(&forwarder.Failure{Reason: "it ended"}) })
	return t
}

func (t *scriptedTunnel) end(err error) { t.once.Do(func() { t.err = err; close(t.done) }) }
func (t *scriptedTunnel) Dial(context.Context) (net.Conn, error) {
	return nil, errors.New("no network here")
}
func (t *scriptedTunnel) Refusals() <-chan forwarder.Refusal { return nil }
func (t *scriptedTunnel) Acknowledges() bool                 { return false }
func (t *scriptedTunnel) Done() <-chan struct{}              { return t.done }
func (t *scriptedTunnel) Err() error                         { return t.err }
func (t *scriptedTunnel) Close() error                       { t.end(nil); return nil }

// countingPort is a port without sockets: it counts what the service asks of it.
type countingPort struct {
	mu       sync.Mutex
	options  relay.Options
	stats    relay.Stats
	dropped  int
	rejects  bool
	released int
}

func (c *countingPort) Attach(forwarder.Tunnel) {}
func (c *countingPort) Detach(forwarder.Tunnel) {}
func (c *countingPort) Hold()                   { c.set(func() { c.rejects = false }) }
func (c *countingPort) Reject()                 { c.set(func() { c.rejects = true; c.stats.Waiting = 0 }) }

func (c *countingPort) DropWaiting() { c.set(func() { c.dropped++; c.stats.Waiting = 0 }) }

func (c *countingPort) Dial(context.Context) (net.Conn, error) {
	return nil, errors.New("no network here")
}
func (c *countingPort) SetConnectTimeout(time.Duration) {}
func (c *countingPort) SetMaxConnections(int)           {}
func (c *countingPort) StopAccepting()                  {}
func (c *countingPort) Release()                        { c.set(func() { c.released++ }) }
func (c *countingPort) Close() error                    { return nil }
func (c *countingPort) set(change func())               { c.mu.Lock(); defer c.mu.Unlock(); change() }

func (c *countingPort) Stats() (s relay.Stats) { c.set(func() { s = c.stats }); return s }

// testService is a service that runs on the test's clock.
type testService struct {
	*Service
	driver *scriptedDriver
	port   *countingPort
	cancel context.CancelFunc
}

// testServiceConfig is a service with a policy whose delays are easily told apart.
func testServiceConfig(name string) project.Service {
	return project.Service{
		Name: name, LocalPort: 1, Technology: "tcp",
		HealthCheck: project.HealthCheck{
			Type: project.CheckTCP, Interval: 30 * time.Second, Timeout: 5 * time.Second, FailureThreshold: 3, SuccessThreshold: 1,
		},
		RestartPolicy: project.RestartPolicy{
			Enabled: true, InitialDelay: time.Second, BackoffMultiplier: 2, MaxDelay: 15 * time.Second,
		},
	}
}

// checkLimit is how many checks a test's host lets run at once.
const checkLimit = 8

func testHost() Host {
	return Host{
		Log: slog.New(slog.DiscardHandler), Mask: strings.Clone,
		Dependencies: NewDependencies(), CheckSlots: make(chan struct{}, checkLimit),
		PublishEvent: func(eventlog.Event, forwarder.State) {},
		OnChange:     func() {}, OnStateChange: func() {}, OnLastClient: func() {}, OnPortOpened: func() {},
		NewRun: func(context.Context, *eventlog.File) (forwarder.Run, func(), error) {
			return forwarder.Run{Log: io.Discard}, func() {}, nil
		},
		ExplainPort: func(err error, _ project.Service) (string, string) { return err.Error(), "" },
	}
}

// startService starts a service; it ends with end.
func startService(t *testing.T, h Host, svc project.Service, check probe.Check, open func(n int) (forwarder.Tunnel, error)) *testService {
	t.Helper()
	return startWithDriver(t, h, svc, check, &scriptedDriver{open: open})
}

func startWithDriver(t *testing.T, h Host, svc project.Service, check probe.Check, driver *scriptedDriver) *testService {
	t.Helper()
	s := newTestService(t, h, svc, check, driver)
	s.Start(StartOptions{})
	return s
}

// newTestService makes a service that is not started yet.
func newTestService(t *testing.T, h Host, svc project.Service, check probe.Check, driver *scriptedDriver) *testService {
	t.Helper()
	s := &testService{driver: driver, port: &countingPort{}}
	if h.OpenPort == nil {
		h.OpenPort = func(_ context.Context, _ project.Service, o relay.Options) (Port, error) {
			s.port.set(func() { s.port.options = o })
			return s.port, nil
		}
	}
	s.Service = New(h, Definition{svc, driver, check}, eventlog.NewFile("/nonexistent/log", nil, eventlog.Limits{}))
	var ctx context.Context
	ctx, s.cancel = context.WithCancel(t.Context())
	go s.Run(ctx)
	return s
}

func (s *testService) end() {
	s.cancel()
	<-s.doneCh
}

// addClient is one that connects and waits.
func (s *testService) addClient() {
	s.port.set(func() { s.port.stats.Waiting++ })
	wait.Notify(s.waitingCh)
}

func (s *testService) state() forwarder.State { return s.Snapshot().State }

// requireState fails the test unless the service is in a state.
func (s *testService) requireState(t *testing.T, want forwarder.State) {
	t.Helper()
	synctest.Wait()
	if got := s.state(); got != want {
		t.Fatalf("%v after the start of the clock: %s is %s (%s), want %s", time.Now().Format("15:04:05.000"), s.name, got, s.lastError(), want)
	}
}

func (s *testService) lastError() string { return s.Snapshot().LastError }

func checkSucceeds(context.Context, probe.Dialer) error { return nil }

func openFails(int) (forwarder.Tunnel, error) { return nil, &forwarder.Failure{Reason: "no route"} }

func openSucceeds(int) (forwarder.Tunnel, error) { return newScriptedTunnel(), nil }

// intervals are the times between openings.
func intervals(times []time.Time) []time.Duration {
	var gaps []time.Duration
	for i := 1; i < len(times); i++ {
		gaps = append(gaps, times[i].Sub(times[i-1]))
	}
	return gaps
}

// isDelay reports whether a delay is the wanted one, less at most a quarter of jitter.
func isDelay(got, want time.Duration) bool { return got <= want && got >= want*3/4 }

func TestService_RetriesWithBackoffUpToItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startService(t, testHost(), testServiceConfig("db"), checkSucceeds, openFails)
		defer c.end()
		time.Sleep(80 * time.Second)
		c.requireState(t, forwarder.Restarting)
		got := intervals(c.driver.openTimes())
		for i, want := range []time.Duration{1, 2, 4, 8, 15, 15} {
			if want *= time.Second; i >= len(got) || !isDelay(got[i], want) {
				t.Fatalf("delays %v, the %dth should be %v", got, i+1, want)
			}
		}
	})
}

func TestService_ResetsBackoffAfterAStableMinute(t *testing.T) {
	for name, c := range map[string]struct {
		up   time.Duration
		want time.Duration
	}{
		"less than a minute": {59 * time.Second, 8 * time.Second},
		"a minute":           {time.Minute, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := startService(t, testHost(), testServiceConfig("db"), nil, func(n int) (forwarder.Tunnel, error) {
					if n == 4 {
						return newTunnelEndingAfter(c.up), nil
					}
					return openFails(n)
				})
				defer s.end()
				time.Sleep(2 * time.Minute)
				synctest.Wait()
				got := intervals(s.driver.openTimes())
				if after := got[3] - c.up; !isDelay(after, c.want) {
					t.Errorf("after a tunnel that was up for %v the next came after %v, want %v", c.up, after, c.want)
				}
			})
		})
	}
}

func TestService_RetriesAfterAttemptsAreUsedUp(t *testing.T) {
	limited := testServiceConfig("db")
	limited.RestartPolicy.MaxAttempts = 2
	changed := limited
	changed.Description = "described"
	for name, help := range map[string]func(*testService){
		"a client":         func(c *testService) { c.addClient() },
		"a network change": func(c *testService) { c.OnNetworkChange() },
		"restart":          func(c *testService) { c.Restart(time.Time{}) },
		"a config change":  func(c *testService) { c.Redefine(Definition{changed, c.driver, checkSucceeds}, true, time.Time{}) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := startService(t, testHost(), limited, checkSucceeds, func(n int) (forwarder.Tunnel, error) {
					if n <= 2 {
						return openFails(n)
					}
					return newScriptedTunnel(), nil
				})
				defer c.end()
				time.Sleep(10 * time.Minute)
				c.requireState(t, forwarder.Failed)
				if n := len(c.driver.openTimes()); n != 2 {
					t.Fatalf("%d attempts, max_attempts is 2", n)
				}
				help(c)
				time.Sleep(time.Second)
				c.requireState(t, forwarder.Healthy)
			})
		})
	}
}

func TestService_NeedsAttentionAgainAfterFailedLogin(t *testing.T) {
	for name, tt := range map[string]struct {
		first forwarder.Class
		want  forwarder.State
	}{
		"needed attention before": {forwarder.NeedsUser, forwarder.NeedsAttention},
		"had failed before":       {forwarder.Permanent, forwarder.Restarting},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := startService(t, testHost(), testServiceConfig("db"), checkSucceeds, func(n int) (forwarder.Tunnel, error) {
					if n == 1 {
						return nil, &forwarder.Failure{Class: tt.first, Reason: "a key is locked"}
					}
					return openFails(n)
				})
				defer c.end()
				synctest.Wait()
				c.LogIn("/ask", time.Time{})
				c.requireState(t, tt.want)
				if got := c.lastError(); got != "no route" {
					t.Errorf("it says %q", got)
				}
			})
		})
	}
}

func TestService_CancelsAbandonedLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startService(t, testHost(), testServiceConfig("db"), checkSucceeds, func(int) (forwarder.Tunnel, error) {
			return nil, &forwarder.Failure{Class: forwarder.NeedsUser, Reason: "a key is locked"}
		})
		defer c.end()
		synctest.Wait()
		c.driver.hang.Store(true)
		c.LogIn("/ask", time.Time{})
		time.Sleep(loginTimeout - time.Second)
		c.requireState(t, forwarder.Restarting)
		time.Sleep(time.Second)
		c.requireState(t, forwarder.NeedsAttention)
		time.Sleep(time.Hour)
		if n := len(c.driver.openTimes()); n != 2 {
			t.Errorf("%d attempts", n)
		}
	})
}

func TestService_OpenTimeoutShowsTheTechnologysReason(t *testing.T) {
	for want, words := range map[string]*forwarder.Failure{
		"it listens, but has not said that it is ready": {Reason: "it listens, but has not said that it is ready"},
		"the tunnel was not ready after 35s":            nil,
	} {
		synctest.Test(t, func(t *testing.T) {
			driver := &scriptedDriver{openError: words}
			driver.hang.Store(true)
			c := startWithDriver(t, testHost(), testServiceConfig("db"), checkSucceeds, driver)
			defer c.end()
			time.Sleep(openTimeout)
			c.requireState(t, forwarder.Restarting)
			if got := c.lastError(); got != want {
				t.Errorf("it says %q, want %q", got, want)
			}
		})
	}
}

func TestService_ClientOfFailedServiceCausesOneAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		svc := testServiceConfig("db")
		svc.RestartPolicy.Enabled = false
		c := startService(t, testHost(), svc, checkSucceeds, openFails)
		defer c.end()
		time.Sleep(time.Minute)
		c.requireState(t, forwarder.Failed)
		dropped := c.port.dropped
		c.addClient()
		c.requireState(t, forwarder.Failed)
		if n := len(c.driver.openTimes()); n != 2 || c.port.dropped <= dropped || c.port.Stats().Waiting != 0 {
			t.Errorf("%d attempts, %d times reset, %d still wait", n, c.port.dropped-dropped, c.port.Stats().Waiting)
		}
		for range 5 { // many clients at once do not each cause an attempt
			c.addClient()
			synctest.Wait()
		}
		if n := len(c.driver.openTimes()); n > 3 {
			t.Errorf("%d attempts within a second", n-1)
		}
	})
}

func TestService_WaitingClientEndsBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startService(t, testHost(), testServiceConfig("db"), checkSucceeds, func(n int) (forwarder.Tunnel, error) {
			if n < 6 {
				return openFails(n)
			}
			return newScriptedTunnel(), nil
		})
		defer c.end()
		time.Sleep(16 * time.Second) // within the fifth delay, of 15 s
		c.requireState(t, forwarder.Restarting)
		c.addClient()
		time.Sleep(time.Second)
		c.requireState(t, forwarder.Healthy)
	})
}

// checkTimesOut is a check that nothing comes back to.
func checkTimesOut(ctx context.Context, _ probe.Dialer) error { <-ctx.Done(); return ctx.Err() }

func TestService_ReplacesSilentTunnelUnlessConnectionsReceive(t *testing.T) {
	for _, busy := range []bool{false, true} {
		t.Run(fmt.Sprintf("busy=%v", busy), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var once atomic.Bool
				check := func(ctx context.Context, path probe.Dialer) error {
					if once.CompareAndSwap(false, true) {
						return nil
					}
					return checkTimesOut(ctx, path)
				}
				c := startService(t, testHost(), testServiceConfig("db"), check, openSucceeds)
				defer c.end()
				c.requireState(t, forwarder.Healthy)
				for range 180 { // three minutes, in which bytes come out of the tunnel every second
					time.Sleep(time.Second)
					if busy {
						c.port.set(func() { c.port.stats.Open, c.port.stats.LastByte = 1, time.Now() })
					}
				}
				synctest.Wait()
				opened := len(c.driver.openTimes())
				if busy && (opened != 1 || c.state() != forwarder.Unhealthy) {
					t.Errorf("under a connection that receives: %d tunnels, %s", opened, c.state())
				}
				if !busy && opened < 2 {
					t.Error("the silent tunnel was kept")
				}
			})
		})
	}
}

func TestService_KeepsTunnelAfterFailedCheck(t *testing.T) {
	for name, check := range map[string]probe.Check{
		"a wrong password": func(context.Context, probe.Dialer) error {
			return &probe.Failure{Reason: `password authentication failed for user "app"`, Hint: "set health_check.password"}
		},
		"a refusal": func(context.Context, probe.Dialer) error {
			return &forwarder.Refusal{Reason: "connection refused", IsConnectFailure: true}
		},
		"a slow answer": func(ctx context.Context, p probe.Dialer) error {
			p.(probeDialer).isReached.Store(true) // the greeting came, and then nothing
			return checkTimesOut(ctx, p)
		},
		"a panic": func(context.Context, probe.Dialer) error { panic("out of cheese") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := startService(t, testHost(), testServiceConfig("db"), check, openSucceeds)
				defer c.end()
				time.Sleep(time.Hour)
				c.requireState(t, forwarder.Unhealthy)
				if n := len(c.driver.openTimes()); n != 1 {
					t.Errorf("%d tunnels", n)
				}
				got := c.Snapshot()
				if name == "a wrong password" && (got.LastError != `password authentication failed for user "app"` || got.Hint == "") {
					t.Errorf("status says %q, hint %q", got.LastError, got.Hint)
				}
			})
		})
	}
}

// TestService_ShowsACheckErrorOnOneLine: it becomes a cell of a table and a line of the log.
func TestService_ShowsACheckErrorOnOneLine(t *testing.T) {
	reset := &net.OpError{
		Op: "read", Net: "tcp", Source: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40001}, Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40002},
		Err: os.NewSyscallError("read", syscall.ECONNRESET),
	}
	for want, err := range map[string]error{
		"log in: connection reset by peer": fmt.Errorf("log in: %w", reset),
		"first; second":                    errors.New("first\n\tsecond\n"),
		"the server's; words":              &probe.Failure{Reason: "the server's\r\nwords"},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := startService(t, testHost(), testServiceConfig("db"), func(context.Context, probe.Dialer) error { return err }, openSucceeds)
			defer c.end()
			time.Sleep(time.Minute)
			if got := c.lastError(); got != want {
				t.Errorf("last error %q, want %q", got, want)
			}
		})
	}
}

func TestService_HealthThresholdsCountResultsInARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		svc := testServiceConfig("db")
		svc.HealthCheck.SuccessThreshold = 2
		var bad atomic.Bool
		check := func(context.Context, probe.Dialer) error {
			if bad.Load() {
				return errors.New("not well")
			}
			return nil
		}
		c := startService(t, testHost(), svc, check, openSucceeds)
		defer c.end()
		c.requireState(t, forwarder.Starting)
		time.Sleep(time.Second)
		c.requireState(t, forwarder.Healthy)
		bad.Store(true)
		time.Sleep(26 * time.Second) // the next check comes after 27 to 30 s
		c.requireState(t, forwarder.Healthy)
		time.Sleep(14 * time.Second)
		c.requireState(t, forwarder.Unhealthy)
		bad.Store(false)
		time.Sleep(40 * time.Second)
		c.requireState(t, forwarder.Healthy)
	})
}

// The first check of a tunnel makes its service healthy before it has ended, and unhealthy again if it fails all the same.
func TestService_EarlySuccessMakesItHealthy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var bad atomic.Bool
		bad.Store(true)
		check := func(_ context.Context, dialer probe.Dialer) error {
			dialer.(probe.EarlySuccessReporter).ReportEarlySuccess(3 * time.Millisecond)
			time.Sleep(900 * time.Millisecond)
			if bad.Load() {
				return errors.New("closed")
			}
			return nil
		}
		c := startService(t, testHost(), testServiceConfig("db"), check, openSucceeds)
		defer c.end()
		c.requireState(t, forwarder.Healthy)
		time.Sleep(time.Second)
		c.requireState(t, forwarder.Unhealthy)
		time.Sleep(500 * time.Millisecond) // during the next check, one second after the last has ended
		c.requireState(t, forwarder.Unhealthy)
		bad.Store(false)
		time.Sleep(5 * time.Second)
		c.requireState(t, forwarder.Healthy)
		if took := c.Snapshot().Latency; took != 3*time.Millisecond {
			t.Errorf("the check took %v, want the round trip", took)
		}
	})
}

// The config is changed during a check, which then succeeds: that says nothing of what is to be checked now.
func TestService_ACheckOfAnEarlierDefinitionDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := func(_ context.Context, dialer probe.Dialer) error { // it also ends late, whatever its context says
			time.Sleep(time.Second)
			dialer.(probe.EarlySuccessReporter).ReportEarlySuccess(time.Millisecond)
			return nil
		}
		fails := func(context.Context, probe.Dialer) error { return errors.New("out of cheese") }
		c := startService(t, testHost(), testServiceConfig("db"), slow, openSucceeds)
		defer c.end()
		c.requireState(t, forwarder.Starting)
		c.Redefine(Definition{testServiceConfig("db"), c.driver, fails}, true, time.Time{})
		time.Sleep(1100 * time.Millisecond)
		c.requireState(t, forwarder.Unhealthy)
		if reason := c.Snapshot().LastError; reason != "out of cheese" {
			t.Errorf("it is unhealthy because of %q", reason)
		}
	})
}

func TestService_ChecksKeepTheirIntervalAndNeverOverlap(t *testing.T) {
	for _, took := range []time.Duration{0, 50 * time.Millisecond, 4 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			var running, most atomic.Int32
			var mu sync.Mutex
			var times []time.Time
			check := func(context.Context, probe.Dialer) error {
				most.Store(max(most.Load(), running.Add(1)))
				defer running.Add(-1)
				mu.Lock()
				times = append(times, time.Now())
				mu.Unlock()
				time.Sleep(took)
				return nil
			}
			c := startService(t, testHost(), testServiceConfig("db"), check, openSucceeds)
			time.Sleep(20 * time.Minute)
			c.end()
			if most.Load() != 1 {
				t.Errorf("%d checks at once", most.Load())
			}
			for _, gap := range intervals(times) {
				if gap -= took; gap > 30*time.Second || gap < 27*time.Second {
					t.Errorf("%v between checks, the interval is 30s", gap)
				}
			}
		})
	}
}

// Each wake of an idle supervisor costs some context switches, however many services it checks then.
func TestService_HealthyServicesAreCheckedAtTheSameTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		checked := map[time.Time]int{}
		check := func(context.Context, probe.Dialer) error {
			mu.Lock()
			defer mu.Unlock()
			checked[time.Now()]++
			return nil
		}
		h := testHost()
		for n := range 5 {
			svc := testServiceConfig(fmt.Sprint("db", n))
			svc.HealthCheck.Interval = []time.Duration{30 * time.Second, time.Minute}[n%2]
			defer startService(t, h, svc, check, openSucceeds).end()
			time.Sleep(time.Duration(n+1) * 2718 * time.Millisecond)
		}
		time.Sleep(20 * time.Minute)
		mu.Lock()
		clear(checked)
		mu.Unlock()
		time.Sleep(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if len(checked) != 2 {
			t.Errorf("in a minute, the supervisor woke %d times: %v", len(checked), checked)
		}
	})
}

func TestService_LimitsConcurrentChecksOfAllServices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testHost()
		var running, most, total atomic.Int32
		check := func(context.Context, probe.Dialer) error {
			most.Store(max(most.Load(), running.Add(1)))
			defer running.Add(-1)
			total.Add(1)
			time.Sleep(100 * time.Millisecond)
			return nil
		}
		var all []*testService
		for i := range 200 {
			all = append(all, startService(t, h, testServiceConfig(fmt.Sprint("s", i)), check, openSucceeds))
		}
		time.Sleep(10 * time.Second)
		for _, c := range all {
			c.requireState(t, forwarder.Healthy)
			c.end()
		}
		if most.Load() > checkLimit || total.Load() < 200 {
			t.Errorf("%d checks at once, %d in all", most.Load(), total.Load())
		}
	})
}

func TestService_WaitsForItsDependency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testHost()
		web := testServiceConfig("web")
		web.DependsOn = []string{"bastion"}
		w := startService(t, h, web, checkSucceeds, openSucceeds)
		defer w.end()
		time.Sleep(time.Minute)
		w.requireState(t, forwarder.Starting)
		bastion := startService(t, h, testServiceConfig("bastion"), checkSucceeds, func(n int) (forwarder.Tunnel, error) {
			if n < 4 {
				return openFails(n)
			}
			return newScriptedTunnel(), nil
		})
		defer bastion.end()
		time.Sleep(2 * time.Second)
		w.requireState(t, forwarder.Starting)
		if got := w.lastError(); !strings.Contains(got, `waiting for "bastion", which is restarting`) {
			t.Errorf("meanwhile it says %q", got)
		}
		time.Sleep(10 * time.Second)
		bastion.requireState(t, forwarder.Healthy)
		w.requireState(t, forwarder.Healthy)
		if w.lastError() != "" {
			t.Errorf("in the end it says %q", w.lastError())
		}
		first := w.driver.openTimes()[0]
		if times := bastion.driver.openTimes(); first.Before(times[len(times)-1]) {
			t.Error("it did not wait")
		}
	})
}

func TestService_ClientRetriesFailedDependency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testHost()
		limited := testServiceConfig("bastion")
		limited.RestartPolicy.MaxAttempts = 1
		var heal atomic.Bool
		bastion := startService(t, h, limited, checkSucceeds, func(n int) (forwarder.Tunnel, error) {
			if heal.Load() {
				return newScriptedTunnel(), nil
			}
			return openFails(n)
		})
		defer bastion.end()
		web := testServiceConfig("web")
		web.DependsOn = []string{"bastion"}
		w := startService(t, h, web, checkSucceeds, openSucceeds)
		defer w.end()
		time.Sleep(time.Minute)
		w.requireState(t, forwarder.Failed)
		if got := w.lastError(); !strings.Contains(got, `depends on "bastion", which has failed`) {
			t.Errorf("it says %q", got)
		}
		w.addClient()
		time.Sleep(2 * time.Second)
		w.requireState(t, forwarder.Failed)
		if n := len(bastion.driver.openTimes()); n != 2 || w.port.Stats().Waiting != 0 {
			t.Errorf("the bastion was tried %d times, %d clients wait", n, w.port.Stats().Waiting)
		}
		heal.Store(true)
		w.addClient()
		time.Sleep(2 * time.Second)
		w.requireState(t, forwarder.Healthy)
	})
}

func TestService_RestartsAttemptWhenTheNetworkChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		driver := &scriptedDriver{open: openSucceeds}
		driver.hang.Store(true)
		c := startWithDriver(t, testHost(), testServiceConfig("db"), checkSucceeds, driver)
		defer c.end()
		synctest.Wait()
		c.OnNetworkChange() // it was begun a moment ago
		synctest.Wait()
		if n := len(c.driver.openTimes()); n > 1 {
			t.Errorf("it was begun %d times", n)
		}
		time.Sleep(2 * time.Second)
		c.driver.hang.Store(false)
		c.OnNetworkChange()
		c.requireState(t, forwarder.Healthy)
	})
}

// pathCheckTunnel is a tunnel that is told that it may lead nowhere.
type pathCheckTunnel struct {
	*scriptedTunnel
	checks atomic.Int32
}

func (d *pathCheckTunnel) CheckConnection() { d.checks.Add(1) }

func TestService_HasTunnelCheckItselfWhenTheNetworkChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tunnel := &pathCheckTunnel{scriptedTunnel: newScriptedTunnel()}
		c := startService(t, testHost(), testServiceConfig("db"), checkSucceeds, func(int) (forwarder.Tunnel, error) { return tunnel, nil })
		defer c.end()
		c.requireState(t, forwarder.Healthy)
		c.OnNetworkChange()
		c.requireState(t, forwarder.Healthy)
		if n := tunnel.checks.Load(); n != 1 {
			t.Errorf("doubted %d times", n)
		}
	})
}

func TestService_ShowsFailureReportedByTunnel(t *testing.T) {
	for name, check := range map[string]probe.Check{"checked": checkSucceeds, "not checked": nil} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tunnel := &failingTunnel{scriptedTunnel: newScriptedTunnel(), changed: make(chan struct{}, 1), failure: &forwarder.Failure{Reason: "no pods"}}
				c := startService(t, testHost(), testServiceConfig("db"), check, func(int) (forwarder.Tunnel, error) { return tunnel, nil })
				defer c.end()
				c.requireState(t, forwarder.Unhealthy)
				if got := c.lastError(); got != "no pods" {
					t.Errorf("last error %q", got)
				}
				c.port.options.OnServerReached(tunnel) // a client's success does not make the reported failure untrue
				c.requireState(t, forwarder.Unhealthy)
				tunnel.setFailure(nil)
				c.requireState(t, forwarder.Healthy)
				tunnel.setFailure(&forwarder.Failure{Reason: "gone again"})
				c.requireState(t, forwarder.Unhealthy)
				time.Sleep(time.Hour)
				if n := len(c.driver.openTimes()); n != 1 {
					t.Errorf("the tunnel was opened %d times", n)
				}
			})
		})
	}
}

func TestService_ACheckCanDisproveAReportedFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		doubt := &forwarder.Failure{Reason: "pod web-1 is not Ready", Hint: "describe it", MayServe: true}
		tunnel := &failingTunnel{scriptedTunnel: newScriptedTunnel(), changed: make(chan struct{}, 1), failure: doubt}
		var isServing atomic.Bool
		check := func(context.Context, probe.Dialer) error {
			if isServing.Load() {
				return nil
			}
			return &forwarder.Refusal{Reason: "connection refused", IsConnectFailure: true}
		}
		c := startService(t, testHost(), testServiceConfig("db"), check, func(int) (forwarder.Tunnel, error) { return tunnel, nil })
		defer c.end()
		c.requireState(t, forwarder.Unhealthy)
		const both = "pod web-1 is not Ready; connection refused" // either may be the cause
		if got := c.Snapshot(); got.LastError != both || got.Hint != doubt.Hint {
			t.Errorf("while it does not serve: %q, hint %q", got.LastError, got.Hint)
		}
		isServing.Store(true)
		time.Sleep(time.Minute)
		c.requireState(t, forwarder.Healthy)
		if got := c.Snapshot(); got.LastError != "" || !strings.HasPrefix(got.Hint, doubt.Reason+"; it is used") {
			t.Errorf("while it serves: %q, hint %q", got.LastError, got.Hint)
		}
		tunnel.setFailure(nil)
		c.requireState(t, forwarder.Healthy)
		if got := c.Snapshot(); got.Hint != "" {
			t.Errorf("once a pod is Ready: hint %q", got.Hint)
		}
		tunnel.setFailure(doubt)
		c.requireState(t, forwarder.Healthy)
		isServing.Store(false)
		time.Sleep(time.Minute)
		c.requireState(t, forwarder.Unhealthy)
		if got := c.lastError(); got != both {
			t.Errorf("when it does not serve any more: %q", got)
		}
	})
}

// notingTunnel is a tunnel that has something to say of a healthy service.
type notingTunnel struct{ *scriptedTunnel }

func (notingTunnel) Note() string { return "it is not known where the server listens" }

func TestService_NoteOfAHealthyServiceIsItsHint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, check := range map[string]func(context.Context, probe.Dialer) error{"checked": checkSucceeds, "without a check": nil} {
			tunnel := notingTunnel{newScriptedTunnel()}
			c := startService(t, testHost(), testServiceConfig("db"), check, func(int) (forwarder.Tunnel, error) { return tunnel, nil })
			c.requireState(t, forwarder.Healthy)
			if got := c.Snapshot(); got.LastError != "" || got.Hint != tunnel.Note() {
				t.Errorf("%s: %q, hint %q", name, got.LastError, got.Hint)
			}
			c.end()
		}
	})
}

func TestService_PanicAffectsNoOtherService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := testHost()
		other := startService(t, host, testServiceConfig("other"), checkSucceeds, openSucceeds)
		defer other.end()
		opening := startService(t, host, testServiceConfig("opening"), checkSucceeds, func(int) (forwarder.Tunnel, error) { panic("the engine broke") })
		defer opening.end()
		opening.requireState(t, forwarder.Failed)
		if got := opening.lastError(); !strings.Contains(got, "the engine broke") {
			t.Errorf("last error %q", got)
		}
		relay := startService(t, host, testServiceConfig("relay"), checkSucceeds, openSucceeds)
		defer relay.end()
		relay.requireState(t, forwarder.Healthy)
		relay.port.options.OnPanic(newScriptedTunnel(), &forwarder.Failure{Class: forwarder.Permanent, Reason: "of an earlier tunnel"}, nil)
		relay.requireState(t, forwarder.Healthy)
		forwarder.CatchPanic(func() { panic("a client broke it") }, func(failure *forwarder.Failure, stack []byte) {
			relay.port.options.OnPanic(nil, failure, stack)
		})
		relay.requireState(t, forwarder.Failed)
		loop := startService(t, host, testServiceConfig("loop"), checkSucceeds, openSucceeds)
		defer loop.end()
		loop.requireState(t, forwarder.Healthy)
		loop.Redefine(Definition{Service: testServiceConfig("loop")}, false, time.Time{}) // without a driver
		loop.requireState(t, forwarder.Failed)
		loop.Restart(time.Time{})
		loop.requireState(t, forwarder.Healthy)
		other.requireState(t, forwarder.Healthy)
	})
}
