package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/wait"
)

// ObjectMeta is the part of an object's metadata that is used here.
type ObjectMeta struct {
	Name     string     `json:"name"`
	UID      string     `json:"uid"`
	Version  string     `json:"resourceVersion"`
	Created  time.Time  `json:"creationTimestamp"`
	Deletion *time.Time `json:"deletionTimestamp"`
}

// watchSet holds the open watches of a session. Equal watches are shared.
type watchSet struct {
	sync.Mutex
	open map[watchKey]*Watch
}

// watchKey is a path, and a label selector or a name.
type watchKey struct{ path, labels, name string }

// Watch is a list of objects that is kept up to date: by a watch request, or by Refetch if the user may not watch.
type Watch struct {
	session *Session
	key     watchKey
	refs    int
	cancel  context.CancelFunc
	doneCh  chan struct{}

	mu               sync.Mutex
	objects          map[string]json.RawMessage // by name; nil before the first list
	version          uint64                     // incremented with every change of objects
	err              error                      // why there is no list, or no newer one
	isWatchForbidden bool                       // the server denied the last watch
	generation       uint64                     // incremented when run has listed the objects, and when it has begun to watch them
	fetchedAt        time.Time                  // time of the last list, if isWatchForbidden
	fetchCh          chan struct{}              // closed when the list request in progress has ended; nil: none
	changed          wait.Broadcast             // announced when objects or err change
}

// Watch returns the list of the objects at a path, such as /api/v1/namespaces/x/pods: those that match a label selector, or the one
// with a name. release must be called once.
func (s *Session) Watch(path, labels, name string) (w *Watch, release func()) {
	key := watchKey{path, labels, name}
	s.watches.Lock()
	defer s.watches.Unlock()
	w = s.watches.open[key]
	if w == nil {
		w = &Watch{session: s, key: key, doneCh: make(chan struct{})}
		s.watches.open[key] = w
		w.cancel = s.tasks.Go(func(ctx context.Context) {
			defer close(w.doneCh)
			forwarder.CatchPanic(func() { w.run(ctx) }, func(failure *forwarder.Failure, _ []byte) { w.setErr(failure) })
		})
	}
	w.refs++
	return w, sync.OnceFunc(func() { s.releaseWatch(w) })
}

func (s *Session) releaseWatch(w *Watch) {
	s.watches.Lock()
	w.refs--
	isLast := w.refs == 0
	if isLast {
		delete(s.watches.open, w.key)
	}
	s.watches.Unlock()
	if isLast {
		w.cancel()
		<-w.doneCh
	}
}

func (k watchKey) query() url.Values {
	q := url.Values{}
	if k.labels != "" {
		q.Set("labelSelector", k.labels)
	}
	if k.name != "" {
		q.Set("fieldSelector", "metadata.name="+k.name)
	}
	return q
}

// maxFetchAge is how old a list may be before Refetch requests it again.
const maxFetchAge = 200 * time.Millisecond

// Objects returns the current objects in JSON, a version that differs whenever they do, and a channel that is closed when they or
// the error change. It waits for the first list only.
func (w *Watch) Objects(ctx context.Context) (objects []json.RawMessage, version uint64, changed <-chan struct{}, err error) {
	for {
		w.mu.Lock()
		if w.objects != nil || w.err != nil {
			defer w.mu.Unlock()
			return slices.Collect(maps.Values(w.objects)), w.version, w.changed.Changed(), w.objectsErr()
		}
		changed := w.changed.Changed()
		w.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, 0, nil, ctx.Err()
		}
	}
}

// objectsErr is why there are no objects. An unreachable server is no error here if a list is known: Reachability reports it.
func (w *Watch) objectsErr() error {
	if _, refused := asStatus(w.err); refused || w.objects == nil {
		return w.err
	}
	return nil
}

// IsWatchForbidden reports whether the user may not watch, as far as is known: that is checked again at intervals, and with each new
// credential. The objects are as old as the last Refetch.
func (w *Watch) IsWatchForbidden() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.isWatchForbidden
}

// Refetch requests the list again if the user may not watch and the last list is older than maxFetchAge, and waits for the
// response.
func (w *Watch) Refetch(ctx context.Context) (didFetch bool, err error) {
	w.mu.Lock()
	if !w.isWatchForbidden || time.Since(w.fetchedAt) < maxFetchAge {
		w.mu.Unlock()
		return false, nil
	}
	fetchCh := w.startFetch()
	w.mu.Unlock()
	select {
	case <-fetchCh:
		return true, nil
	case <-ctx.Done():
		return true, ctx.Err()
	}
}

// startFetch requests the list, once for all who wait. A list that run has overtaken meanwhile is dropped: no watch would correct it.
// w.mu is held.
func (w *Watch) startFetch() <-chan struct{} {
	if w.fetchCh == nil {
		fetchCh, generation := make(chan struct{}), w.generation
		w.fetchCh = fetchCh
		w.session.goTask(func(ctx context.Context) {
			objects, _, err := w.list(ctx)
			w.mu.Lock()
			w.fetchedAt, w.fetchCh = time.Now(), nil
			if w.generation == generation {
				w.store(objects, err)
			}
			w.mu.Unlock()
			close(fetchCh)
		})
	}
	return w.fetchCh
}

// forbiddenWatchBackoff is the delays before another watch after the server has denied one. A server that is starting denies it for seconds;
// the user may be given the right at any time.
var forbiddenWatchBackoff = wait.Backoff{First: 5 * time.Second, Max: forbiddenTime, Factor: 4}

// run keeps the list up to date until the context ends.
func (w *Watch) run(ctx context.Context) {
	backoff, forbiddenBackoff := retryBackoff, forbiddenWatchBackoff
	for ctx.Err() == nil {
		credentialChanged := w.session.auth.credentialChanged.Changed()
		objects, from, err := w.list(ctx)
		if err == nil {
			backoff.Reset()
			w.startGeneration(objects)
			err = w.followChanges(ctx, from)
		}
		if ctx.Err() != nil {
			return
		}
		if hasStatusCode(err, http.StatusForbidden) && w.hasList() {
			if w.markForbidden() {
				forbiddenBackoff.Reset()
			}
			wait.SleepOrWake(ctx, forbiddenBackoff.Next(), credentialChanged)
			continue
		}
		if err != nil {
			w.setErr(err)
			_, reachChanged := w.session.Reachability()
			wait.SleepOrWake(ctx, backoff.Next(), reachChanged)
		}
	}
}

func (w *Watch) hasList() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.objects != nil
}

// startGeneration stores the list from which a watch begins.
func (w *Watch) startGeneration(objects map[string]json.RawMessage) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.generation++
	w.store(objects, nil)
}

// markForbidden records that the server denied a watch, and reports whether that is new.
func (w *Watch) markForbidden() (isNew bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	isNew = !w.isWatchForbidden
	w.isWatchForbidden, w.fetchedAt = true, time.Now()
	return isNew
}

// markAllowed records that the server has accepted a watch.
func (w *Watch) markAllowed() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.isWatchForbidden {
		w.isWatchForbidden = false
		w.generation++
	}
}

// store records the result of a list request. w.mu is held.
func (w *Watch) store(objects map[string]json.RawMessage, err error) {
	if w.err = err; err == nil {
		w.objects = objects
		w.version++
	}
	w.changed.Announce()
}

func (w *Watch) update(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
	w.changed.Announce()
}

func (w *Watch) setErr(err error) { w.update(func() { w.err = err }) }

// list requests all objects. It returns them by name, and the resourceVersion from which to watch them.
func (w *Watch) list(ctx context.Context) (objects map[string]json.RawMessage, from string, err error) {
	var list struct {
		Metadata ObjectMeta        `json:"metadata"`
		Items    []json.RawMessage `json:"items"`
	}
	err = w.session.Get(ctx, w.key.path, w.key.query(), &list)
	if w.key.name != "" && hasStatusCode(err, http.StatusForbidden) {
		// The user may not list, but perhaps get the one object.
		list.Items = make([]json.RawMessage, 1)
		err = w.session.Get(ctx, w.key.path+"/"+url.PathEscape(w.key.name), nil, &list.Items[0])
		if hasStatusCode(err, http.StatusNotFound) {
			list.Items, err = nil, nil
		}
	}
	if err != nil {
		return nil, "", err
	}
	objects = make(map[string]json.RawMessage, len(list.Items))
	for _, item := range list.Items {
		var o struct{ Metadata ObjectMeta }
		if err := json.Unmarshal(item, &o); err != nil {
			return nil, "", err
		}
		objects[o.Metadata.Name] = item
	}
	return objects, list.Metadata.Version, nil
}

// errExpired says that the server no longer has a resourceVersion.
var errExpired = errors.New("the watch must start again")

// followChanges applies changes until the resourceVersion expires, which is no error.
func (w *Watch) followChanges(ctx context.Context, from string) error {
	for {
		next, err := w.followOnce(ctx, from)
		if err != nil {
			if errors.Is(err, errExpired) {
				return nil
			}
			return err
		}
		if next == from && !wait.Sleep(ctx, minRetryDelay) {
			return ctx.Err()
		}
		from = next
	}
}

func (w *Watch) followOnce(ctx context.Context, from string) (string, error) {
	query := w.key.query()
	query.Set("watch", "1")
	query.Set("resourceVersion", from)
	query.Set("allowWatchBookmarks", "true")
	resp, err := w.session.sendGet(ctx, w.key.path, query)
	if hasStatusCode(err, http.StatusGone) {
		return "", errExpired
	}
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	w.markAllowed()
	events := json.NewDecoder(resp.Body)
	for {
		var event struct {
			Type   string
			Object json.RawMessage
		}
		if err := events.Decode(&event); err != nil {
			if ctx.Err() == nil && !isCleanEnd(err) {
				return "", w.session.recordResult(fmt.Errorf("watch: %w", err))
			}
			return from, ctx.Err()
		}
		var o struct {
			Metadata ObjectMeta
			Code     int
		}
		if err := json.Unmarshal(event.Object, &o); err != nil {
			return "", err
		}
		if event.Type == "ERROR" {
			return "", errExpired
		}
		from = o.Metadata.Version
		w.applyEvent(event.Type, o.Metadata.Name, event.Object)
	}
}

func (w *Watch) applyEvent(kind, name string, object json.RawMessage) {
	if kind == "BOOKMARK" {
		return
	}
	w.update(func() {
		w.version++
		w.err = nil
		if kind == "DELETED" {
			delete(w.objects, name)
			return
		}
		w.objects[name] = slices.Clone(object)
	})
}

// isCleanEnd reports whether the server ended a watch regularly, as it does every few minutes.
func isCleanEnd(err error) bool { return errors.Is(err, io.EOF) }
