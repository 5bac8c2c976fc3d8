package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// State is the state of a project in which an event happens.
type State string

// The states, in the order of the matrix.
const (
	Down     State = "down"     // no supervisor runs
	Starting State = "starting" // a shell, an exec or a start is bringing it up
	Up       State = "up"       // everything runs, no client is connected
	Busy     State = "busy"     // everything runs, clients are connected and send
	Stopping State = "stopping" // the last lease has just gone, or a stop is under way
	Degraded State = "degraded" // it runs, and the upstream of its services does not
)

// States has all states, in that order.
var States = []State{Down, Starting, Up, Busy, Stopping, Degraded}

// EventKind is what the scheduler and the matrix know of an event.
type EventKind struct {
	Name       string
	Global     bool             // it happens to all projects at the same time
	Impossible map[State]string // states in which it cannot happen, and why
	Lasts      bool             // it lasts for a while, and something else may happen meanwhile
	Technology string           // it happens only to projects with a service of this technology; "": to any
}

// Cell is one cell of the matrix: an event that happens in a state.
type Cell struct {
	Event string
	State State
}

// Act is what happens to one project in one step.
type Act struct {
	Event     string        `json:"event"`
	State     State         `json:"state"`
	Meanwhile string        `json:"meanwhile,omitempty"` // one of meanwhileActions, while the event lasts
	Delay     time.Duration `json:"delay"`               // from the moment the state is reached to the event
	Duration  time.Duration `json:"hold"`                // how long the event lasts
	Seed      uint64        `json:"seed"`                // for the random choices within the act
}

func (a Act) String() string {
	text := fmt.Sprintf("%s while %s, after %v", a.Event, a.State, a.Delay)
	if a.Duration > 0 {
		text += fmt.Sprintf(", for %v", a.Duration)
	}
	if a.Meanwhile != "" {
		text += ", meanwhile " + a.Meanwhile
	}
	return text
}

// Step is one act for each project. They are performed at the same time.
type Step struct {
	Number int   `json:"number"`
	Acts   []Act `json:"acts"`
}

// meanwhileActions are what may happen while an event lasts. "", which stands for nothing, is more likely than any other.
var meanwhileActions = []string{"", "", "", "enter", "leave", "kill shell", "exec", "start", "stop", "kill supervisor", "status", "prompt"}

// Scheduler chooses the steps. It goes through all possible cells in random order, again and again. The same seed gives the same
// steps as long as ScheduleAgain is called for the same cells.
type Scheduler struct {
	random       *rand.Rand
	kinds        []EventKind
	technologies [][]string   // of each project
	queue        []Cell       // the cells that are left in this cycle
	missed       map[Cell]int // by cell, how often it was scheduled again in this cycle
	number       int          // of the last step
}

// NewScheduler makes a scheduler for projects that have services of these technologies.
func NewScheduler(seed uint64, kinds []EventKind, technologies [][]string) *Scheduler {
	return &Scheduler{random: rand.New(rand.NewPCG(seed, 1)), kinds: kinds, technologies: technologies}
}

// Next returns the next step.
func (s *Scheduler) Next() Step {
	if len(s.queue) == 0 {
		s.queue, s.missed = s.shuffledCells(), map[Cell]int{}
	}
	s.number++
	step := Step{Number: s.number}
	first := s.findKind(s.queue[0].Event)
	for project := range s.technologies {
		step.Acts = append(step.Acts, s.newAct(s.chooseCell(project, func(k EventKind) bool {
			if first.Global {
				return k.Name == first.Name
			}
			return !k.Global
		})))
	}
	return step
}

// ScheduleAgain puts a cell back into the queue because its event did not happen in its state, at most four times in a cycle.
func (s *Scheduler) ScheduleAgain(cell Cell) {
	const maxRepeats = 4
	if s.missed[cell]++; s.missed[cell] <= maxRepeats {
		s.queue = append(s.queue, cell)
	}
}

// HasPending reports whether cells of this cycle are left.
func (s *Scheduler) HasPending() bool { return len(s.queue) > 0 }

func (s *Scheduler) shuffledCells() []Cell {
	var cells []Cell
	for _, kind := range s.kinds {
		for _, state := range States {
			if kind.Impossible[state] == "" {
				cells = append(cells, Cell{kind.Name, state})
			}
		}
	}
	s.random.Shuffle(len(cells), func(i, j int) { cells[i], cells[j] = cells[j], cells[i] })
	return cells
}

func (s *Scheduler) findKind(name string) EventKind {
	return s.kinds[slices.IndexFunc(s.kinds, func(k EventKind) bool { return k.Name == name })]
}

// chooseCell takes the first cell that fits a project from the queue, or a random one that fits if the queue has none.
func (s *Scheduler) chooseCell(project int, isAllowed func(EventKind) bool) Cell {
	fits := func(cell Cell) bool {
		kind := s.findKind(cell.Event)
		return isAllowed(kind) && (kind.Technology == "" || slices.Contains(s.technologies[project], kind.Technology))
	}
	if at := slices.IndexFunc(s.queue, fits); at >= 0 {
		cell := s.queue[at]
		s.queue = slices.Delete(s.queue, at, at+1)
		return cell
	}
	cells := slices.DeleteFunc(s.shuffledCells(), func(cell Cell) bool { return !fits(cell) })
	return cells[0]
}

// newAct makes an act of a cell with random delays. It draws every number, whether the event needs it or not.
func (s *Scheduler) newAct(cell Cell) Act {
	const longestDelay, shortest, longest = 400, 200, 2500 // milliseconds
	act := Act{Event: cell.Event, State: cell.State, Seed: s.random.Uint64()}
	act.Delay = time.Duration(s.random.IntN(longestDelay)) * time.Millisecond
	meanwhile := meanwhileActions[s.random.IntN(len(meanwhileActions))]
	duration := time.Duration(shortest+s.random.IntN(longest-shortest)) * time.Millisecond
	if s.findKind(cell.Event).Lasts {
		act.Duration, act.Meanwhile = duration, meanwhile
	}
	return act
}

// selectKinds returns the kinds that events names, all if it is empty, without those that skip names. An entry of skip of the form
// "EVENT:STATE" makes one cell impossible.
func selectKinds(all []EventKind, events, skip []string) ([]EventKind, error) {
	find := func(name string) int { return slices.IndexFunc(all, func(k EventKind) bool { return k.Name == name }) }
	for _, entry := range append(slices.Clone(events), skip...) {
		name, state, isCell := strings.Cut(entry, ":")
		if find(name) < 0 || isCell && !slices.Contains(States, State(state)) {
			return nil, fmt.Errorf("there is no event %q", entry)
		}
		if isCell {
			all[find(name)].Impossible[State(state)] = "-skip names it"
		}
	}
	return slices.DeleteFunc(all, func(k EventKind) bool {
		return slices.Contains(skip, k.Name) || len(events) > 0 && !slices.Contains(events, k.Name)
	}), nil
}
