package eventlog

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"time"
)

// Kind is the kind of an event.
type Kind string

// The kinds of event.
const (
	StateChanged       Kind = "state"          // a service changed from one state to another
	ServiceFailed      Kind = "failed"         // a service does not work until the user, or whoever runs its far end, fixes it
	ServiceRecovered   Kind = "recovered"      // a failed service works again
	ConfigReloaded     Kind = "reload"         // a changed config took effect
	ConfigPending      Kind = "pending"        // a changed config waits for "localport allow"
	SupervisorStarted  Kind = "started"        // the supervisor started
	SupervisorEnded    Kind = "ended"          // the supervisor ended
	ClientLimitReached Kind = "shortage"       // a service accepts no further clients
	ClientLimitCleared Kind = "shortage_ended" // it accepts clients again
	EventsLost         Kind = "lost"           // events before this one could not be written
)

// Event is one thing that happened in a project.
type Event struct {
	Time    time.Time `json:"time"`
	Kind    Kind      `json:"kind"`
	Service string    `json:"service,omitempty"` // empty: the project as a whole
	From    string    `json:"from,omitempty"`    // previous state
	To      string    `json:"to,omitempty"`      // new state
	Reason  string    `json:"reason,omitempty"`
	Hint    string    `json:"hint,omitempty"`
	Run     string    `json:"run,omitempty"`
	// PromptLine is the number of the prompt's line (lockstate) with which prompts report this event; 0: they do not.
	PromptLine uint64 `json:"line,omitempty"`
}

// Recorder writes events to a project's log directory. It is safe for concurrent use.
type Recorder struct{ file *File }

// NewRecorder makes the recorder of a log directory. Its file is masked, rotated and expires like a log file.
func NewRecorder(dir string, mask func(string) string, limits Limits) *Recorder {
	file := NewFile(filepath.Join(dir, eventsFileName), mask, limits)
	file.lossNotice = lostEventsNotice
	return &Recorder{file}
}

func lostEventsNotice(lost int, cause error) string {
	return Event{Time: time.Now(), Kind: EventsLost, Reason: fmt.Sprintf("%d events lost: %v", lost, cause)}.encode()
}

func (e Event) encode() string {
	e.Time = e.Time.UTC().Truncate(time.Millisecond)
	data, _ := json.Marshal(e) // cannot fail: the fields are strings and numbers
	return string(data) + "\n"
}

// Append writes an event, with the current time if it has none. Reason and Hint are masked. It never fails: events that cannot
// be written are counted, and EventsLost says how many.
func (r *Recorder) Append(e Event) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	e.Reason, e.Hint = r.file.mask(e.Reason), r.file.mask(e.Hint)
	r.file.appendText(e.encode())
}

// SetLimits changes the limits from the next event on.
func (r *Recorder) SetLimits(limits Limits) { r.file.SetLimits(limits) }

// Close closes the file; a later event opens it again.
func (r *Recorder) Close() error { return r.file.Close() }

// EventReader reads the events of a log directory, oldest first.
type EventReader struct {
	dir  string
	tail *Tail
}

// NewEventReader makes a reader of a log directory, which need not exist. It must be closed.
func NewEventReader(dir string) *EventReader {
	return &EventReader{dir: dir, tail: newTail(filepath.Join(dir, eventsFileName))}
}

// Read returns the events that were added since the last call and are not older than since.
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

// decodeEvent parses a line; false if it is no event, for example because it was written in part.
func decodeEvent(line []byte) (event Event, ok bool) {
	return event, json.Unmarshal(line, &event) == nil && event.Kind != ""
}

// Follow calls onEvents with the unread events and then with each addition, until ctx ends or onEvents returns an error, which
// Follow returns. It calls onEvents at least every two seconds, also without events.
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
