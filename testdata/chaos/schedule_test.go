package chaos

import (
	"reflect"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var technologies = [][]string{{"tcp"}, {"ssh"}, {"tcp", "command"}}

func steps(s *Scheduler, n int) []Step {
	var steps []Step
	for range n {
		steps = append(steps, s.Next())
	}
	return steps
}

func TestScheduler_SameSeedGivesSameSteps(t *testing.T) {
	one, two := NewScheduler(7, Kinds(), technologies), NewScheduler(7, Kinds(), technologies)
	if !reflect.DeepEqual(steps(one, 300), steps(two, 300)) {
		t.Error("the same seed gave other steps")
	}
	other := NewScheduler(8, Kinds(), technologies)
	if reflect.DeepEqual(steps(NewScheduler(7, Kinds(), technologies), 10), steps(other, 10)) {
		t.Error("another seed gave the same steps")
	}
}

func TestScheduler_CoversEveryPossibleCellInOneCycle(t *testing.T) {
	for seed := range uint64(20) {
		s, m := NewScheduler(seed, Kinds(), technologies), NewMatrix(Kinds())
		for range len(Kinds()) * len(States) {
			for i, act := range s.Next().Acts {
				kind := s.kind(act.Event)
				if kind.Impossible[act.State] != "" {
					t.Fatalf("seed %d: %s is impossible", seed, act)
				}
				if kind.Only == "ssh" && i != 1 {
					t.Fatalf("seed %d: %s in a project without ssh", seed, act)
				}
				m.Hit(Cell{act.Event, act.State})
			}
			if !s.Pending() {
				break
			}
		}
		if empty := m.Empty(); len(empty) > 0 {
			t.Errorf("seed %d: never hit: %v", seed, empty)
		}
	}
}

func TestScheduler_GlobalEventHitsAllProjects(t *testing.T) {
	s := NewScheduler(3, Kinds(), technologies)
	for _, step := range steps(s, 300) {
		global := 0
		for _, act := range step.Acts {
			if s.kind(act.Event).Global {
				global++
			}
		}
		if global != 0 && (global != len(step.Acts) || step.Acts[0].Event != step.Acts[len(step.Acts)-1].Event) {
			t.Fatalf("step %d mixes events: %v", step.Number, step.Acts)
		}
	}
}

func TestScheduler_MissedCellIsTriedAgainButNotIndefinitely(t *testing.T) {
	s := NewScheduler(3, Kinds()[:1], technologies[:1])
	first := s.Next().Acts[0]
	cell := Cell{first.Event, first.State}
	tries := 0
	for s.Pending() {
		if act := s.Next().Acts[0]; act.State == cell.State {
			tries++
			s.Missed(cell)
		} else if tries == 0 {
			s.Missed(cell)
			tries = 0
		}
	}
	if tries == 0 || tries > 5 {
		t.Errorf("tried %d times more", tries)
	}
}

func TestMatrix_ShowsCountsAndImpossibleCells(t *testing.T) {
	kinds := []Kind{{Name: "enter"}, {Name: "kill", Impossible: map[State]string{Down: "nothing runs"}}}
	m := NewMatrix(kinds)
	m.Hit(Cell{"enter", Up})
	m.Hit(Cell{"enter", Up})
	if got := len(m.Empty()); got != 2*len(States)-2 {
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
	kinds, err := selectKinds(Kinds(), []string{"enter", "leave"}, []string{"leave", "enter:busy"})
	if err != nil || len(kinds) != 1 || kinds[0].Name != "enter" || kinds[0].Impossible[Busy] == "" {
		t.Errorf("%v, %v", kinds, err)
	}
	for _, wrong := range []string{"dance", "enter:asleep"} {
		if _, err := selectKinds(Kinds(), nil, []string{wrong}); err == nil {
			t.Errorf("%q is taken for an event", wrong)
		}
	}
	if len(Kinds()[0].Impossible) != 0 {
		t.Error("a selection changed the kinds")
	}
}
