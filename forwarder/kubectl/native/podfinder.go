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
	"github.com/localport-sh/localport/forwarder/wait"
)

// podFinder chooses the pod for each connection. Watches keep its state up to date.
type podFinder struct {
	session *session.Session
	target  Target
	ref     session.ResourceRef

	ownerWatch   *session.Watch // nil: the target is a pod or a selector
	releaseOwner func()
	doneCh       chan struct{}
	cancel       context.CancelFunc

	refreshMu sync.Mutex // held during refresh

	mu           sync.Mutex
	podWatch     *session.Watch // nil: the selector is not known yet
	selector     string
	releasePods  func()
	owner        *podOwner
	ownerErr     error // why the owner is not known, or is not usable
	podsErr      error // why the pods are not known
	podVersion   uint64
	ownerVersion uint64
	pods         podList
	unreadySince time.Time            // when the last eligible pod was lost; zero: one is eligible
	refusedAt    map[string]time.Time // by the pod's uid
	failure      *forwarder.Failure   // see state
	isEvaluated  bool                 // evaluate has been called
	changed      wait.Broadcast       // announced by evaluate
}

// newPodFinder starts to watch the target. A panic in its goroutine is passed to onPanic.
func newPodFinder(group *tasks.Group, s *session.Session, t Target, ref session.ResourceRef, onPanic func(*forwarder.Failure, []byte)) *podFinder {
	f := &podFinder{
		session: s, target: t, ref: ref, doneCh: make(chan struct{}), refusedAt: make(map[string]time.Time),
		releaseOwner: func() {}, releasePods: func() {},
	}
	switch {
	case t.Selector != "":
		f.watchPods(t.Selector, "")
	case t.Type == "pod":
		f.watchPods("", t.Name)
	default:
		f.ownerWatch, f.releaseOwner = s.Watch(objectPath(t.Type, ref.Location.Namespace), "", t.Name)
	}
	f.cancel = group.Go(func(ctx context.Context) {
		defer close(f.doneCh)
		forwarder.CatchPanic(func() { f.run(ctx) }, onPanic)
	})
	return f
}

func (f *podFinder) close() {
	f.cancel()
	<-f.doneCh
	f.releaseOwner()
	f.releasePods()
}

// watchPods replaces the watch of pods.
func (f *podFinder) watchPods(labels, name string) {
	f.releasePods()
	f.selector, f.podVersion, f.pods, f.podsErr = labels, 0, nil, nil
	f.podWatch, f.releasePods = f.session.Watch(objectPath("pod", f.ref.Location.Namespace), labels, name)
}

// run refreshes the state after each change.
func (f *podFinder) run(ctx context.Context) {
	for ctx.Err() == nil {
		ownerChanged, podsChanged := f.refresh(ctx)
		_, reachabilityChanged := f.session.Reachability()
		select {
		case <-ctx.Done():
		case <-ownerChanged:
		case <-podsChanged:
		case <-reachabilityChanged:
		case <-f.nextRecheck():
			f.refetch(ctx)
		}
	}
}

// refresh reads the current objects of the watches, and evaluates them.
func (f *podFinder) refresh(ctx context.Context) (ownerChanged, podsChanged <-chan struct{}) {
	f.refreshMu.Lock()
	defer f.refreshMu.Unlock()
	ownerChanged = f.refreshOwner(ctx)
	podsChanged = f.refreshPods(ctx)
	if ctx.Err() == nil {
		f.evaluate()
	}
	return ownerChanged, podsChanged
}

// recheckInterval is how often objects are requested while something is wrong and the user may not watch.
const recheckInterval = 2 * time.Second

// nextRecheck returns a timer for what no watch reports: the end of readyPodWait, and, if the user may not watch, the next request
// while something is wrong. nil: nothing to wait for.
func (f *podFinder) nextRecheck() <-chan time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.unreadySince.IsZero() {
		if left := readyPodWait - time.Since(f.unreadySince); left > 0 {
			return time.After(left + time.Millisecond)
		}
	}
	if f.failure != nil && f.isWatchForbidden() {
		return time.After(recheckInterval)
	}
	return nil
}

// isWatchForbidden reports whether the user may not watch. f.mu is held.
func (f *podFinder) isWatchForbidden() bool {
	return f.podWatch != nil && f.podWatch.IsWatchForbidden() || f.ownerWatch != nil && f.ownerWatch.IsWatchForbidden()
}

// lacksWatch is isWatchForbidden for callers that do not hold f.mu.
func (f *podFinder) lacksWatch() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.isWatchForbidden()
}

// refetch requests the objects again if the user may not watch, and reports whether there are new ones.
func (f *podFinder) refetch(ctx context.Context) bool {
	f.mu.Lock()
	watches := []*session.Watch{f.ownerWatch, f.podWatch}
	f.mu.Unlock()
	hasFetched := false
	for _, w := range watches {
		if w != nil {
			didFetch, err := w.Refetch(ctx)
			hasFetched = hasFetched || didFetch && err == nil
		}
	}
	return hasFetched
}

// refreshOwner reads the owner, and watches other pods if its selector has changed. It returns a channel that is closed when the owner
// changes; nil: there is none, or ctx has ended.
func (f *podFinder) refreshOwner(ctx context.Context) <-chan struct{} {
	if f.ownerWatch == nil {
		return nil
	}
	objects, version, changed, err := f.ownerWatch.Objects(ctx)
	if ctx.Err() != nil {
		return nil
	}
	if err == nil && version == f.ownerVersion {
		return changed
	}
	f.ownerVersion = version
	var o *podOwner
	if err == nil && len(objects) > 0 {
		o = new(podOwner)
		err = json.Unmarshal(objects[0], o)
	} else if err == nil {
		err = &forwarder.Failure{
			Class: forwarder.Permanent, RecheckAfter: session.RecheckInterval,
			Reason: fmt.Sprintf("%s %q no longer exists", f.target.Type, f.target.Name),
			Hint:   f.ref.NamespacedCommand("get " + f.ref.PluralKind()),
		}
	}
	if err == nil {
		err = f.target.checkOwner(o, f.ref)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.owner, f.ownerErr = o, err
	if err == nil {
		if labels, _ := o.podSelector(f.target); labels != f.selector || f.podWatch == nil {
			f.watchPods(labels, "")
		}
	}
	return changed
}

func (f *podFinder) refreshPods(ctx context.Context) <-chan struct{} {
	f.mu.Lock()
	watch := f.podWatch
	f.mu.Unlock()
	if watch == nil {
		return nil
	}
	objects, version, changed, err := watch.Objects(ctx)
	if ctx.Err() != nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil && version != f.podVersion {
		if f.pods, err = decodePods(objects); err == nil {
			f.podVersion = version
		}
	}
	f.podsErr = err
	return changed
}

// evaluate updates unreadySince and failure, and announces a change.
func (f *podFinder) evaluate() {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.pods.newest(f.isEligible, f.hasRefusedLately) != nil:
		f.unreadySince = time.Time{}
	case f.unreadySince.IsZero():
		f.unreadySince = time.Now()
	}
	f.failure, f.isEvaluated = f.currentFailure(), true
	f.changed.Announce()
}

// targetErr is why the owner or the pods are not known; nil if both are. The two are kept apart: either may be found out again before the
// other. f.mu is held.
func (f *podFinder) targetErr() error {
	if f.ownerErr != nil {
		return f.ownerErr
	}
	return f.podsErr
}

// currentFailure returns why no connection is possible now; nil if one is. f.mu is held.
func (f *podFinder) currentFailure() *forwarder.Failure {
	if failure := f.session.UnreachableFailure(f.ref); failure != nil {
		return failure
	}
	if err := f.targetErr(); err != nil {
		return f.session.ClassifyError(err, f.ref)
	}
	if len(f.pods) > 0 && !slices.ContainsFunc(f.pods, f.hasPort) {
		_, err := f.target.podPort(f.pods[0], f.owner)
		return &forwarder.Failure{
			Class: forwarder.Permanent, RecheckAfter: session.RecheckInterval, Reason: err.Error(),
			Hint: f.ref.NamespacedCommand("describe pod/" + f.pods[0].Metadata.Name),
		}
	}
	if !f.unreadySince.IsZero() {
		return f.noReadyPodFailure()
	}
	return nil
}

// noReadyPodFailure describes why no pod is ready. After readyPodWait it may be disproved: connections use a running pod then.
func (f *podFinder) noReadyPodFailure() *forwarder.Failure {
	hint := f.ref.NamespacedCommand("get pods")
	if f.selector != "" {
		hint = f.ref.NamespacedCommand("get pods -l '" + f.selector + "'")
	}
	if len(f.pods) == 0 {
		reason := "no pod matches " + f.selector
		if f.selector == "" {
			reason = fmt.Sprintf("pod %q does not exist", f.target.Name)
		} else if f.target.Selector == "" {
			reason = fmt.Sprintf("%s has no pods (%s)", f.target.Resource(), f.selector)
		}
		return &forwarder.Failure{Reason: reason + "; clients wait for one", Hint: hint}
	}
	newest, mayServe := f.pods[max(0, slices.IndexFunc(f.pods, f.hasPort))], false
	if time.Since(f.unreadySince) >= readyPodWait {
		if p := f.pods.newest(f.isUsable, f.hasRefusedLately); p != nil {
			newest, mayServe = p, true
		}
	}
	reason := fmt.Sprintf("pod %s is %s", newest.Metadata.Name, newest.describeState())
	if more := len(f.pods) - 1; more > 0 {
		reason += fmt.Sprintf(" (and %d more pods are not Ready)", more)
	}
	return &forwarder.Failure{Reason: reason, Hint: f.ref.NamespacedCommand("describe pod/" + newest.Metadata.Name), MayServe: mayServe}
}

// checkTarget waits for the first evaluation, and returns what is wrong with the target itself. No ready pod is not an error.
func (f *podFinder) checkTarget(ctx context.Context) error {
	f.mu.Lock()
	isEvaluated, changed := f.isEvaluated, f.changed.Changed()
	f.mu.Unlock()
	if !isEvaluated {
		select {
		case <-changed:
		case <-ctx.Done():
			if failure := f.session.UnreachableFailure(f.ref); failure != nil {
				return failure
			}
			return ctx.Err()
		}
	}
	f.mu.Lock()
	err, isMissing := f.targetErr(), f.owner == nil && f.ownerWatch != nil || f.ownerWatch == nil && len(f.pods) == 0
	f.mu.Unlock()
	if failure := f.session.UnreachableFailure(f.ref); failure != nil {
		return failure
	}
	if err == nil && !isMissing {
		return nil
	}
	// A request for the object by its name gives the most specific error.
	if missing := f.target.diagnose(ctx, f.session, f.ref); missing != nil {
		return missing
	}
	if err != nil {
		return f.session.ClassifyError(err, f.ref)
	}
	return nil
}

// state returns why no connection is possible, nil if one is, and a channel that is closed when that may have changed.
func (f *podFinder) state() (*forwarder.Failure, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failure, f.changed.Changed()
}

// nodeNames returns the names of the pods' nodes.
func (f *podFinder) nodeNames() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	for _, p := range f.pods {
		if name := p.Spec.NodeName; name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
