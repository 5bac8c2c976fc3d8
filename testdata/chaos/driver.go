// Package chaos tests localport with random events, which a seed determines: shells come and go, processes are killed and frozen,
// files vanish, disks are full. After each event every promise of the design must be kept. It uses commands, their JSON
// output, files, processes and ports, and imports no package of the product.
package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// Options are the settings of a run.
type Options struct {
	Dir      string // for everything that the run makes; its path must be short, because sockets are made there
	Binary   string // the localport under test
	Self     string // this program
	Seed     uint64
	Duration time.Duration // 0: until ctx ends
	Complete time.Duration // continue for up to this time while cells of the matrix are empty; 0: do not continue
	Steps    int           // 0: any number
	Projects int           // the number of projects
	Events   []string      // only these; empty: all
	Skip     []string      // not these; "EVENT:STATE" for a single cell
	Replay   []Step        // perform these steps, and none of the seed's
	Verbose  bool          // print the history while the run lasts
	Out      io.Writer
}

// Run performs steps until the time is up or a promise is broken, and prints the matrix or the violation. It reports whether no
// promise was broken and, if Complete is set, no possible cell is empty.
func Run(ctx context.Context, o Options) (bool, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	kinds, err := selectKinds(EventKinds(), o.Events, o.Skip)
	if err != nil {
		return false, err
	}
	for _, step := range o.Replay {
		for _, act := range step.Acts {
			if !slices.ContainsFunc(events, func(e event) bool { return e.Name == act.Event }) {
				return false, fmt.Errorf("there is no event %q, which step %d of the replay names", act.Event, step.Number)
			}
		}
	}
	w := &world{dir: o.Dir, binary: o.Binary, self: o.Self, ctx: ctx, cancel: cancel, startedAt: time.Now(), onLogLine: func(string) {}}
	if o.Verbose {
		w.onLogLine = func(line string) { fmt.Fprintln(o.Out, line) }
	}
	defer w.close()
	if err := w.setUp(o.Projects); err != nil {
		return false, err
	}
	d := &driver{world: w, options: o, matrix: NewMatrix(kinds)}
	if len(kinds) > 0 {
		d.scheduler = NewScheduler(o.Seed, kinds, w.technologies())
	}
	d.runSteps(ctx)
	if !w.hasViolation() && context.Cause(ctx) == nil {
		w.checkNothingLeft()
	}
	return d.report(), nil
}

// driver performs the steps of a run.
type driver struct {
	world        *world
	options      Options
	scheduler    *Scheduler // nil where no event is selected
	startedSteps []Step

	mu     sync.Mutex // guards the fields that follow
	matrix *Matrix
	missed []Cell // cells of the current step whose event did not happen in their state
}

// leftoverCheckInterval is the number of steps between two calls of checkNothingLeft.
const leftoverCheckInterval = 12

func (d *driver) runSteps(ctx context.Context) {
	for ctx.Err() == nil && !d.isFinished() {
		var step Step
		if d.options.Replay != nil {
			step = d.options.Replay[len(d.startedSteps)]
		} else {
			step = d.scheduler.Next()
		}
		d.startedSteps = append(d.startedSteps, step)
		d.performStep(step)
		for _, cell := range d.missed {
			if d.scheduler != nil {
				d.scheduler.ScheduleAgain(cell)
			}
		}
		d.missed = nil
		if step.Number%leftoverCheckInterval == 0 && ctx.Err() == nil {
			d.world.checkNothingLeft()
		}
	}
}

func (d *driver) isFinished() bool {
	elapsed := time.Since(d.world.startedAt)
	switch {
	case d.options.Replay != nil:
		return len(d.startedSteps) == len(d.options.Replay)
	case d.options.Steps > 0:
		return len(d.startedSteps) >= d.options.Steps
	case d.options.Duration == 0 || elapsed < d.options.Duration:
		return false
	}
	return elapsed >= d.options.Complete || len(d.matrix.EmptyCells()) == 0
}

// performStep performs one step: each project reaches its state, the event begins, lasts and ends, and the project is checked.
func (d *driver) performStep(step Step) {
	for i, act := range step.Acts {
		d.world.logf(d.world.projects[i].name, "step %d: %s", step.Number, act)
	}
	randoms := make([]*rand.Rand, len(step.Acts))
	for i, act := range step.Acts {
		p := d.world.projects[i]
		p.act, p.undoFuncs, p.isOutcomeUnknown, p.mayBeDownUnnoticed, p.commandsToRepeat, p.busyShell = act, nil, false, false, nil, nil
		p.isStopping, p.tunnelsToKeep, p.sshStopsBefore = false, nil, d.world.sshStops.Load()
		p.commandsMustSucceed = findEvent(act.Event).commandsMustSucceed
		randoms[i] = rand.New(rand.NewPCG(act.Seed, 2))
	}
	number := func(p *project) int { return slices.Index(d.world.projects, p) }
	if first := findEvent(step.Acts[0].Event); first.applyToAll == nil {
		d.world.forEachProject(func(p *project) {
			r := randoms[number(p)]
			d.reachState(p, r)
			d.recordHit(p, findEvent(p.act.Event).apply(p, r))
			d.holdEvent(p, r)
			p.runUndos()
			p.finishAct()
			p.checkPromises()
			p.disconnectClients()
		})
	} else {
		d.performGlobalStep(first, step, randoms, number)
	}
}

// performGlobalStep performs a step whose event happens to all projects at the same time.
func (d *driver) performGlobalStep(e *event, step Step, randoms []*rand.Rand, number func(*project) int) {
	d.world.forEachProject(func(p *project) { d.reachState(p, randoms[number(p)]) })
	if d.world.ctx.Err() != nil {
		return
	}
	undo, err := e.applyToAll(d.world, rand.New(rand.NewPCG(step.Acts[0].Seed, 3)))
	d.world.forEachProject(func(p *project) {
		d.recordHit(p, err == nil)
		d.holdEvent(p, randoms[number(p)])
	})
	if undo != nil {
		undo()
	}
	d.world.forEachProject(func(p *project) {
		p.finishAct()
		p.checkPromises()
		p.disconnectClients()
	})
}

// reachState brings a project into the state of its act, and waits as long as the act says.
func (d *driver) reachState(p *project, r *rand.Rand) {
	e := findEvent(p.act.Event)
	p.prepareState(r, p.act.State, e.requires)
	if d.world.ctx.Err() != nil {
		return
	}
	if e.comesBeforeStart && p.act.State == Starting {
		return // holdEvent begins the start
	}
	p.beginTransition(r, p.act.State, e.requires)
	if p.act.State == Starting {
		d.world.pause(p.act.Delay / 4) // a start takes less than the longest delay
		return
	}
	if p.act.State == Stopping {
		d.world.pause(p.act.Delay * 5 / 2) // up to twice linger, after which the project ends by itself
		return
	}
	d.world.pause(p.act.Delay)
}

// recordHit counts the act's event in the matrix, or records that it did not happen.
func (d *driver) recordHit(p *project, hasHappened bool) {
	cell := Cell{p.act.Event, p.act.State}
	d.mu.Lock()
	defer d.mu.Unlock()
	if hasHappened && d.world.ctx.Err() == nil {
		d.matrix.CountHit(cell)
		return
	}
	p.logf("missed")
	d.missed = append(d.missed, cell)
}

// holdEvent returns after the duration of the act. In the background it begins what the act says happens meanwhile.
func (d *driver) holdEvent(p *project, r *rand.Rand) {
	if findEvent(p.act.Event).comesBeforeStart && p.act.State == Starting {
		p.beginTransition(r, Starting, requiresNobody)
	}
	if p.act.Duration == 0 || d.world.ctx.Err() != nil {
		return
	}
	p.background.Go(func() { p.performMeanwhile(r, p.act.Meanwhile) })
	d.world.pause(p.act.Duration)
}

func (p *project) runUndos() {
	for _, undo := range slices.Backward(p.undoFuncs) {
		undo()
	}
	p.undoFuncs = nil
}

// finishAct waits for the background and does what users would do after the event: it repeats the commands that failed, and runs a
// start where the outcome of commands that overlapped is unknown.
func (p *project) finishAct() {
	if p.act.State == Degraded {
		if err := p.upstream.start(); err != nil {
			p.fail("%v", err)
		}
	}
	p.background.Wait()
	p.busyShell = nil
	if p.shellWithoutDir != nil {
		p.shellWithoutDir.isInside, p.shellWithoutDir = false, nil
	}
	p.restoreUsers()
	for _, args := range p.commandsToRepeat {
		p.logf("again: %s", strings.Join(args, " "))
		p.mustRun(args...)
	}
	if p.isOutcomeUnknown {
		p.logf("start, because commands overlapped")
		p.mustRun("start", "--no-wait")
		p.hasStartLease, p.isDown = true, false
	}
	if p.mayBeDownUnnoticed && p.mustBeUp() && !slices.ContainsFunc(p.shells, func(s *shell) bool { return s.isInside }) {
		p.mustRun("exec", "-s", "web", "--", "true")
	}
}

// report prints the matrix and, if a promise was broken, the violation with the history and the steps. It returns what Run returns.
func (d *driver) report() bool {
	out := d.options.Out
	fmt.Fprintf(out, "\n%s\n", d.matrix)
	v := d.world.violation
	if v == nil {
		empty := d.matrix.EmptyCells()
		fmt.Fprintf(out, "seed %d: %d steps in %v, nothing violated, %d cells empty\n", d.options.Seed, len(d.startedSteps),
			time.Since(d.world.startedAt).Round(time.Second), len(empty))
		return d.options.Complete == 0 || len(empty) == 0
	}
	fmt.Fprintf(out, "history:\n%s\n\n%s\n", strings.Join(d.world.history, "\n"), v.state)
	if steps, err := json.Marshal(d.startedSteps); err == nil {
		fmt.Fprintf(out, "steps, for -replay:\n%s\n\n", steps)
	}
	fmt.Fprintf(out, "VIOLATED after %v, in step %d of seed %d%s: %s: %s\n", v.at.Round(time.Millisecond), len(d.startedSteps), d.options.Seed,
		d.world.lastActOf(v.project), v.project, v.text)
	return false
}
