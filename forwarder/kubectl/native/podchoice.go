package native

import (
	"context"
	"slices"
	"time"

	"github.com/localport-sh/localport/forwarder"
)

const (
	// readyPodWait is how long connections wait for a Ready pod before they use a running one.
	readyPodWait = 2 * time.Second
	// refusalPenalty is how long other pods are preferred to one that refused a connection.
	refusalPenalty = 2 * time.Second
)

// destination is the pod and port for a connection.
type destination struct {
	pod, uid, node string
	port           int
	isEligible     bool // see podFinder.isEligible
	restartCount   int  // of the pod's containers, when it was chosen
}

// isEligible reports whether connections may use a pod at once: it has the port, and it is Ready, or it runs and is itself the target.
func (f *podFinder) isEligible(p *pod) bool {
	if !f.hasPort(p) {
		return false
	}
	if f.target.Type == "pod" && f.target.Selector == "" {
		return p.isRunning()
	}
	return p.isReady()
}

// isUsable reports whether connections may use a pod if there is no eligible one: it has the port, and it runs.
func (f *podFinder) isUsable(p *pod) bool { return f.hasPort(p) && p.isRunning() }

// hasPort reports whether a pod has the target's port. The port of a service may have a name that only some of its pods know.
func (f *podFinder) hasPort(p *pod) bool {
	if f.owner == nil && f.ownerWatch != nil {
		return true // not known yet
	}
	_, err := f.target.podPort(p, f.owner)
	return err == nil
}

// recordRefusal records that a pod refused a connection.
func (f *podFinder) recordRefusal(uid string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	for uid, at := range f.refusedAt {
		if now.Sub(at) > refusalPenalty {
			delete(f.refusedAt, uid)
		}
	}
	f.refusedAt[uid] = now
}

func (f *podFinder) hasRefusedLately(uid string) bool {
	at, ok := f.refusedAt[uid]
	return ok && time.Since(at) < refusalPenalty
}

// waitForPod returns the destination for a connection. It waits until there is one; its error says what it waited for.
func (f *podFinder) waitForPod(ctx context.Context) (destination, error) {
	for {
		if f.refetch(ctx) {
			f.refresh(ctx)
		}
		dest, failure, changed, retryCh := f.choosePod()
		if dest != nil {
			return *dest, nil
		}
		select {
		case <-changed:
		case <-retryCh:
		case <-ctx.Done():
			return destination{}, f.waitError(ctx, failure)
		}
	}
}

// waitError is the error of a connection whose ctx ended while it waited.
func (f *podFinder) waitError(ctx context.Context, failure *forwarder.Failure) error {
	if failure == nil {
		failure, _ = f.state()
	}
	if failure == nil || ctx.Err() == context.Canceled {
		return ctx.Err()
	}
	return failure
}

// choosePod returns the destination for a connection now. Without one it returns the reason, and the channels to wait on before the
// next call; dueCh may be nil.
func (f *podFinder) choosePod() (dest *destination, failure *forwarder.Failure, changed <-chan struct{}, retryCh <-chan time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.pods.newest(f.isEligible, f.hasRefusedLately)
	if p == nil && !f.unreadySince.IsZero() {
		left := readyPodWait - time.Since(f.unreadySince)
		if left <= 0 {
			p = f.pods.newest(f.isUsable, f.hasRefusedLately)
		} else {
			retryCh = time.After(left)
		}
	}
	if p == nil && retryCh == nil && f.isWatchForbidden() {
		retryCh = time.After(recheckInterval / 2)
	}
	if p == nil || f.ownerErr != nil && f.owner == nil && f.ownerWatch != nil {
		return nil, f.failure, f.changed.Changed(), retryCh
	}
	port, err := f.target.podPort(p, f.owner)
	if err != nil {
		return nil, f.failure, f.changed.Changed(), retryCh
	}
	return &destination{
		pod: p.Metadata.Name, uid: p.Metadata.UID, node: p.Spec.NodeName, port: port, isEligible: f.isEligible(p), restartCount: p.restartCount(),
	}, nil, nil, nil
}

// waitForPodFailure waits until a chosen pod has been deleted, has stopped, is no longer eligible or has restarted a container. It
// returns false when ctx ends or stopCh is closed first.
func (f *podFinder) waitForPodFailure(ctx context.Context, dest destination, stopCh <-chan struct{}) bool {
	ticker := time.NewTicker(endReasonTimeout / 4) // for users who may not watch
	defer ticker.Stop()
	for {
		if f.refetch(ctx) {
			f.refresh(ctx)
		}
		_, changed := f.state()
		if ctx.Err() == nil && !f.isUnchanged(dest) {
			return true
		}
		select {
		case <-changed:
		case <-ticker.C:
		case <-stopCh:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

func (f *podFinder) isUnchanged(dest destination) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.ContainsFunc(f.pods, func(p *pod) bool {
		return p.Metadata.UID == dest.uid && p.isRunning() && (f.isEligible(p) || !dest.isEligible) && p.restartCount() == dest.restartCount
	})
}

// isPodRunning reports whether a pod still runs.
func (f *podFinder) isPodRunning(uid string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.pods {
		if p.Metadata.UID == uid {
			return p.isRunning()
		}
	}
	return false
}
