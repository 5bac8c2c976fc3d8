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
	n := newEventPublisher(s.dir, s.log, mask)
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
	p := newEventPublisher(s.dir, s.log, strings.Clone)
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
		p := newEventPublisher(s.dir, s.log, strings.Clone)
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
