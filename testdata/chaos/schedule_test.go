package chaos

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// A goroutine of the SPDY library runs for a second after the connection has ended.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/moby/spdystream.(*Connection).shutdown"))
}

var technologies = [][]string{{"tcp", technologyKubectl, technologyLoginHelper}, {"ssh", technologySSHAgent}, {"tcp", "command"}}

func nextSteps(s *Scheduler, n int) []Step {
	var steps []Step
	for range n {
		steps = append(steps, s.Next())
	}
	return steps
}

func TestScheduler_SameSeedGivesSameSteps(t *testing.T) {
	one, two := NewScheduler(7, EventKinds(), technologies), NewScheduler(7, EventKinds(), technologies)
	if !reflect.DeepEqual(nextSteps(one, 300), nextSteps(two, 300)) {
		t.Error("the same seed gave different steps")
	}
	other := NewScheduler(8, EventKinds(), technologies)
	if reflect.DeepEqual(nextSteps(NewScheduler(7, EventKinds(), technologies), 10), nextSteps(other, 10)) {
		t.Error("another seed gave the same steps")
	}
}

func TestScheduler_CoversEveryPossibleCellInOneCycle(t *testing.T) {
	for seed := range uint64(20) {
		s, m := NewScheduler(seed, EventKinds(), technologies), NewMatrix(EventKinds())
		for range len(EventKinds()) * len(States) {
			for i, act := range s.Next().Acts {
				kind := s.findKind(act.Event)
				if kind.Impossible[act.State] != "" {
					t.Fatalf("seed %d: %s is impossible", seed, act)
				}
				if kind.Technology != "" && !slices.Contains(technologies[i], kind.Technology) {
					t.Fatalf("seed %d: %s in a project without %s", seed, act, kind.Technology)
				}
				m.CountHit(Cell{act.Event, act.State})
			}
			if !s.HasPending() {
				break
			}
		}
		if empty := m.EmptyCells(); len(empty) > 0 {
			t.Errorf("seed %d: never happened: %v", seed, empty)
		}
	}
}

func TestScheduler_GlobalEventHitsAllProjects(t *testing.T) {
	s := NewScheduler(3, EventKinds(), technologies)
	for _, step := range nextSteps(s, 300) {
		global := 0
		for _, act := range step.Acts {
			if s.findKind(act.Event).Global {
				global++
			}
		}
		if global != 0 && (global != len(step.Acts) || step.Acts[0].Event != step.Acts[len(step.Acts)-1].Event) {
			t.Fatalf("step %d mixes events: %v", step.Number, step.Acts)
		}
	}
}

func TestScheduler_MissedCellIsTriedAgainButNotIndefinitely(t *testing.T) {
	s := NewScheduler(3, EventKinds()[:1], technologies[:1])
	first := s.Next().Acts[0]
	cell := Cell{first.Event, first.State}
	tries := 0
	for s.HasPending() {
		if act := s.Next().Acts[0]; act.State == cell.State {
			tries++
			s.ScheduleAgain(cell)
		} else if tries == 0 {
			s.ScheduleAgain(cell)
		}
	}
	if tries == 0 || tries > 5 {
		t.Errorf("tried again %d times", tries)
	}
}

func TestMatrix_ShowsCountsAndImpossibleCells(t *testing.T) {
	kinds := []EventKind{{Name: "enter"}, {Name: "kill", Impossible: map[State]string{Down: "nothing runs"}}}
	m := NewMatrix(kinds)
	m.CountHit(Cell{"enter", Up})
	m.CountHit(Cell{"enter", Up})
	if got := len(m.EmptyCells()); got != 2*len(States)-2 {
		t.Errorf("%d cells are empty", got)
	}
	text := m.String()
	for _, want := range []string{"enter         0         0         2", "kill          -", "kill, down: nothing runs"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestSelectKinds_LeavesOutEventsAndCells(t *testing.T) {
	kinds, err := selectKinds(EventKinds(), []string{"enter", "leave"}, []string{"leave", "enter:busy"})
	if err != nil || len(kinds) != 1 || kinds[0].Name != "enter" || kinds[0].Impossible[Busy] == "" {
		t.Errorf("%v, %v", kinds, err)
	}
	for _, wrong := range []string{"dance", "enter:asleep"} {
		if _, err := selectKinds(EventKinds(), nil, []string{wrong}); err == nil {
			t.Errorf("%q is accepted as an event", wrong)
		}
	}
	if len(EventKinds()[0].Impossible) != 0 {
		t.Error("a selection changed the kinds")
	}
}
