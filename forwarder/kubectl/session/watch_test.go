package session

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/localport-sh/localport/forwarder/tasks"
)

// watchServer answers the requests of a watch for pods, one of which, at first, may not be watched.
type watchServer struct {
	mu       sync.Mutex
	mayWatch bool
	isDown   bool // it answers everything with 403, as a server that is starting does
	watches  int  // that were asked for
	events   *io.PipeWriter
	list     func() // called before a list is answered
}

func (s *watchServer) RoundTrip(req *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := func(code int, body io.ReadCloser) (*http.Response, error) {
		return &http.Response{StatusCode: code, Status: http.StatusText(code), Body: body, Header: http.Header{}}, nil
	}
	isWatch := req.URL.Query().Get("watch") != ""
	if isWatch {
		s.watches++
	}
	switch {
	case s.isDown || isWatch && !s.mayWatch:
		return answer(http.StatusForbidden, io.NopCloser(strings.NewReader(`{"kind": "Status", "reason": "Forbidden", "message": "no", "code": 403}`)))
	case isWatch:
		body, events := io.Pipe()
		s.events = events
		context.AfterFunc(req.Context(), func() { _ = events.CloseWithError(req.Context().Err()) }) // as a connection
		return answer(http.StatusOK, body)
	}
	if list := s.list; list != nil {
		s.mu.Unlock()
		list()
		s.mu.Lock()
	}
	return answer(http.StatusOK, io.NopCloser(strings.NewReader(`{"metadata": {"resourceVersion": "7"}, "items": [{"metadata": {"name": "listed"}}]}`)))
}

func (s *watchServer) set(mayWatch, isDown bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mayWatch, s.isDown = mayWatch, isDown
}

func (s *watchServer) watchCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.watches
}

// openWatch opens a watch of a server in the bubble of a synctest.
func (s *watchServer) openWatch(t *testing.T) *Watch {
	t.Helper()
	group := tasks.New(context.Background())
	session := &Session{auth: &authenticator{tasks: group}, base: &url.URL{Scheme: "https", Host: "server"}, requestTransport: &http.Transport{}, requestTripper: s, tasks: group}
	session.watches.open = make(map[watchKey]*Watch)
	w, release := session.Watch("/api/v1/namespaces/x/pods", "", "")
	t.Cleanup(func() {
		s.mu.Lock()
		if s.events != nil {
			_ = s.events.Close()
		}
		s.mu.Unlock()
		release()
		group.Close()
	})
	synctest.Wait()
	return w
}

func (w *Watch) names(t *testing.T) string {
	t.Helper()
	objects, _, _, err := w.Objects(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, o := range objects {
		var object struct{ Metadata ObjectMeta }
		if err := json.Unmarshal(o, &object); err != nil {
			t.Fatal(err)
		}
		names = append(names, object.Metadata.Name)
	}
	return strings.Join(names, " ")
}

func TestWatch_TriesAgainAfterADenial(t *testing.T) {
	t.Run("a right that is given later", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &watchServer{}
			w := s.openWatch(t)
			if !w.IsWatchForbidden() || w.names(t) != "listed" {
				t.Errorf("at first: forbidden %v, %q", w.IsWatchForbidden(), w.names(t))
			}
			time.Sleep(time.Hour)
			synctest.Wait()
			if n := s.watchCount(); !w.IsWatchForbidden() || n > 20 {
				t.Errorf("after an hour: forbidden %v, asked %d times", w.IsWatchForbidden(), n)
			}
			s.set(true, false)
			time.Sleep(forbiddenTime)
			synctest.Wait()
			if w.IsWatchForbidden() {
				t.Error("the right is not noticed")
			}
			fmt.Fprint(s.events, `{"type": "DELETED", "object": {"metadata": {"name": "listed", "resourceVersion": "8"}}}`)
			synctest.Wait()
			if names := w.names(t); names != "" {
				t.Errorf("after the event: %q", names)
			}
		})
	})
	t.Run("a server that is starting", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &watchServer{mayWatch: true}
			w := s.openWatch(t)
			s.set(true, true)
			s.events.Close()
			synctest.Wait()
			time.Sleep(time.Second)
			synctest.Wait()
			if !w.IsWatchForbidden() {
				t.Error("the denial is not noticed")
			}
			s.set(true, false)
			time.Sleep(forbiddenWatchBackoff.First)
			synctest.Wait()
			if w.IsWatchForbidden() {
				t.Error("the end of the denial is not noticed")
			}
		})
	})
	t.Run("another credential", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &watchServer{}
			w := s.openWatch(t)
			time.Sleep(time.Hour)
			s.set(true, false)
			w.session.auth.setCredential(&credential{token: "new"})
			synctest.Wait()
			if w.IsWatchForbidden() {
				t.Error("the credential has changed nothing")
			}
		})
	})
}

// A list that was requested before the watch began, and comes later, would hide what the watch has reported.
func TestWatch_DropsAListThatTheWatchHasOvertaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &watchServer{}
		w := s.openWatch(t)
		time.Sleep(time.Second)
		isListed, canAnswer := make(chan struct{}), make(chan struct{})
		s.mu.Lock()
		s.list = func() {
			close(isListed)
			<-canAnswer
		}
		s.mu.Unlock()
		fetched := make(chan error)
		go func() {
			_, err := w.Refetch(t.Context())
			fetched <- err
		}()
		<-isListed
		s.mu.Lock()
		s.list, s.mayWatch = nil, true
		s.mu.Unlock()
		w.session.auth.setCredential(&credential{token: "new"})
		synctest.Wait()
		fmt.Fprint(s.events, `{"type": "ADDED", "object": {"metadata": {"name": "added", "resourceVersion": "8"}}}`)
		close(canAnswer)
		if err := <-fetched; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if names := w.names(t); !strings.Contains(names, "added") {
			t.Errorf("the objects are %q", names)
		}
	})
}
