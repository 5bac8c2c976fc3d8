// Package notify notifies the user of events of a project's services, by a configured command or on the desktop.
package notify

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder/printable"
	"github.com/localport-sh/localport/forwarder/wait"
)

// minInterval is the minimum time between two notifications of one topic. Of those that arrive in between only the last is
// kept; it is sent when the interval is over, unless it equals the one that was sent before.
const minInterval = 5 * time.Second

// closeTimeout is how long Close may take to send what is queued: a program that hangs keeps no supervisor.
const closeTimeout = 3 * time.Second

// CommandTimeout is how long the programs of one notification may run.
const CommandTimeout = 10 * time.Second

// Notification describes one event. Its texts must contain no secret: they become arguments of programs. What they contain of other
// programs' output is escaped, because the user's program may print it.
type Notification struct {
	Event   string // failed, recovered
	Service string // empty: the project as a whole
	Project string // the project's name
	State   string // the service's current state
	Reason  string // may be empty
}

// Settings are the events to notify of, and how.
type Settings struct {
	Command []string // argv, with {event} {service} {project} {state} {reason}; empty: none
	Desktop bool
	Events  []string // as in Notification.Event
	Dir     string   // the programs' working directory
	Env     []string // the programs' environment, to which LOCALPORT_EVENT and the others are added
}

// Notifier sends the notifications of one project. It is safe for concurrent use.
type Notifier struct {
	log    *slog.Logger
	send   func(context.Context, Settings, Notification) error
	cancel context.CancelFunc
	tasks  sync.WaitGroup
	// Changes of state have a queue of their own: there are many of them, and none may delay a failure or the end.
	states, events *queue

	mu          sync.Mutex // guards the fields that follow, and those of the queues
	settings    Settings
	isClosing   bool
	lastNumber  uint64 // of the pending notifications
	lastSent    map[topic]Notification
	nextAllowed map[topic]time.Time // when the next notification may be sent
}

// queue holds notifications that are sent one at a time.
type queue struct {
	wakeCh  chan struct{}
	pending map[topic]pendingNotification
}

func newQueue() *queue {
	return &queue{wakeCh: make(chan struct{}, 1), pending: make(map[topic]pendingNotification)}
}

// topic is what a notification replaces an earlier one of, as long as that waits to be sent: an event of one service, or the event that
// cancels it.
type topic struct{ service, event string }

func (n Notification) topic() topic {
	switch event := n.Event; event {
	case "recovered":
		return topic{n.Service, "failed"}
	case "shortage_ended":
		return topic{n.Service, "shortage"}
	default:
		return topic{n.Service, event}
	}
}

func (n *Notifier) queueOf(notification Notification) *queue {
	if notification.Event == "state" {
		return n.states
	}
	return n.events
}

// pendingNotification is a notification that has not been sent yet.
type pendingNotification struct {
	Notification
	queuedAt time.Time
	number   uint64 // in the order of the events
}

// New starts a notifier, which must be closed. It logs errors.
func New(settings Settings, log *slog.Logger) *Notifier { return newNotifier(settings, log, send) }

func newNotifier(settings Settings, log *slog.Logger, send func(context.Context, Settings, Notification) error) *Notifier {
	ctx, cancel := context.WithCancel(context.Background()) // no caller's context: the notifier runs until Close
	n := &Notifier{
		log: log, send: send, cancel: cancel, states: newQueue(), events: newQueue(), settings: settings,
		lastSent: make(map[topic]Notification), nextAllowed: make(map[topic]time.Time),
	}
	for _, q := range []*queue{n.states, n.events} {
		n.tasks.Go(func() { n.run(ctx, q) })
	}
	return n
}

// UpdateSettings replaces the settings. They apply from the next notification on.
func (n *Notifier) UpdateSettings(settings Settings) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.settings = settings
}

// Notify queues a notification if the settings list its event. It never blocks.
func (n *Notifier) Notify(notification Notification) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.isClosing || !n.settings.wantsEvent(notification.Event) {
		return
	}
	q := n.queueOf(notification)
	n.lastNumber++
	q.pending[notification.topic()] = pendingNotification{notification.escaped(), time.Now(), n.lastNumber}
	wait.Notify(q.wakeCh)
}

// escaped returns the notification without characters that a terminal would interpret.
func (n Notification) escaped() Notification {
	n.Project, n.Reason = printable.EscapeLine(n.Project), printable.EscapeLine(n.Reason)
	return n
}

// Close sends what is queued, for at most closeTimeout, kills the programs that still run, and waits until the notifier has ended.
func (n *Notifier) Close() {
	n.mu.Lock()
	n.isClosing = true
	n.mu.Unlock()
	wait.Notify(n.states.wakeCh)
	wait.Notify(n.events.wakeCh)
	timer := time.AfterFunc(closeTimeout, n.cancel)
	defer timer.Stop()
	n.tasks.Wait()
	n.cancel()
}

// run sends what is due in a queue, until the notifier is closed and the queue is empty, or ctx ends.
func (n *Notifier) run(ctx context.Context, q *queue) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		next := n.takeDue(q)
		switch {
		case next.notification != nil:
			n.sendOne(ctx, next.settings, *next.notification)
			continue
		case next.isLast:
			return
		case next.delay > 0:
			timer.Reset(next.delay)
		}
		select {
		case <-ctx.Done():
		case <-q.wakeCh:
		case <-timer.C:
		}
	}
}

func (n *Notifier) sendOne(ctx context.Context, settings Settings, notification Notification) {
	if err := n.send(ctx, settings, notification); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("not finished within %v after the supervisor ended", closeTimeout)
		}
		n.log.Warn("notification not sent", "service", notification.Service, "event", notification.Event, "error", err)
	}
	n.delayNext(notification.topic())
}

// dueNotification is what a queue has to send now.
type dueNotification struct {
	notification *Notification // nil: nothing
	settings     Settings
	delay        time.Duration // without a notification: until the next is due; 0 if none is pending
	isLast       bool          // without a notification: none will follow
}

// takeDue removes and returns the oldest notification of a queue that may be sent now. While the notifier closes, all may be sent.
func (n *Notifier) takeDue(q *queue) dueNotification {
	n.mu.Lock()
	defer n.mu.Unlock()
	for {
		oldest, delay := n.oldestDue(q)
		if oldest == nil {
			return dueNotification{delay: delay, isLast: n.isClosing}
		}
		key := oldest.topic()
		delete(q.pending, key)
		if oldest.queuedAt.Before(n.nextAllowed[key]) && oldest.Notification == n.lastSent[key] {
			continue // the service is back in the state that the user knows of
		}
		n.lastSent[key] = oldest.Notification
		return dueNotification{notification: &oldest.Notification, settings: n.settings}
	}
}

// oldestDue returns the oldest notification of a queue that may be sent now; without one, the time until the next may be.
func (n *Notifier) oldestDue(q *queue) (oldest *pendingNotification, delay time.Duration) {
	for key, pending := range q.pending {
		if left := time.Until(n.nextAllowed[key]); left > 0 && !n.isClosing {
			if delay == 0 || left < delay {
				delay = left
			}
		} else if oldest == nil || pending.number < oldest.number {
			oldest = &pending
		}
	}
	return oldest, delay
}

// delayNext starts the interval in which no further notification of a topic is sent.
func (n *Notifier) delayNext(key topic) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.nextAllowed[key] = time.Now().Add(minInterval)
}
