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

// Meta is what every object has.
type Meta struct {
	Name     string            `json:"name"`
	UID      string            `json:"uid"`
	Version  string            `json:"resourceVersion"`
	Created  time.Time         `json:"creationTimestamp"`
	Deletion *time.Time        `json:"deletionTimestamp"`
	Labels   map[string]string `json:"labels"`
}

// watches are the lists of objects that a session keeps up to date, each shared by all who want the same.
type watches struct {
	sync.Mutex
	open map[watchKey]*Watch
}

// watchKey is a path, and which of the objects there are meant: those with labels, or the one of a name.
type watchKey struct{ path, labels, name string }

// Watch is a list of objects, kept up to date by the server where the user may watch, asked for where not.
type Watch struct {
	session *Session
	key     watchKey
	users   int
	cancel  context.CancelFunc
	ended   chan struct{}

	mu      sync.Mutex
	objects map[string]json.RawMessage // by name; nil before the first list
	version uint64                     // grows with every change
	err     error                      // why there is no list, or no newer one
	barred  bool                       // the user may not watch
	fetched time.Time                  // when a list was last asked for, where barred
	fetch   chan struct{}              // closed when the question under way is answered
	changed wait.Broadcast             // of the objects, or of err
}

// Watch returns the list of the objects at a path, such as /api/v1/namespaces/x/pods, that have labels, or of the one object
// of a name. Release must be called once.
func (s *Session) Watch(path, labels, name string) (w *Watch, release func()) {
	key := watchKey{path, labels, name}
	s.watches.Lock()
	defer s.watches.Unlock()
	w = s.watches.open[key]
	if w == nil {
		w = &Watch{session: s, key: key, ended: make(chan struct{})}
		s.watches.open[key] = w
		w.cancel = s.tasks.Go(func(ctx context.Context) {
			defer close(w.ended)
			forwarder.Contain(func() { w.run(ctx) }, func(failure *forwarder.Failure, _ []byte) { w.fail(failure) })
		})
	}
	w.users++
	return w, sync.OnceFunc(func() { s.unwatch(w) })
}

func (s *Session) unwatch(w *Watch) {
	s.watches.Lock()
	w.users--
	last := w.users == 0
	if last {
		delete(s.watches.open, w.key)
	}
	s.watches.Unlock()
	if last {
		w.cancel()
		<-w.ended
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

// freshness is how long an answer counts as the state of things, where the user may not watch.
const freshness = 200 * time.Millisecond

// Objects are the objects as they are known, to be decoded by the caller, a number that tells one state of them from another,
// and a channel that is closed when they have changed. It waits only for the first answer.
func (w *Watch) Objects(ctx context.Context) (objects []json.RawMessage, version uint64, changed <-chan struct{}, err error) {
	for {
		w.mu.Lock()
		if w.objects != nil || w.err != nil {
			defer w.mu.Unlock()
			return slices.Collect(maps.Values(w.objects)), w.version, w.changed.Changed(), w.trouble()
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

// trouble is why there are no objects. That the server cannot be had now is Reach's to tell: the last that is known stands.
func (w *Watch) trouble() error {
	if _, refused := asStatus(w.err); refused || w.objects == nil {
		return w.err
	}
	return nil
}

// Barred reports whether the user may not watch: what is known is as old as the last Renew.
func (w *Watch) Barred() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.barred
}

// Renew asks for the objects anew where the user may not watch, and returns when there is an answer.
func (w *Watch) Renew(ctx context.Context) (asked bool, err error) {
	w.mu.Lock()
	if !w.barred || time.Since(w.fetched) < freshness {
		w.mu.Unlock()
		return false, nil
	}
	fetch := w.ask()
	w.mu.Unlock()
	select {
	case <-fetch:
		return true, nil
	case <-ctx.Done():
		return true, ctx.Err()
	}
}

// ask asks for the list once, for all who wait. w.mu is held.
func (w *Watch) ask() <-chan struct{} {
	if w.fetch == nil {
		fetch := make(chan struct{})
		w.fetch = fetch
		w.session.goes(func(ctx context.Context) {
			_, err := w.list(ctx)
			w.mu.Lock()
			w.fetched, w.fetch = time.Now(), nil
			w.mu.Unlock()
			if err != nil {
				w.fail(err)
			}
			close(fetch)
		})
	}
	return w.fetch
}

// run keeps the list up to date until the context ends.
func (w *Watch) run(ctx context.Context) {
	for pause := looks; ctx.Err() == nil; {
		from, err := w.list(ctx)
		if err == nil {
			pause.Reset()
			err = w.follow(ctx, from)
		}
		if ctx.Err() != nil {
			return
		}
		if hasCode(err, http.StatusForbidden) && w.listed() {
			w.mu.Lock()
			w.barred, w.fetched = true, time.Now()
			w.mu.Unlock()
			return
		}
		if err != nil {
			w.fail(err)
			_, away := w.session.Reach()
			wait.SleepOrWake(ctx, pause.Next(), away)
		}
	}
}

func (w *Watch) listed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.objects != nil
}

func (w *Watch) tell(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
	w.changed.Announce()
}

func (w *Watch) fail(err error) { w.tell(func() { w.err = err }) }

// list asks for all objects, and returns the version to follow them from.
func (w *Watch) list(ctx context.Context) (from string, err error) {
	var list struct {
		Metadata Meta              `json:"metadata"`
		Items    []json.RawMessage `json:"items"`
	}
	err = w.session.Get(ctx, w.key.path, w.key.query(), &list)
	if w.key.name != "" && hasCode(err, http.StatusForbidden) {
		// The right to get the one of a name is enough.
		list.Items = make([]json.RawMessage, 1)
		err = w.session.Get(ctx, w.key.path+"/"+url.PathEscape(w.key.name), nil, &list.Items[0])
		if hasCode(err, http.StatusNotFound) {
			list.Items, err = nil, nil
		}
	}
	if err != nil {
		return "", err
	}
	objects := make(map[string]json.RawMessage, len(list.Items))
	for _, item := range list.Items {
		var o struct{ Metadata Meta }
		if err := json.Unmarshal(item, &o); err != nil {
			return "", err
		}
		objects[o.Metadata.Name] = item
	}
	w.tell(func() {
		w.objects, w.err = objects, nil
		w.version++
	})
	return list.Metadata.Version, nil
}

// errExpired is a version that the server has forgotten.
var errExpired = errors.New("the watch has to begin anew")

// follow applies what changes until the server has enough of it, which is no error.
func (w *Watch) follow(ctx context.Context, from string) error {
	for {
		next, err := w.followOnce(ctx, from)
		if err != nil {
			if errors.Is(err, errExpired) {
				return nil
			}
			return err
		}
		if next == from && !wait.Sleep(ctx, firstLook) {
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
	resp, err := w.session.ask(ctx, w.key.path, query)
	if hasCode(err, http.StatusGone) {
		return "", errExpired
	}
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	events := json.NewDecoder(resp.Body)
	for {
		var event struct {
			Type   string
			Object json.RawMessage
		}
		if err := events.Decode(&event); err != nil {
			if ctx.Err() == nil && !clean(err) {
				return "", w.session.heard(fmt.Errorf("watch: %w", err))
			}
			return from, ctx.Err()
		}
		var o struct {
			Metadata Meta
			Code     int
		}
		if err := json.Unmarshal(event.Object, &o); err != nil {
			return "", err
		}
		if event.Type == "ERROR" {
			return "", errExpired
		}
		from = o.Metadata.Version
		w.apply(event.Type, o.Metadata.Name, event.Object)
	}
}

func (w *Watch) apply(kind, name string, object json.RawMessage) {
	if kind == "BOOKMARK" {
		return
	}
	w.tell(func() {
		w.version++
		w.err = nil
		if kind == "DELETED" {
			delete(w.objects, name)
			return
		}
		w.objects[name] = slices.Clone(object)
	})
}

// clean reports whether a watch was ended by the server in good order, as it is every few minutes.
func clean(err error) bool { return errors.Is(err, io.EOF) }
