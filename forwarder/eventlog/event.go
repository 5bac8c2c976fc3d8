package eventlog

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"time"
)

// Kind is what happened.
type Kind string

// The kinds of event.
const (
	StateChanged       Kind = "state"     // a service went from one state to another
	ServiceFailed      Kind = "failed"    // a service cannot be had until its user does something, or a fix comes
	ServiceRecovered   Kind = "recovered" // a service that had failed is well
	ConfigReloaded     Kind = "reload"    // the config was taken over anew
	ConfigPending      Kind = "pending"   // the files changed and wait for permission
	SupervisorStarted  Kind = "started"   // the supervisor came up
	SupervisorEnded    Kind = "ended"     // the supervisor went
	ClientLimitReached Kind = "no_room"   // no further clients of a service can be taken in
	ClientLimitCleared Kind = "room"      // they can again
	EventsLost         Kind = "lost"      // events before this one could not be written
)

// SelectableKinds are all kinds of event that can be asked for.
var SelectableKinds = []Kind{StateChanged, ServiceFailed, ServiceRecovered, ConfigReloaded, ConfigPending, SupervisorStarted, SupervisorEnded, ClientLimitReached, ClientLimitCleared}

// Event is one thing that happened in a project.
type Event struct {
	Time    time.Time `json:"time"`
	Kind    Kind      `json:"kind"`
	Service string    `json:"service,omitempty"` // empty: the project as a whole
	From    string    `json:"from,omitempty"`    // states
	To      string    `json:"to,omitempty"`
	Reason  string    `json:"reason,omitempty"`
	Hint    string    `json:"hint,omitempty"`
	Run     string    `json:"run,omitempty"`
	// PromptLine is the number in the prompt's line by which shells are told of it; 0: they are not.
	PromptLine uint64 `json:"line,omitempty"`
}

// Recorder writes events down. It is safe for concurrent use.
type Recorder struct{ file *File }

// NewRecorder is the recorder of the events of a log directory, which are kept as logs are.
func NewRecorder(dir string, mask func(string) string, limits Limits) *Recorder {
	file := NewFile(filepath.Join(dir, eventsFileName), mask, limits)
	file.lossNotice = lostEventsNotice
	return &Recorder{file}
}

func lostEventsNotice(lost int, cause error) string {
	return Event{Time: time.Now(), Kind: EventsLost, Reason: fmt.Sprintf("%d events were lost: %v", lost, cause)}.encode()
}

func (e Event) encode() string {
	e.Time = e.Time.UTC().Truncate(time.Millisecond)
	data, _ := json.Marshal(e) // strings and numbers alone
	return string(data) + "\n"
}

// Append writes an event, now if it has no time. What the reason and the hint say is masked. It never fails.
func (r *Recorder) Append(e Event) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	e.Reason, e.Hint = r.file.mask(e.Reason), r.file.mask(e.Hint)
	r.file.appendText(e.encode())
}

// SetLimits changes the limits.
func (r *Recorder) SetLimits(limits Limits) { r.file.SetLimits(limits) }

// Close closes the file; a later event opens it again.
func (r *Recorder) Close() error { return r.file.Close() }

// EventReader reads the events of a log directory, the oldest first.
type EventReader struct {
	dir  string
	tail *Tail
}

// NewEventReader are the events of a log directory. There need not be any.
func NewEventReader(dir string) *EventReader {
	return &EventReader{dir: dir, tail: NewTail(filepath.Join(dir, eventsFileName))}
}

// Read returns the events that were added since the last call, of those from since on.
func (e *EventReader) Read(since time.Time) ([]Event, error) {
	lines, err := e.tail.Read()
	var events []Event
	for _, line := range lines {
		if event, ok := decodeEvent([]byte(line)); ok && !event.Time.Before(since) {
			events = append(events, event)
		}
	}
	return events, err
}

// decodeEvent reads an event; one that was written in part is none.
func decodeEvent(line []byte) (event Event, ok bool) {
	return event, json.Unmarshal(line, &event) == nil && event.Kind != ""
}

// Follow calls take with the events that were not read yet and then with what is added, until ctx ends or take fails.
// It calls take at least every two seconds, with none where there are none.
func (e *EventReader) Follow(ctx context.Context, onEvents func([]Event) error) error {
	return FollowDir(ctx, e.dir, func() error {
		events, err := e.Read(time.Time{})
		if err != nil {
			return err
		}
		return onEvents(events)
	})
}

// Close closes the files.
func (e *EventReader) Close() { e.tail.Close() }
