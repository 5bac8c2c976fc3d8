// Package chaos drives localport as its users and the world around it do, by events of a printed seed: shells that come
// and go, processes that are killed and frozen, files that vanish, disks that are full. When it is quiet after an event,
// everything that was promised must be so. It knows commands, their JSON output, files, processes and ports, and no
// package of the product.
package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/localport-sh/localport/testdata/ports"
)

// Options say how long, and what, a run drives.
type Options struct {
	Dir      string // of the world; short, for sockets lie in it
	Binary   string // the localport under test
	Self     string // this program
	Seed     uint64
	Duration time.Duration // 0: until ctx ends
	// Complete lets a run go on to this length while cells of its matrix are empty.
	Complete time.Duration
	Steps    int      // 0: any number
	Projects int      // how many there are
	Events   []string // only these; empty: all
	Skip     []string // not these; "EVENT:STATE" for a single cell
	Replay   []Step   // these steps, instead of the seed's
	Verbose  bool
	Out      io.Writer
}

// Run drives a world until its time is over or something is violated, and prints the matrix or the violation. It reports
// whether nothing was violated, and no possible cell is empty where a run was to be complete.
func Run(ctx context.Context, o Options) (bool, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	kinds, err := selectKinds(Kinds(), o.Events, o.Skip)
	if err != nil {
		return false, err
	}
	w := &world{dir: o.Dir, binary: o.Binary, self: o.Self, ctx: ctx, stop: cancel, began: time.Now(), log: func(string, ...any) {}}
	if o.Verbose {
		w.log = func(format string, args ...any) { fmt.Fprintf(o.Out, format+"\n", args...) }
	}
	defer w.end()
	if err := w.build(o.Projects); err != nil {
		return false, err
	}
	d := &driver{w: w, o: o, matrix: NewMatrix(kinds)}
	if len(kinds) > 0 {
		d.scheduler = NewScheduler(o.Seed, kinds, w.technologies())
	}
	d.drive(ctx)
	if !w.failed() && context.Cause(ctx) == nil {
		w.checkNothingLeft()
	}
	return d.report(), nil
}

// build makes the directories, the far side and the projects, all allowed and down.
func (w *world) build(projects int) error {
	for _, dir := range []string{"o", "p", "t", "h/config", "h/data", "h/state", "h/cache"} {
		if err := os.MkdirAll(filepath.Join(w.dir, dir), 0o700); err != nil {
			return err
		}
	}
	if err := os.Setenv("TMPDIR", filepath.Join(w.dir, "t")); err != nil {
		return err
	}
	port, err := ports.Reserve()
	if err != nil {
		return err
	}
	port.Release()
	if w.ssh, err = newSSHServer(filepath.Join(w.dir, "ssh"), port.Number, w.environ()); err != nil {
		return err
	}
	for i := range projects {
		p, err := newProject(w, i)
		if err != nil {
			return err
		}
		w.projects = append(w.projects, p)
	}
	w.each(func(p *project) {
		p.write()
		p.mustRun("allow")
		if s, err := parseStatus(p.localport("status", "--json").out); err == nil {
			p.learn(s)
		}
		for _, kind := range p.shape.shells {
			p.shells = append(p.shells, p.startShell(kind, w.outside()))
		}
	})
	return nil
}

func (w *world) technologies() [][]string {
	var all [][]string
	for _, p := range w.projects {
		all = append(all, p.shape.technologies)
	}
	return all
}

// each does something in all projects at once.
func (w *world) each(fn func(*project)) {
	var working sync.WaitGroup
	for _, p := range w.projects {
		working.Go(func() {
			if w.ctx.Err() == nil {
				fn(p)
			}
		})
	}
	working.Wait()
}

// driver runs the steps.
type driver struct {
	w         *world
	o         Options
	scheduler *Scheduler
	matrix    *Matrix
	mu        sync.Mutex // of matrix
	steps     []Step
	missed    []Cell
}

// interval is how many steps there are between two looks at whether nothing remains.
const interval = 12

func (d *driver) drive(ctx context.Context) {
	for ctx.Err() == nil && !d.isOver() {
		var step Step
		if d.o.Replay != nil {
			step = d.o.Replay[len(d.steps)]
		} else {
			step = d.scheduler.Next()
		}
		d.steps = append(d.steps, step)
		d.perform(ctx, step)
		for _, cell := range d.missed {
			if d.scheduler != nil {
				d.scheduler.Missed(cell)
			}
		}
		d.missed = nil
		if step.Number%interval == 0 && ctx.Err() == nil {
			d.w.checkNothingLeft()
		}
	}
}

func (d *driver) isOver() bool {
	elapsed := time.Since(d.w.began)
	switch {
	case d.o.Replay != nil:
		return len(d.steps) == len(d.o.Replay)
	case d.o.Steps > 0:
		return len(d.steps) >= d.o.Steps
	case d.o.Duration == 0 || elapsed < d.o.Duration:
		return false
	}
	return elapsed >= d.o.Complete || len(d.matrix.Empty()) == 0
}

// perform is one step: prepare the states, let the events hit, undo them, and check.
func (d *driver) perform(ctx context.Context, step Step) {
	for i, act := range step.Acts {
		d.w.note(d.w.projects[i].name, "step %d: %s", step.Number, act)
	}
	randoms := make([]*rand.Rand, len(step.Acts))
	for i, act := range step.Acts {
		p := d.w.projects[i]
		p.act, p.undos, p.unsure, p.nudge, p.retry, p.occupied = act, nil, false, false, nil, nil
		p.stopping, p.keep = false, nil
		p.orderly = findEvent(act.Event).orderly
		randoms[i] = rand.New(rand.NewPCG(act.Seed, 2))
	}
	number := func(p *project) int { return slices.Index(d.w.projects, p) }
	if first := findEvent(step.Acts[0].Event); first.beginAll == nil {
		d.w.each(func(p *project) {
			r := randoms[number(p)]
			d.arm(p, r)
			d.hit(p, findEvent(p.act.Event).begin(p, r))
			d.last(p, r)
			p.undoAll()
			p.settle()
			p.check()
			p.stopCrowds()
		})
	} else {
		d.performAll(first, step, randoms, number)
	}
	_ = ctx
}

// performAll is a step whose event hits all projects at the same time.
func (d *driver) performAll(e *event, step Step, randoms []*rand.Rand, number func(*project) int) {
	d.w.each(func(p *project) { d.arm(p, randoms[number(p)]) })
	if d.w.ctx.Err() != nil {
		return
	}
	undo, err := e.beginAll(d.w, rand.New(rand.NewPCG(step.Acts[0].Seed, 3)))
	d.w.each(func(p *project) {
		d.hit(p, err == nil)
		d.last(p, randoms[number(p)])
	})
	if undo != nil {
		undo()
	}
	d.w.each(func(p *project) {
		p.settle()
		p.check()
		p.stopCrowds()
	})
}

// arm brings a project into the state of its act, and waits as long as the act says.
func (d *driver) arm(p *project, r *rand.Rand) {
	e := findEvent(p.act.Event)
	p.arm(r, p.act.State, e.needs)
	if d.w.ctx.Err() != nil {
		return
	}
	if e.early && p.act.State == Starting {
		return // kicked after the event
	}
	p.kick(r, p.act.State, e.needs)
	if p.act.State == Starting {
		d.w.pause(p.act.Delay / 4) // a start takes no longer
		return
	}
	if p.act.State == Stopping {
		d.w.pause(p.act.Delay * 5 / 2) // also beyond linger, when it ends by itself
		return
	}
	d.w.pause(p.act.Delay)
}

// hit notes whether the event has hit in the state that it was meant for.
func (d *driver) hit(p *project, ok bool) {
	cell := Cell{p.act.Event, p.act.State}
	d.mu.Lock()
	defer d.mu.Unlock()
	if ok && d.w.ctx.Err() == nil {
		d.matrix.Hit(cell)
		return
	}
	p.note("missed")
	d.missed = append(d.missed, cell)
}

// last lets the event last, and something else happen meanwhile.
func (d *driver) last(p *project, r *rand.Rand) {
	if findEvent(p.act.Event).early && p.act.State == Starting {
		p.kick(r, Starting, needsNothing)
	}
	if p.act.Hold == 0 || d.w.ctx.Err() != nil {
		return
	}
	p.async.Go(func() { p.meanwhile(r, p.act.Meanwhile) })
	d.w.pause(p.act.Hold)
}

func (p *project) undoAll() {
	for _, undo := range slices.Backward(p.undos) {
		undo()
	}
	p.undos = nil
}

// settle puts right what users would: it repeats what failed, and decides what overlapped.
func (p *project) settle() {
	if p.act.State == Degraded {
		if err := p.far.begin(); err != nil {
			p.fail("%v", err)
		}
	}
	p.async.Wait()
	p.occupied = nil
	if p.absent != nil {
		p.absent.inside, p.absent = false, nil
	}
	p.repair()
	for _, args := range p.retry {
		p.note("again: %s", strings.Join(args, " "))
		p.mustRun(args...)
	}
	if p.unsure {
		p.note("start, which decides what overlapped")
		p.mustRun("start", "--no-wait")
		p.started, p.down = true, false
	}
	if p.nudge && p.isWanted() && !slices.ContainsFunc(p.shells, func(s *shell) bool { return s.inside }) {
		p.mustRun("exec", "-s", "web", "--", "true")
	}
}

// report prints the matrix, or the violation and everything there is to know of it.
func (d *driver) report() bool {
	out := d.o.Out
	fmt.Fprintf(out, "\n%s\n", d.matrix)
	v := d.w.violation
	if v == nil {
		empty := d.matrix.Empty()
		fmt.Fprintf(out, "seed %d: %d steps in %v, nothing violated, %d cells empty\n", d.o.Seed, len(d.steps),
			time.Since(d.w.began).Round(time.Second), len(empty))
		return d.o.Complete == 0 || len(empty) == 0
	}
	fmt.Fprintf(out, "history:\n%s\n\n%s\n", strings.Join(d.w.history, "\n"), v.state)
	if steps, err := json.Marshal(d.steps); err == nil {
		fmt.Fprintf(out, "steps, for -replay:\n%s\n\n", steps)
	}
	fmt.Fprintf(out, "VIOLATED after %v, in step %d of seed %d%s: %s: %s\n", v.at.Round(time.Millisecond), len(d.steps), d.o.Seed,
		d.w.actOf(v.project), v.project, v.text)
	return false
}

// actOf is what happened last to a project, in parentheses; empty where there is no such project.
func (w *world) actOf(name string) string {
	for _, p := range w.projects {
		if p.name == name {
			return fmt.Sprintf(" (%s)", p.act)
		}
	}
	return ""
}

// describe is the state of everything that a violation may have to do with.
func (w *world) describe(name string) string {
	var b strings.Builder
	fmt.Fprintln(&b, "processes:")
	for _, p := range processes() {
		fmt.Fprintln(&b, " ", p)
	}
	for _, p := range w.projects {
		if p.name != name && name != "" {
			continue
		}
		if text, err := os.ReadFile(p.stateFile("state.json")); err == nil {
			fmt.Fprintf(&b, "%s, state.json: %s\n", p.name, text)
		}
		fmt.Fprintf(&b, "%s, status: %s\n", p.name, p.localport("status", "--json").out)
		if text, err := os.ReadFile(p.stateFile("log/supervisor.log")); err == nil {
			lines := strings.Split(strings.TrimSpace(string(text)), "\n")
			const tail = 40
			fmt.Fprintf(&b, "%s, supervisor.log:\n%s\n", p.name, strings.Join(lines[max(0, len(lines)-tail):], "\n"))
		}
		for _, s := range p.shells {
			if s.Shell != nil && !s.dead {
				fmt.Fprintf(&b, "%s %d\n", s.kind, s.PID())
			}
		}
	}
	return b.String()
}
