package native

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/kubectl/session"
	"github.com/localport-sh/localport/forwarder/tasks"
)

const (
	// readiness is how long connections wait for a Ready pod before one that only runs has to do.
	readiness = 2 * time.Second
	// grudge is how long a pod that refused a connection comes after others.
	grudge = 2 * time.Second
)

// choice is where a connection goes.
type choice struct {
	pod, uid, node string
	port           int
	good           bool // nobody had to wait for it
	restarts       int  // of the pod's containers so far
}

// finder knows which pod the next connection goes to. What it knows is kept up to date by watches.
type finder struct {
	session *session.Session
	target  Target
	words   session.Words

	owner    *session.Watch // nil: the target is a pod or a selector
	done     chan struct{}
	cancel   context.CancelFunc
	releases []func()

	looking sync.Mutex // held while things are looked at

	mu       sync.Mutex
	pods     *session.Watch // nil: not known yet which
	selector string
	release  func()
	of       *owner
	ofErr    error
	seen     uint64
	ofSeen   uint64
	all      pods
	unready  time.Time // since when no pod is Ready; zero: one is
	refused  map[string]time.Time
	trouble  *forwarder.Failure
	judged   bool
	told     chan struct{} // closed when something has changed
}

// newFinder follows what the target is. A panic in it is given to broke.
func newFinder(group *tasks.Group, s *session.Session, t Target, words session.Words, broke func(*forwarder.Failure, []byte)) *finder {
	f := &finder{
		session: s, target: t, words: words, done: make(chan struct{}), refused: make(map[string]time.Time), told: make(chan struct{}),
	}
	namespace := words.Place.Namespace
	switch {
	case t.Selector != "":
		f.watchPods(t.Selector, "")
	case t.Type == "pod":
		f.watchPods("", t.Name)
	default:
		w, release := s.Watch(path(t.Type, namespace), "", t.Name)
		f.owner, f.releases = w, append(f.releases, release)
	}
	f.cancel = group.Go(func(ctx context.Context) {
		defer close(f.done)
		forwarder.Contain(func() { f.run(ctx) }, broke)
	})
	return f
}

func (f *finder) close() {
	f.cancel()
	<-f.done
	for _, release := range f.releases {
		release()
	}
	if f.release != nil {
		f.release()
	}
}

// watchPods follows other pods from now on.
func (f *finder) watchPods(labels, name string) {
	if f.release != nil {
		f.release()
	}
	f.selector, f.seen, f.all = labels, 0, nil
	f.pods, f.release = f.session.Watch(path("pod", f.words.Place.Namespace), labels, name)
}

// run takes what the watches say.
func (f *finder) run(ctx context.Context) {
	for ctx.Err() == nil {
		ownerChanged, podsChanged := f.look(ctx)
		_, reach := f.session.Reach()
		select {
		case <-ctx.Done():
		case <-ownerChanged:
		case <-podsChanged:
		case <-reach:
		case <-f.due():
			f.renew(ctx)
		}
	}
}

// look takes things as they are known now.
func (f *finder) look(ctx context.Context) (ownerChanged, podsChanged <-chan struct{}) {
	f.looking.Lock()
	defer f.looking.Unlock()
	ownerChanged = f.lookAtOwner(ctx)
	podsChanged = f.lookAtPods(ctx)
	if ctx.Err() == nil {
		f.judge()
	}
	return ownerChanged, podsChanged
}

// recheck is how often things are asked for while something is wrong and the user may not watch.
const recheck = 2 * time.Second

// due fires when there is something to look at that no watch tells: a pod that only runs has to do, or, where the user may
// not watch, what is wrong may be right again.
func (f *finder) due() <-chan time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.unready.IsZero() {
		if left := readiness - time.Since(f.unready); left > 0 {
			return time.After(left + time.Millisecond)
		}
	}
	if f.trouble != nil && f.barred() {
		return time.After(recheck)
	}
	return nil
}

// barred reports whether the user may not watch. f.mu is held.
func (f *finder) barred() bool {
	return f.pods != nil && f.pods.Barred() || f.owner != nil && f.owner.Barred()
}

// renew asks for things anew where the user may not watch; true if it did.
func (f *finder) renew(ctx context.Context) bool {
	f.mu.Lock()
	watches := []*session.Watch{f.owner, f.pods}
	f.mu.Unlock()
	renewed := false
	for _, w := range watches {
		if w != nil {
			asked, err := w.Renew(ctx)
			renewed = renewed || asked && err == nil
		}
	}
	return renewed
}

// never is a channel that nothing is told on.
var never = make(chan struct{})

// lookAtOwner takes the owner as it is now, and follows other pods where it selects others.
func (f *finder) lookAtOwner(ctx context.Context) <-chan struct{} {
	if f.owner == nil {
		return never
	}
	objects, version, changed, err := f.owner.Objects(ctx)
	if ctx.Err() != nil {
		return never
	}
	if err == nil && version == f.ofSeen {
		return changed
	}
	f.ofSeen = version
	var o *owner
	if err == nil && len(objects) > 0 {
		o = new(owner)
		err = json.Unmarshal(objects[0], o)
	} else if err == nil {
		err = &forwarder.Failure{
			Class:  forwarder.Permanent,
			Reason: fmt.Sprintf("%s %q is not there any more", f.target.Type, f.target.Name),
			Hint:   f.words.Namespaced("get " + f.words.Kind()),
		}
	}
	if err == nil {
		err = f.target.fits(o, f.words)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.of, f.ofErr = o, err
	if err == nil {
		if labels, _ := o.labels(f.target); labels != f.selector || f.pods == nil {
			f.watchPods(labels, "")
		}
	}
	return changed
}

func (f *finder) lookAtPods(ctx context.Context) <-chan struct{} {
	f.mu.Lock()
	watch := f.pods
	f.mu.Unlock()
	if watch == nil {
		return never
	}
	objects, version, changed, err := watch.Objects(ctx)
	if ctx.Err() != nil {
		return never
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil && version != f.seen {
		f.seen = version
		f.all, err = decode(objects)
	}
	if err != nil {
		f.ofErr = err
	} else if f.owner == nil {
		f.ofErr = nil
	}
	return changed
}

// judge finds out whether a connection could be had now, and tells.
func (f *finder) judge() {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.all.best(func(p *pod) bool { return f.good(p) }, f.refusedLately) != nil:
		f.unready = time.Time{}
	case f.unready.IsZero():
		f.unready = time.Now()
	}
	f.trouble, f.judged = f.why(), true
	close(f.told)
	f.told = make(chan struct{})
}

// good reports whether a pod is one that connections need not wait for: a pod named as such has only to run.
func (f *finder) good(p *pod) bool {
	if f.target.Type == "pod" && f.target.Selector == "" {
		return p.running()
	}
	return p.ready()
}

// why is what stands in the way of connections, nil if nothing does.
func (f *finder) why() *forwarder.Failure {
	if err, _ := f.session.Reach(); err != nil {
		return f.session.Failure(err, f.words)
	}
	if f.ofErr != nil {
		return f.session.Failure(f.ofErr, f.words)
	}
	if !f.unready.IsZero() {
		return f.noPod()
	}
	if p := f.all.best(f.good, f.refusedLately); p != nil {
		if _, err := f.target.portOf(p, f.of); err != nil {
			return &forwarder.Failure{Class: forwarder.Permanent, Reason: err.Error(), Hint: f.words.Namespaced("describe pod/" + p.Metadata.Name)}
		}
	}
	return nil
}

// noPod words that no pod is ready.
func (f *finder) noPod() *forwarder.Failure {
	hint := f.words.Namespaced("get pods")
	if f.selector != "" {
		hint = f.words.Namespaced("get pods -l '" + f.selector + "'")
	}
	if len(f.all) == 0 {
		reason := "no pod matches " + f.selector
		if f.selector == "" {
			reason = fmt.Sprintf("pod %q is not there", f.target.Name)
		} else if f.target.Selector == "" {
			reason = fmt.Sprintf("%s has no pods (%s)", f.target.Resource(), f.selector)
		}
		return &forwarder.Failure{Reason: reason + "; connections wait for one", Hint: hint}
	}
	newest := f.all[0]
	reason := fmt.Sprintf("pod %s is %s", newest.Metadata.Name, newest.state())
	if more := len(f.all) - 1; more > 0 {
		reason += fmt.Sprintf(" (and %d more pods are not Ready)", more)
	}
	return &forwarder.Failure{Reason: reason, Hint: f.words.Namespaced("describe pod/" + newest.Metadata.Name)}
}

// settle waits until the target was looked at, and says what is wrong with it, if more than that it has no pod.
func (f *finder) settle(ctx context.Context) error {
	f.mu.Lock()
	judged, told := f.judged, f.told
	f.mu.Unlock()
	if !judged {
		select {
		case <-told:
		case <-ctx.Done():
			if err, _ := f.session.Reach(); err != nil {
				return f.session.Failure(err, f.words)
			}
			return ctx.Err()
		}
	}
	f.mu.Lock()
	err, gone := f.ofErr, f.of == nil && f.owner != nil || f.target.Type == "pod" && f.target.Selector == "" && len(f.all) == 0
	f.mu.Unlock()
	if reach, _ := f.session.Reach(); reach != nil {
		return f.session.Failure(reach, f.words)
	}
	if err == nil && !gone {
		return nil
	}
	// Asked for by its name, the server says best what is missing.
	if missing := f.target.lookup(ctx, f.session, f.words); missing != nil {
		return missing
	}
	if err != nil {
		return f.session.Failure(err, f.words)
	}
	return nil
}

// refuse notes that a pod refused a connection.
func (f *finder) refuse(uid string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	for uid, at := range f.refused {
		if now.Sub(at) > grudge {
			delete(f.refused, uid)
		}
	}
	f.refused[uid] = now
}

func (f *finder) refusedLately(uid string) bool {
	at, ok := f.refused[uid]
	return ok && time.Since(at) < grudge
}

// state is what stands in the way of connections now, nil if nothing does, and a channel that is closed when that may
// have changed.
func (f *finder) state() (*forwarder.Failure, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.trouble, f.told
}

// pick is where the next connection goes. It waits until there is a pod; the error then says what it waited for.
func (f *finder) pick(ctx context.Context) (choice, error) {
	for {
		if f.renew(ctx) {
			f.look(ctx)
		}
		at, trouble, told, due := f.choose()
		if at != nil {
			return *at, nil
		}
		select {
		case <-told:
		case <-due:
		case <-ctx.Done():
			return choice{}, f.waited(ctx, trouble)
		}
	}
}

// waited is the error of a connection that could not be had in time.
func (f *finder) waited(ctx context.Context, trouble *forwarder.Failure) error {
	if trouble == nil {
		trouble, _ = f.state()
	}
	if trouble == nil || ctx.Err() == context.Canceled {
		return ctx.Err()
	}
	return trouble
}

// choose chooses among the pods as they are known.
func (f *finder) choose() (at *choice, trouble *forwarder.Failure, told <-chan struct{}, due <-chan time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.all.best(f.good, f.refusedLately)
	if p == nil && !f.unready.IsZero() {
		left := readiness - time.Since(f.unready)
		if left <= 0 {
			p = f.all.best((*pod).running, f.refusedLately)
		} else {
			due = time.After(left)
		}
	}
	if p == nil && due == nil && f.barred() {
		due = time.After(recheck / 2)
	}
	if p == nil || f.ofErr != nil && f.of == nil && f.owner != nil {
		return nil, f.trouble, f.told, due
	}
	port, err := f.target.portOf(p, f.of)
	if err != nil {
		return nil, f.trouble, f.told, due
	}
	return &choice{
		pod: p.Metadata.Name, uid: p.Metadata.UID, node: p.Spec.NodeName, port: port, good: f.good(p), restarts: p.restarts(),
	}, nil, nil, nil
}

// fell waits until a pod is not any more what it was when it was chosen: it has gone, is not good any more, or was begun
// anew. It is false when ctx or enough ends before.
func (f *finder) fell(ctx context.Context, at choice, enough <-chan struct{}) bool {
	ask := time.NewTicker(settle / 4) // where no watch tells
	defer ask.Stop()
	for {
		if f.renew(ctx) {
			f.look(ctx)
		}
		_, told := f.state()
		if ctx.Err() == nil && !f.stands(at) {
			return true
		}
		select {
		case <-told:
		case <-ask.C:
		case <-enough:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

func (f *finder) stands(at choice) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.ContainsFunc(f.all, func(p *pod) bool {
		return p.Metadata.UID == at.uid && p.running() && (f.good(p) || !at.good) && p.restarts() == at.restarts
	})
}

// serves reports whether a pod may still be connected to.
func (f *finder) serves(uid string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.all {
		if p.Metadata.UID == uid {
			return p.running()
		}
	}
	return false
}

// nodes are the names of the nodes that the pods are on.
func (f *finder) nodes() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	for _, p := range f.all {
		if name := p.Spec.NodeName; name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
