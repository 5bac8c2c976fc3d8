package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/journal"
	"github.com/localport-sh/localport/forwarder/relay"
	"github.com/localport-sh/localport/probe"
	"github.com/localport-sh/localport/project"
)

// A forward's course is about time: here it runs on a clock of its own, without sockets and processes.

// scripted is a technology whose tunnels open and end as the test says.
type scripted struct {
	mu     sync.Mutex
	opened []time.Time
	open   func(n int) (forwarder.Tunnel, error) // the n-th opening, from 1
	hang   atomic.Bool                           // no opening comes to an end
	late   *forwarder.Failure                    // what one that hangs says when it is given up; nil: nothing
}

func (s *scripted) Target(project.Service) string { return "scripted" }

func (s *scripted) Close() error { return nil }

func (s *scripted) Open(ctx context.Context, _ project.Service, _ forwarder.Run) (forwarder.Tunnel, error) {
	s.mu.Lock()
	s.opened = append(s.opened, time.Now())
	n := len(s.opened)
	s.mu.Unlock()
	if s.hang.Load() {
		<-ctx.Done()
		if s.late != nil {
			return nil, s.late
		}
		return nil, ctx.Err()
	}
	return s.open(n)
}

func (s *scripted) times() []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.opened)
}

type scriptedTunnel struct {
	done chan struct{}
	once sync.Once
	err  error
}

// troubled is a tunnel that says what stands in its way.
type troubled struct {
	*scriptedTunnel
	mu      sync.Mutex
	trouble *forwarder.Failure
	changed chan struct{}
}

func (t *troubled) Changed() <-chan struct{} { return t.changed }

func (t *troubled) Trouble() *forwarder.Failure {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.trouble
}

func (t *troubled) become(trouble *forwarder.Failure) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.trouble = trouble
	nudge(t.changed)
}

func newTunnel() *scriptedTunnel { return &scriptedTunnel{done: make(chan struct{})} }

// lives is a tunnel that ends by itself after d.
func lives(d time.Duration) *scriptedTunnel {
	t := newTunnel()
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

// counter is a gate without sockets: it counts what the forward asks of it.
type counter struct {
	mu      sync.Mutex
	stats   relay.Stats
	dropped int
	rejects bool
}

func (c *counter) Attach(forwarder.Tunnel) {}
func (c *counter) Detach(forwarder.Tunnel) {}
func (c *counter) Hold()                   { c.set(func() { c.rejects = false }) }
func (c *counter) Reject()                 { c.set(func() { c.rejects = true; c.stats.Waiting = 0 }) }

func (c *counter) DropWaiting() { c.set(func() { c.dropped++; c.stats.Waiting = 0 }) }

func (c *counter) Dial(context.Context) (net.Conn, error) { return nil, errors.New("no network here") }
func (c *counter) SetConnectTimeout(time.Duration)        {}
func (c *counter) StopAccepting()                         {}
func (c *counter) Close() error                           { return nil }
func (c *counter) set(change func())                      { c.mu.Lock(); defer c.mu.Unlock(); change() }

func (c *counter) Stats() (s relay.Stats) { c.set(func() { s = c.stats }); return s }

// course is one forward that runs on the test's clock.
type course struct {
	*forward
	tech   *scripted
	gate   *counter
	cancel context.CancelFunc
}

// plain is a service with a policy whose delays are easily told apart.
func plain(name string) project.Service {
	return project.Service{
		Name: name, LocalPort: 1, Technology: project.TCP,
		HealthCheck: project.HealthCheck{
			Type: project.CheckTCP, Interval: 30 * time.Second, Timeout: 5 * time.Second, FailureThreshold: 3, SuccessThreshold: 1,
		},
		RestartPolicy: project.RestartPolicy{
			Enabled: true, InitialDelay: time.Second, BackoffMultiplier: 2, MaxDelay: 15 * time.Second,
		},
	}
}

func testHost() host {
	return host{
		log: slog.New(slog.DiscardHandler), mask: func(s string) string { return s },
		changes: newChanges(), board: newBoard(), checks: make(chan struct{}, checksAtOnce),
		tell:    func(journal.Event, forwarder.State) {},
		keeping: &keeping{kept: make(map[string]source)}, calm: make(chan struct{}, 1),
		begin: func(*journal.File) (forwarder.Run, func(), error) {
			return forwarder.Run{Log: io.Discard}, func() {}, nil
		},
	}
}

// embark starts a forward; it ends with stop.
func embark(t *testing.T, h host, svc project.Service, check probe.Check, open func(n int) (forwarder.Tunnel, error)) *course {
	t.Helper()
	return embarkWith(t, h, svc, check, &scripted{open: open})
}

func embarkWith(t *testing.T, h host, svc project.Service, check probe.Check, tech *scripted) *course {
	t.Helper()
	c := &course{tech: tech, gate: &counter{}}
	h.drivers = drivers{svc.Technology: c.tech}
	f := &forward{
		host: h, name: svc.Name, svc: svc, check: check,
		orders: make(chan order, 1), waiting: make(chan struct{}, 1), refused: make(chan forwarder.Refusal, 8),
		proved: make(chan struct{}, 1), quiet: make(chan struct{}, 1), woken: make(chan struct{}, 1),
		broke: make(chan *forwarder.Failure, 1),
		done:  make(chan struct{}), relay: c.gate,
	}
	f.status.svc = svc
	var ctx context.Context
	ctx, c.cancel = context.WithCancel(t.Context())
	f.cancel = c.cancel
	c.forward = f
	f.enter(forwarder.Starting)
	go func() {
		defer close(f.done)
		forwarder.Contain(func() { f.run(ctx, true) }, f.fellApart)
	}()
	return c
}

func (c *course) stop() {
	c.cancel()
	<-c.done
}

// client is one that comes and waits.
func (c *course) client() {
	c.gate.set(func() { c.gate.stats.Waiting++ })
	nudge(c.waiting)
}

// is fails the test unless the forward has come to a state by now.
func (c *course) is(t *testing.T, want forwarder.State) {
	t.Helper()
	synctest.Wait()
	if got := c.state(); got != want {
		t.Fatalf("%v after the start of the clock: %s is %s (%s), want %s", time.Now().Format("15:04:05.000"), c.name, got, c.lastError(), want)
	}
}

func (c *course) lastError() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status.lastError
}

func well(context.Context, probe.Path) error { return nil }

func never(int) (forwarder.Tunnel, error) { return nil, &forwarder.Failure{Reason: "no route"} }

func always(int) (forwarder.Tunnel, error) { return newTunnel(), nil }

// gaps are the times between openings.
func gaps(times []time.Time) []time.Duration {
	var gaps []time.Duration
	for i := 1; i < len(times); i++ {
		gaps = append(gaps, times[i].Sub(times[i-1]))
	}
	return gaps
}

// near reports whether a delay is the wanted one, less at most a quarter of jitter.
func near(got, want time.Duration) bool { return got <= want && got >= want*3/4 }

func TestAttemptsComeAtGrowingDelaysUpToTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := embark(t, testHost(), plain("db"), well, never)
		defer c.stop()
		time.Sleep(80 * time.Second)
		c.is(t, forwarder.Restarting)
		got := gaps(c.tech.times())
		for i, want := range []time.Duration{1, 2, 4, 8, 15, 15} {
			if want *= time.Second; i >= len(got) || !near(got[i], want) {
				t.Fatalf("delays %v, the %dth should be %v", got, i+1, want)
			}
		}
	})
}

func TestAStableMinuteResetsTheCount(t *testing.T) {
	for name, c := range map[string]struct {
		up   time.Duration
		want time.Duration
	}{
		"not quite": {59 * time.Second, 8 * time.Second},
		"a minute":  {time.Minute, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				course := embark(t, testHost(), plain("db"), nil, func(n int) (forwarder.Tunnel, error) {
					if n == 4 {
						return lives(c.up), nil
					}
					return never(n)
				})
				defer course.stop()
				time.Sleep(2 * time.Minute)
				synctest.Wait()
				got := gaps(course.tech.times())
				if after := got[3] - c.up; !near(after, c.want) {
					t.Errorf("after a tunnel that was up for %v the next came after %v, want %v", c.up, after, c.want)
				}
			})
		})
	}
}

// What another service has found out between an order and its turn need not be tried again: see forwarder.Run.
func TestAnOrderIsAsOldAsTheWish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := embark(t, testHost(), plain("db"), well, always)
		c.stop()
		wished := time.Now()
		c.give(order{})
		time.Sleep(time.Minute)
		if err := c.obey(<-c.orders); !errors.Is(err, errOrdered) || !c.asked.Equal(wished) {
			t.Errorf("%v, asked %v after the wish", err, c.asked.Sub(wished))
		}
	})
}

func TestFailedIsNotForEver(t *testing.T) {
	limited := plain("db")
	limited.RestartPolicy.MaxAttempts = 2
	changed := limited
	changed.Description = "described"
	for name, help := range map[string]func(*course){
		"a client":        func(c *course) { c.client() },
		"wake from sleep": func(c *course) { nudge(c.woken) },
		"restart":         func(c *course) { c.give(order{}) },
		"a config change": func(c *course) { c.give(order{svc: &changed, keep: true}) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := embark(t, testHost(), limited, well, func(n int) (forwarder.Tunnel, error) {
					if n <= 2 {
						return never(n)
					}
					return newTunnel(), nil
				})
				defer c.stop()
				time.Sleep(10 * time.Minute)
				c.is(t, forwarder.Failed)
				if n := len(c.tech.times()); n != 2 {
					t.Fatalf("%d attempts, max_attempts is 2", n)
				}
				help(c)
				time.Sleep(time.Second)
				if name == "a config change" {
					synctest.Wait()
					if n := len(c.tech.times()); n != 3 {
						t.Fatalf("%d attempts after %s", n, name)
					}
					return // its technology is a real one from now on
				}
				c.is(t, forwarder.Healthy)
			})
		})
	}
}

func TestALoginThatComesToNothingIsTheUsersMatterAgain(t *testing.T) {
	for name, tt := range map[string]struct {
		first forwarder.Class
		want  forwarder.State
	}{
		"it waited for one": {forwarder.ByAttention, forwarder.NeedsAttention},
		"it did not":        {forwarder.Permanent, forwarder.Restarting},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := embark(t, testHost(), plain("db"), well, func(n int) (forwarder.Tunnel, error) {
					if n == 1 {
						return nil, &forwarder.Failure{Class: tt.first, Reason: "a key is locked"}
					}
					return never(n)
				})
				defer c.stop()
				synctest.Wait()
				c.login(t.Context(), "/ask")
				c.is(t, tt.want)
				if got := c.lastError(); got != "no route" {
					t.Errorf("it says %q", got)
				}
			})
		})
	}
}

func TestALoginFromWhichTheUserWalksAwayIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := embark(t, testHost(), plain("db"), well, func(int) (forwarder.Tunnel, error) {
			return nil, &forwarder.Failure{Class: forwarder.ByAttention, Reason: "a key is locked"}
		})
		defer c.stop()
		synctest.Wait()
		c.tech.hang.Store(true)
		c.login(t.Context(), "/ask")
		time.Sleep(loginTimeout - time.Second)
		c.is(t, forwarder.Restarting)
		time.Sleep(time.Second)
		c.is(t, forwarder.NeedsAttention)
		time.Sleep(time.Hour)
		if n := len(c.tech.times()); n != 2 {
			t.Errorf("%d attempts", n)
		}
	})
}

func TestALateTunnelIsExplainedByItsOwnWordsWhereItHasAny(t *testing.T) {
	for want, words := range map[string]*forwarder.Failure{
		"it listens, but has not said that it is ready": {Reason: "it listens, but has not said that it is ready"},
		"the tunnel was not ready after 35s":            nil,
	} {
		synctest.Test(t, func(t *testing.T) {
			tech := &scripted{late: words}
			tech.hang.Store(true)
			c := embarkWith(t, testHost(), plain("db"), well, tech)
			defer c.stop()
			time.Sleep(openTimeout)
			c.is(t, forwarder.Restarting)
			if got := c.lastError(); got != want {
				t.Errorf("it says %q, want %q", got, want)
			}
		})
	}
}

func TestAClientOfAFailedServiceGetsOneAttemptAndIsReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		svc := plain("db")
		svc.RestartPolicy.Enabled = false
		c := embark(t, testHost(), svc, well, never)
		defer c.stop()
		time.Sleep(time.Minute)
		c.is(t, forwarder.Failed)
		dropped := c.gate.dropped
		c.client()
		c.is(t, forwarder.Failed)
		if n := len(c.tech.times()); n != 2 || c.gate.dropped <= dropped || c.gate.Stats().Waiting != 0 {
			t.Errorf("%d attempts, %d times reset, %d still wait", n, c.gate.dropped-dropped, c.gate.Stats().Waiting)
		}
		for range 5 { // a crowd: no attempt a client
			c.client()
			synctest.Wait()
		}
		if n := len(c.tech.times()); n > 3 {
			t.Errorf("%d attempts within a second", n-1)
		}
	})
}

func TestAWaitingClientEndsTheBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := embark(t, testHost(), plain("db"), well, func(n int) (forwarder.Tunnel, error) {
			if n < 6 {
				return never(n)
			}
			return newTunnel(), nil
		})
		defer c.stop()
		time.Sleep(16 * time.Second) // within the fifth delay, of 15 s
		c.is(t, forwarder.Restarting)
		c.client()
		time.Sleep(time.Second)
		c.is(t, forwarder.Healthy)
	})
}

// silence is a check that nothing comes back to.
func silence(ctx context.Context, _ probe.Path) error { <-ctx.Done(); return ctx.Err() }

func TestASilentTunnelIsReplacedButNotUnderConnectionsThatReceive(t *testing.T) {
	for _, busy := range []bool{false, true} {
		t.Run(fmt.Sprintf("busy=%v", busy), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var once atomic.Bool
				check := func(ctx context.Context, path probe.Path) error {
					if once.CompareAndSwap(false, true) {
						return nil
					}
					return silence(ctx, path)
				}
				c := embark(t, testHost(), plain("db"), check, always)
				defer c.stop()
				c.is(t, forwarder.Healthy)
				for range 180 { // three minutes, in which bytes come out of the tunnel every second
					time.Sleep(time.Second)
					if busy {
						c.gate.set(func() { c.gate.stats.Open, c.gate.stats.LastByte = 1, time.Now() })
					}
				}
				synctest.Wait()
				opened := len(c.tech.times())
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

func TestABadAnswerKeepsTheTunnel(t *testing.T) {
	for name, check := range map[string]probe.Check{
		"a wrong password": func(context.Context, probe.Path) error {
			return &probe.Failure{Reason: `password authentication failed for user "app"`, Hint: "set health_check.password"}
		},
		"a refusal": func(context.Context, probe.Path) error {
			return &forwarder.Refusal{Reason: "connection refused", Connect: true}
		},
		"a slow answer": func(ctx context.Context, p probe.Path) error {
			p.(path).reached.Store(true) // the greeting came, and then nothing
			return silence(ctx, p)
		},
		"a panic": func(context.Context, probe.Path) error { panic("out of cheese") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := embark(t, testHost(), plain("db"), check, always)
				defer c.stop()
				time.Sleep(time.Hour)
				c.is(t, forwarder.Unhealthy)
				if n := len(c.tech.times()); n != 1 {
					t.Errorf("%d tunnels", n)
				}
				c.mu.Lock()
				defer c.mu.Unlock()
				if name == "a wrong password" && (c.status.lastError != `password authentication failed for user "app"` || c.status.hint == "") {
					t.Errorf("status says %q, hint %q", c.status.lastError, c.status.hint)
				}
			})
		})
	}
}

func TestThresholdsCountAnswersInARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		svc := plain("db")
		svc.HealthCheck.SuccessThreshold = 2
		var bad atomic.Bool
		check := func(context.Context, probe.Path) error {
			if bad.Load() {
				return errors.New("not well")
			}
			return nil
		}
		c := embark(t, testHost(), svc, check, always)
		defer c.stop()
		c.is(t, forwarder.Starting)
		time.Sleep(time.Second)
		c.is(t, forwarder.Healthy)
		bad.Store(true)
		time.Sleep(26 * time.Second) // the next check comes after 27 to 30 s
		c.is(t, forwarder.Healthy)
		time.Sleep(14 * time.Second)
		c.is(t, forwarder.Unhealthy)
		bad.Store(false)
		time.Sleep(40 * time.Second)
		c.is(t, forwarder.Healthy)
	})
}

func TestChecksNeverOverlapAndComeWithJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running, most atomic.Int32
		var mu sync.Mutex
		var times []time.Time
		check := func(context.Context, probe.Path) error {
			most.Store(max(most.Load(), running.Add(1)))
			defer running.Add(-1)
			mu.Lock()
			times = append(times, time.Now())
			mu.Unlock()
			time.Sleep(4 * time.Second)
			return nil
		}
		c := embark(t, testHost(), plain("db"), check, always)
		time.Sleep(20 * time.Minute)
		c.stop()
		if most.Load() != 1 {
			t.Errorf("%d checks at once", most.Load())
		}
		var all []time.Duration
		for _, gap := range gaps(times) {
			if gap -= 4 * time.Second; gap > 30*time.Second || gap < 27*time.Second {
				t.Errorf("%v between checks, the interval is 30s", gap)
			}
			all = append(all, gap)
		}
		slices.Sort(all)
		if all[0] == all[len(all)-1] {
			t.Error("no jitter at all")
		}
	})
}

func TestTwoHundredServicesAreCheckedAFewAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testHost()
		var running, most, total atomic.Int32
		check := func(context.Context, probe.Path) error {
			most.Store(max(most.Load(), running.Add(1)))
			defer running.Add(-1)
			total.Add(1)
			time.Sleep(100 * time.Millisecond)
			return nil
		}
		var all []*course
		for i := range 200 {
			all = append(all, embark(t, h, plain(fmt.Sprint("s", i)), check, always))
		}
		time.Sleep(10 * time.Second)
		for _, c := range all {
			c.is(t, forwarder.Healthy)
			c.stop()
		}
		if most.Load() > checksAtOnce || total.Load() < 200 {
			t.Errorf("%d checks at once, %d in all", most.Load(), total.Load())
		}
	})
}

func TestAServiceWaitsForWhatItDependsOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testHost()
		web := plain("web")
		web.DependsOn = []string{"bastion"}
		w := embark(t, h, web, well, always)
		defer w.stop()
		time.Sleep(time.Minute)
		w.is(t, forwarder.Starting)
		bastion := embark(t, h, plain("bastion"), well, func(n int) (forwarder.Tunnel, error) {
			if n < 4 {
				return never(n)
			}
			return newTunnel(), nil
		})
		defer bastion.stop()
		time.Sleep(2 * time.Second)
		w.is(t, forwarder.Starting)
		if got := w.lastError(); !strings.Contains(got, `waits for "bastion", which is restarting`) {
			t.Errorf("meanwhile it says %q", got)
		}
		time.Sleep(10 * time.Second)
		bastion.is(t, forwarder.Healthy)
		w.is(t, forwarder.Healthy)
		if w.lastError() != "" {
			t.Errorf("in the end it says %q", w.lastError())
		}
		first := w.tech.times()[0]
		if times := bastion.tech.times(); first.Before(times[len(times)-1]) {
			t.Error("it did not wait")
		}
	})
}

func TestAClientOfWhatDependsOnAFailedServiceHasThatTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testHost()
		limited := plain("bastion")
		limited.RestartPolicy.MaxAttempts = 1
		var heal atomic.Bool
		bastion := embark(t, h, limited, well, func(n int) (forwarder.Tunnel, error) {
			if heal.Load() {
				return newTunnel(), nil
			}
			return never(n)
		})
		defer bastion.stop()
		web := plain("web")
		web.DependsOn = []string{"bastion"}
		w := embark(t, h, web, well, always)
		defer w.stop()
		time.Sleep(time.Minute)
		w.is(t, forwarder.Failed)
		if got := w.lastError(); !strings.Contains(got, `depends on "bastion", which is failed`) {
			t.Errorf("it says %q", got)
		}
		w.client()
		time.Sleep(2 * time.Second)
		w.is(t, forwarder.Failed)
		if n := len(bastion.tech.times()); n != 2 || w.gate.Stats().Waiting != 0 {
			t.Errorf("the bastion was tried %d times, %d clients wait", n, w.gate.Stats().Waiting)
		}
		heal.Store(true)
		w.client()
		time.Sleep(2 * time.Second)
		w.is(t, forwarder.Healthy)
	})
}

func TestSleepIsSeenWithinSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var total atomic.Int64
		woken := make(chan time.Duration, 10)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			watchSleep(ctx, func() time.Duration { return time.Duration(total.Load()) }, func(d time.Duration) { woken <- d })
		}()
		time.Sleep(time.Hour)
		total.Add(int64(time.Second)) // a clock that is set, a second of suspend: not worth a restart
		time.Sleep(time.Minute)
		total.Add(int64(40 * time.Minute))
		time.Sleep(sleepCheck)
		synctest.Wait()
		cancel()
		<-done
		if len(woken) != 1 || <-woken != 40*time.Minute {
			t.Errorf("%d wakes", len(woken))
		}
	})
}

func TestAnOpeningIsBegunAnewWhenTheNetworkChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tech := &scripted{open: always}
		tech.hang.Store(true)
		c := embarkWith(t, testHost(), plain("db"), well, tech)
		defer c.stop()
		synctest.Wait()
		nudge(c.woken) // it was begun a moment ago
		synctest.Wait()
		if n := len(c.tech.times()); n > 1 {
			t.Errorf("it was begun %d times", n)
		}
		time.Sleep(2 * time.Second)
		c.tech.hang.Store(false)
		nudge(c.woken)
		c.is(t, forwarder.Healthy)
	})
}

// doubtful is a tunnel that is told that it may lead nowhere.
type doubtful struct {
	*scriptedTunnel
	doubts atomic.Int32
}

func (d *doubtful) Doubt() { d.doubts.Add(1) }

func TestATunnelIsDoubtedWhenTheNetworkChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tunnel := &doubtful{scriptedTunnel: newTunnel()}
		c := embark(t, testHost(), plain("db"), well, func(int) (forwarder.Tunnel, error) { return tunnel, nil })
		defer c.stop()
		c.is(t, forwarder.Healthy)
		nudge(c.woken)
		c.is(t, forwarder.Healthy)
		if n := tunnel.doubts.Load(); n != 1 {
			t.Errorf("doubted %d times", n)
		}
	})
}

func TestWhatATunnelSaysStandsInItsWayIsTheServicesState(t *testing.T) {
	for name, check := range map[string]probe.Check{"checked": well, "not checked": nil} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tunnel := &troubled{scriptedTunnel: newTunnel(), changed: make(chan struct{}, 1), trouble: &forwarder.Failure{Reason: "no pods"}}
				c := embark(t, testHost(), plain("db"), check, func(int) (forwarder.Tunnel, error) { return tunnel, nil })
				defer c.stop()
				c.is(t, forwarder.Unhealthy)
				if got := c.lastError(); got != "no pods" {
					t.Errorf("last error %q", got)
				}
				nudge(c.proved) // a client's success does not make the trouble untrue
				c.is(t, forwarder.Unhealthy)
				tunnel.become(nil)
				c.is(t, forwarder.Healthy)
				tunnel.become(&forwarder.Failure{Reason: "gone again"})
				c.is(t, forwarder.Unhealthy)
				time.Sleep(time.Hour)
				if n := len(c.tech.times()); n != 1 {
					t.Errorf("the tunnel was opened %d times", n)
				}
			})
		})
	}
}

// brokenDriver panics whatever it is asked.
type brokenDriver struct{ forwarder.Driver }

func TestAPanicCostsItsForwardAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := testHost()
		other := embark(t, host, plain("other"), well, always)
		defer other.stop()
		opening := embark(t, host, plain("opening"), well, func(int) (forwarder.Tunnel, error) { panic("the engine broke") })
		defer opening.stop()
		opening.is(t, forwarder.Failed)
		if got := opening.lastError(); !strings.Contains(got, "the engine broke") {
			t.Errorf("last error %q", got)
		}
		relay := embark(t, host, plain("relay"), well, always)
		defer relay.stop()
		relay.is(t, forwarder.Healthy)
		forwarder.Contain(func() { panic("a client broke it") }, relay.broken)
		relay.is(t, forwarder.Failed)
		loop := embark(t, host, plain("loop"), well, always)
		loop.is(t, forwarder.Healthy)
		loop.drivers["broken"] = brokenDriver{}
		loop.give(order{svc: &project.Service{Technology: "broken", HealthCheck: project.HealthCheck{Type: project.CheckNone}}})
		loop.is(t, forwarder.Failed)
		<-loop.done
		if loop.running() {
			t.Error("it cannot be started again")
		}
		other.is(t, forwarder.Healthy)
	})
}
