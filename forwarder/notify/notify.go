// Package notify notifies the user of events of a project's services, by a configured command or on the desktop.
package notify

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder/printable"
	"github.com/localport-sh/localport/forwarder/wait"
)

// minInterval is the minimum time between two notifications of one service. Of those that arrive in between only the last is
// kept; it is sent when the interval is over, unless it equals the one that was sent before.
const minInterval = 5 * time.Second

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

// Notifier sends the notifications of one project, one at a time. It is safe for concurrent use.
type Notifier struct {
	log    *slog.Logger
	send   func(context.Context, Settings, Notification) error
	cancel context.CancelFunc
	doneCh chan struct{}
	wakeCh chan struct{}

	mu          sync.Mutex
	settings    Settings
	pending     map[string]pendingNotification // by service
	lastSent    map[string]Notification        // by service
	nextAllowed map[string]time.Time           // by service: when the next notification may be sent
}

// pendingNotification is a notification that has not been sent yet.
type pendingNotification struct {
	Notification
	queuedAt time.Time
}

// New starts a notifier, which must be closed. It logs errors.
func New(settings Settings, log *slog.Logger) *Notifier { return newNotifier(settings, log, send) }

func newNotifier(settings Settings, log *slog.Logger, send func(context.Context, Settings, Notification) error) *Notifier {
	ctx, cancel := context.WithCancel(context.Background()) // no caller's context: the notifier runs until Close
	n := &Notifier{
		log: log, send: send, cancel: cancel, doneCh: make(chan struct{}), wakeCh: make(chan struct{}, 1), settings: settings,
		pending: make(map[string]pendingNotification), lastSent: make(map[string]Notification), nextAllowed: make(map[string]time.Time),
	}
	go func() {
		defer close(n.doneCh)
		n.run(ctx)
	}()
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
	isWanted := n.settings.wantsEvent(notification.Event)
	if isWanted {
		n.pending[notification.Service] = pendingNotification{notification.escaped(), time.Now()}
	}
	n.mu.Unlock()
	if isWanted {
		wait.Notify(n.wakeCh)
	}
}

// escaped returns the notification without characters that a terminal would interpret.
func (n Notification) escaped() Notification {
	n.Project, n.Reason = printable.EscapeLine(n.Project), printable.EscapeLine(n.Reason)
	return n
}

// Close kills the programs that run, drops what is queued, and waits until the notifier has ended.
func (n *Notifier) Close() {
	n.cancel()
	<-n.doneCh
}

// run sends what is due, until ctx ends.
func (n *Notifier) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		notification, settings, delay := n.takeDue()
		if notification != nil {
			if err := n.send(ctx, settings, *notification); err != nil && ctx.Err() == nil {
				n.log.Warn("notification not sent", "service", notification.Service, "event", notification.Event, "error", err)
			}
			n.delayNext(notification.Service)
			continue
		}
		if delay > 0 {
			timer.Reset(delay)
		}
		select {
		case <-ctx.Done():
		case <-n.wakeCh:
		case <-timer.C:
		}
	}
}

// takeDue removes and returns a notification that may be sent now. Without one, delay is the time until the next is due; 0 if
// none is pending.
func (n *Notifier) takeDue() (notification *Notification, settings Settings, delay time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for service, pending := range n.pending {
		if left := time.Until(n.nextAllowed[service]); left > 0 {
			if delay == 0 || left < delay {
				delay = left
			}
			continue
		}
		delete(n.pending, service)
		if pending.queuedAt.Before(n.nextAllowed[service]) && pending.Notification == n.lastSent[service] {
			continue // the service is back in the state that the user knows of
		}
		n.lastSent[service] = pending.Notification
		return &pending.Notification, n.settings, 0
	}
	return nil, Settings{}, delay
}

// delayNext starts the interval in which no further notification of the service is sent.
func (n *Notifier) delayNext(service string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.nextAllowed[service] = time.Now().Add(minInterval)
}
