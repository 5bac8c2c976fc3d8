package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// State is the situation in which an event hits a project.
type State string

// The states, in the order of the matrix.
const (
	Down     State = "down"     // no supervisor runs
	Starting State = "starting" // a shell, an exec or a start is bringing it up
	Up       State = "up"       // everything runs, no client is connected
	Busy     State = "busy"     // everything runs, clients are connected and send
	Stopping State = "stopping" // the last lease has just gone, or a stop is under way
	Degraded State = "degraded" // it runs, and the far end of its services is gone
)

// States are all states.
var States = []State{Down, Starting, Up, Busy, Stopping, Degraded}

// Kind describes an event to the scheduler and the matrix.
type Kind struct {
	Name       string
	Global     bool             // it hits all projects at the same time
	Impossible map[State]string // states in which it cannot hit, and why
	Holds      bool             // it lasts for a while, in which something else happens
	Only       string           // the technology that a project needs for it; empty: any project
}

// Cell is one field of the matrix.
type Cell struct {
	Event string
	State State
}

// Act is what happens to one project in one step.
type Act struct {
	Event     string        `json:"event"`
	State     State         `json:"state"`
	Meanwhile string        `json:"meanwhile,omitempty"` // what else happens while the event lasts
	Delay     time.Duration `json:"delay"`               // from the moment the state is reached to the event
	Hold      time.Duration `json:"hold"`                // how long the event lasts
	Seed      uint64        `json:"seed"`                // of every smaller choice of the act
}

func (a Act) String() string {
	text := fmt.Sprintf("%s while %s, after %v", a.Event, a.State, a.Delay)
	if a.Hold > 0 {
		text += fmt.Sprintf(", for %v", a.Hold)
	}
	if a.Meanwhile != "" {
		text += ", meanwhile " + a.Meanwhile
	}
	return text
}

// Step is one act for each project, at the same time.
type Step struct {
	Number int   `json:"number"`
	Acts   []Act `json:"acts"`
}

// meanwhiles are what may happen while an event lasts. An empty one is more likely than any other.
var meanwhiles = []string{"", "", "", "enter", "leave", "kill shell", "exec", "start", "stop", "kill supervisor", "status", "prompt"}

// Scheduler chooses what happens next, preferring cells that have not been covered. The same seed gives the same steps,
// as long as the same cells are reported as missed.
type Scheduler struct {
	random       *rand.Rand
	kinds        []Kind
	technologies [][]string // of each project
	queue        []Cell     // still to be covered in this cycle
	missed       map[Cell]int
	number       int
}

// NewScheduler makes a scheduler for projects that have services of these technologies.
func NewScheduler(seed uint64, kinds []Kind, technologies [][]string) *Scheduler {
	return &Scheduler{random: rand.New(rand.NewPCG(seed, 1)), kinds: kinds, technologies: technologies}
}

// Next is the next step.
func (s *Scheduler) Next() Step {
	if len(s.queue) == 0 {
		s.queue, s.missed = s.shuffledCells(), map[Cell]int{}
	}
	s.number++
	step := Step{Number: s.number}
	first := s.kind(s.queue[0].Event)
	for project := range s.technologies {
		step.Acts = append(step.Acts, s.act(s.choose(project, func(k Kind) bool {
			if first.Global {
				return k.Name == first.Name
			}
			return !k.Global
		})))
	}
	return step
}

// Missed puts a cell back that its step did not reach, some times in a cycle.
func (s *Scheduler) Missed(cell Cell) {
	const often = 4
	if s.missed[cell]++; s.missed[cell] <= often {
		s.queue = append(s.queue, cell)
	}
}

// Pending reports whether cells of this cycle are still to be covered.
func (s *Scheduler) Pending() bool { return len(s.queue) > 0 }

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

func (s *Scheduler) kind(name string) Kind {
	return s.kinds[slices.IndexFunc(s.kinds, func(k Kind) bool { return k.Name == name })]
}

// choose takes the first cell of the queue that fits a project, or any that fits where the queue has none.
func (s *Scheduler) choose(project int, fits func(Kind) bool) Cell {
	ok := func(cell Cell) bool {
		kind := s.kind(cell.Event)
		return fits(kind) && (kind.Only == "" || slices.Contains(s.technologies[project], kind.Only))
	}
	if at := slices.IndexFunc(s.queue, ok); at >= 0 {
		cell := s.queue[at]
		s.queue = slices.Delete(s.queue, at, at+1)
		return cell
	}
	cells := slices.DeleteFunc(s.shuffledCells(), func(cell Cell) bool { return !ok(cell) })
	return cells[0]
}

func (s *Scheduler) act(cell Cell) Act {
	const longestDelay, shortestHold, longestHold = 400, 200, 2500 // milliseconds
	act := Act{Event: cell.Event, State: cell.State, Seed: s.random.Uint64()}
	act.Delay = time.Duration(s.random.IntN(longestDelay)) * time.Millisecond
	meanwhile := meanwhiles[s.random.IntN(len(meanwhiles))]
	hold := time.Duration(shortestHold+s.random.IntN(longestHold-shortestHold)) * time.Millisecond
	if s.kind(cell.Event).Holds {
		act.Hold, act.Meanwhile = hold, meanwhile
	}
	return act
}

// selectKinds takes the kinds that are asked for, all where none is, without those to be skipped; an entry of skip that
// is "EVENT:STATE" makes one cell impossible.
func selectKinds(all []Kind, events, skip []string) ([]Kind, error) {
	find := func(name string) int { return slices.IndexFunc(all, func(k Kind) bool { return k.Name == name }) }
	for _, entry := range append(slices.Clone(events), skip...) {
		name, state, cell := strings.Cut(entry, ":")
		if find(name) < 0 || cell && !slices.Contains(States, State(state)) {
			return nil, fmt.Errorf("there is no event %q", entry)
		}
		if cell {
			all[find(name)].Impossible[State(state)] = "it is left out by -skip"
		}
	}
	return slices.DeleteFunc(all, func(k Kind) bool {
		return slices.Contains(skip, k.Name) || len(events) > 0 && !slices.Contains(events, k.Name)
	}), nil
}
