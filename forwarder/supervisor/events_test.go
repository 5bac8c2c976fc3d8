package supervisor

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/eventlog"
	"github.com/localport-sh/localport/forwarder/notify"
	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
	"golang.org/x/sys/unix"
)

func TestEventPublisher_WritesEventOnceWhenStateIsDeletedMeanwhile(t *testing.T) {
	s := newElectedSupervisor(t)
	var once sync.Once
	mask := func(text string) string {
		// While the event is being written, and before the state is.
		once.Do(func() { _ = os.Remove(filepath.Join(s.dir.Path, "lock")) })
		return text
	}
	n := newEventPublisher(s.store, s.log, mask)
	e := eventlog.Event{Kind: eventlog.ServiceFailed, Service: "web", Reason: "no route"}
	if !n.recordWithLine(t.Context(), &e) {
		t.Error("it was not written")
	}
	if err := n.recorder.Close(); err != nil {
		t.Fatal(err)
	}
	n.notifier.Close()
	data, err := os.ReadFile(filepath.Join(s.dir.LogDir(), "events.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	if count := strings.Count(string(data), "no route"); count != 1 {
		t.Errorf("it was written %d times", count)
	}
}

// A prompt that sees the number of an event is given a view with that number: otherwise it would tell the event one prompt later, which asks again.
func TestEventPublisher_ViewHasTheNumberOfAnnouncedEvents(t *testing.T) {
	s := newElectedSupervisor(t)
	s.active.Store(newActiveConfig(&loadedConfig{files: &project.Files{}, project: &project.Project{}}))
	if err := s.store.sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	failed := eventlog.Event{Kind: eventlog.ServiceFailed, Service: "web"}
	if !s.events.recordWithLine(t.Context(), &failed) || s.store.state().Line != failed.PromptLine {
		t.Errorf("the view has the number %d, and the event %d", s.store.state().Line, failed.PromptLine)
	}
	if _, err := s.dir.Update(t.Context(), func(tx *lockstate.Tx) error { tx.Bump(); return nil }); err != nil {
		t.Fatal(err)
	}
	before := s.store.state().Line
	recovered := eventlog.Event{Kind: eventlog.ServiceRecovered, Service: "web"}
	if !s.events.recordWithLine(t.Context(), &recovered) || s.store.state().Line != before {
		t.Errorf("the view has the number %d, %d before; the supervisor has not read what another process has changed", s.store.state().Line, before)
	}
	if err := s.store.refresh(t.Context()); err != nil || s.store.state().Line != recovered.PromptLine {
		t.Errorf("after reading it, the view has the number %d, and the event %d (error: %v)", s.store.state().Line, recovered.PromptLine, err)
	}
	if err := s.events.recorder.Close(); err != nil {
		t.Error(err)
	}
}

func TestEventPublisher_AnnouncesAFailureWhenTheStateIsNoLongerLocked(t *testing.T) {
	s := newElectedSupervisor(t)
	lock, err := os.OpenFile(filepath.Join(s.dir.Path, "lock"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	before := s.dir.ReadOrZero().Line
	p := newEventPublisher(s.store, s.log, strings.Clone)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.run(ctx)
	}()
	p.publish(eventlog.Event{Kind: eventlog.ServiceFailed, Service: "web", Reason: "no route"}, forwarder.Failed)
	p.publish(eventlog.Event{Kind: eventlog.StateChanged, Service: "api"}, forwarder.Healthy)
	events := func() string {
		data, _ := os.ReadFile(filepath.Join(s.dir.LogDir(), "events.jsonl"))
		return string(data)
	}
	for !strings.Contains(events(), "api") { // the first attempt has failed
		if !wait.Sleep(t.Context(), 5*time.Millisecond) {
			t.Fatal("no event is written")
		}
	}
	if strings.Contains(events(), "no route") || s.dir.ReadOrZero().Line != before {
		t.Errorf("announced although the state is locked: %s", events())
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	for s.dir.ReadOrZero().Line == before {
		if !wait.Sleep(t.Context(), 5*time.Millisecond) {
			t.Fatal("the event is not announced")
		}
	}
	cancel()
	<-done
	if count := strings.Count(events(), "no route"); count != 1 {
		t.Errorf("it was written %d times", count)
	}
}

func TestEventPublisher_NotifiesOfTheEnd(t *testing.T) {
	s := newElectedSupervisor(t)
	for range 8 {
		told := filepath.Join(t.TempDir(), "told")
		p := newEventPublisher(s.store, s.log, strings.Clone)
		p.notifier.UpdateSettings(notify.Settings{
			Command: []string{"sh", "-c", `echo "$LOCALPORT_EVENT" >>"$0"`, told}, Events: []string{"state", "ended"}, Env: os.Environ(),
		})
		ctx, cancel := context.WithCancel(t.Context())
		p.publish(eventlog.Event{Kind: eventlog.StateChanged, Service: "web"}, forwarder.Stopped)
		p.publish(eventlog.Event{Kind: eventlog.SupervisorEnded}, "")
		cancel()
		p.run(ctx)
		data, _ := os.ReadFile(told)
		if got := strings.Fields(string(data)); !slices.Contains(got, "ended") || !slices.Contains(got, "state") {
			t.Errorf("told: %q", got)
		}
	}
}
