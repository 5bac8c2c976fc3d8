package supervisor

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/localport-sh/localport/forwarder/eventlog"
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
