package supervisor

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/lockstate"
)

// eventsPerRun is the number of events of one seed. A run begins with an empty state directory, so that a failing one is short.
const eventsPerRun = 1000

// simulate runs events of a seed and returns the trace, the first broken promise, and the number of events until then; "" if there is none.
func simulate(t *testing.T, seed uint64, events int) (trace, failure string, until int) {
	t.Helper()
	return simulateSteps(t, seed, func(s *simulation) { s.run(events) })
}

// simulateSteps is simulate with steps instead of random events.
func simulateSteps(t *testing.T, seed uint64, steps func(*simulation)) (trace, failure string, until int) {
	t.Helper()
	parent := "/dev/shm" // where there is one, files are in memory
	if _, err := os.Stat(parent); err != nil {
		parent = ""
	}
	home, err := os.MkdirTemp(parent, "sim") //nolint:usetesting // T.TempDir may be on a disk
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(home)
	for _, name := range []string{"XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"} {
		t.Setenv(name, home)
	}
	synctest.Test(t, func(t *testing.T) {
		s := newSimulation(t, seed, home)
		defer lockstate.SimulateProcesses(&s.processes)()
		defer wait.SimulateJitter(func(maxPart time.Duration) time.Duration {
			return time.Duration(pseudorandom(seed, "jitter", int64(maxPart)+1))
		})()
		steps(s)
		trace, failure, until = s.trace.String(), s.failure, s.number-1
	})
	return trace, failure, until
}

func environmentNumber(t *testing.T, name string, fallback uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return fallback
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// $LOCALPORT_SIMULATION_SEED is the first seed, and $LOCALPORT_SIMULATION_EVENTS the number of events: each thousand has the next seed.
func TestSimulation_KeepsPromises(t *testing.T) {
	seed := environmentNumber(t, "LOCALPORT_SIMULATION_SEED", 1)
	events := int(environmentNumber(t, "LOCALPORT_SIMULATION_EVENTS", eventsPerRun))
	startedAt := time.Now()
	for first := seed; events > 0; seed++ {
		n := min(events, eventsPerRun)
		trace, failure, until := simulate(t, seed, n)
		if failure != "" {
			t.Fatalf("%s\n%s\nreplay: LOCALPORT_SIMULATION_SEED=%d LOCALPORT_SIMULATION_EVENTS=%d", lastLines(trace, int(environmentNumber(t, "LOCALPORT_SIMULATION_LINES", 300))), failure, seed, until)
		}
		if events -= n; events > 0 && (seed+1-first)%25 == 0 {
			t.Logf("nothing violated until seed %d", seed)
		}
		if events == 0 {
			t.Logf("seeds %d to %d, nothing violated, in %v", first, seed, time.Since(startedAt).Round(time.Millisecond))
		}
	}
}

func lastLines(text string, n int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-n):], "\n")
}

func TestSimulation_ReplaysASeedExactly(t *testing.T) {
	seed := environmentNumber(t, "LOCALPORT_SIMULATION_SEED", 1)
	const events = 300
	first, _, _ := simulate(t, seed, events)
	for range 2 {
		again, _, _ := simulate(t, seed, events)
		if again == first {
			continue
		}
		a, b := strings.Split(first, "\n"), strings.Split(again, "\n")
		for i := range min(len(a), len(b)) {
			if a[i] != b[i] {
				t.Fatalf("line %d of seed %d differs:\n%s\n%s\nbefore:\n%s", i+1, seed, a[i], b[i], strings.Join(a[max(0, i-12):i], "\n"))
			}
		}
		t.Fatalf("the traces of seed %d have %d and %d lines", seed, len(a), len(b))
	}
}

// A "stop" that is killed after it has recorded that the project is down, and before it has asked the supervisor to end.
func TestSimulation_SupervisorCarriesOutAStopThatWasKilled(t *testing.T) {
	trace, failure, _ := simulateSteps(t, 1, func(s *simulation) {
		s.enterOrLeave()
		s.pass(5*time.Second + simOffset)
		if s.answering() == nil {
			s.fail("no supervisor runs")
		}
		sh := s.chooseShell()
		s.command(sh, "stop", func() {
			_, err := s.dirOf(sh).Update(t.Context(), func(tx *lockstate.Tx) error {
				tx.Down = true
				tx.Bump()
				return nil
			})
			if err != nil {
				s.fail("record the stop: %v", err)
			}
		})
		s.repairAndCheck()
		s.end()
	})
	if failure != "" {
		t.Errorf("%s\n%s", lastLines(trace, 60), failure)
	}
}
