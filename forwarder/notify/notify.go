// Package notify tells the user of what happens to his services, by a program of his own or on his desktop.
package notify

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder/wait"
)

// MinInterval is the least time between two notices of one service. What happens in between is not queued: the last of it is
// told when the time is over, unless it is what was told already.
const MinInterval = 5 * time.Second

// CommandTimeout is how long a program may take to tell.
const CommandTimeout = 10 * time.Second

// Notification is what the user is told. Its texts must hold no secret: they become arguments of programs.
type Notification struct {
	Event   string // failed, recovered
	Service string // empty: the project as a whole
	Project string // its name
	State   string // that the service is in now
	Reason  string // may be empty
}

// Settings say how to tell, and of what.
type Settings struct {
	Command []string // argv, with {event} {service} {project} {state} {reason}; empty: none
	Desktop bool
	Events  []string // events
	Dir     string   // where the programs run
	Env     []string // their environment, to which LOCALPORT_EVENT and the others are added
}

// Notifier tells one project's notices, one at a time. It is safe for concurrent use.
type Notifier struct {
	log    *slog.Logger
	send   func(context.Context, Settings, Notification) error
	cancel context.CancelFunc
	doneCh chan struct{}
	wakeCh chan struct{}

	mu          sync.Mutex
	settings    Settings
	pending     map[string]pendingNotification // by service
	lastSent    map[string]Notification        // last
	nextAllowed map[string]time.Time           // when the next may be told
}

// pendingNotification is a notice that is to be told, and when it came.
type pendingNotification struct {
	Notification
	queuedAt time.Time
}

// New is a notifier with these settings. What goes wrong is logged. It must be closed.
func New(settings Settings, log *slog.Logger) *Notifier { return newNotifier(settings, log, send) }

func newNotifier(settings Settings, log *slog.Logger, send func(context.Context, Settings, Notification) error) *Notifier {
	ctx, cancel := context.WithCancel(context.Background())
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

// UpdateSettings changes the settings from the next notice on.
func (n *Notifier) UpdateSettings(settings Settings) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.settings = settings
}

// Notify has a notice told if the settings ask for its event. It never waits.
func (n *Notifier) Notify(notification Notification) {
	n.mu.Lock()
	isWanted := n.settings.wantsEvent(notification.Event)
	if isWanted {
		n.pending[notification.Service] = pendingNotification{notification, time.Now()}
	}
	n.mu.Unlock()
	if isWanted {
		wait.Notify(n.wakeCh)
	}
}

// Close ends what is being told, with its program, and forgets the rest. It returns when nothing is left.
func (n *Notifier) Close() {
	n.cancel()
	<-n.doneCh
}

// run tells whatever is due, until ctx ends.
func (n *Notifier) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		notification, settings, delay := n.takeDue()
		if notification != nil {
			if err := n.send(ctx, settings, *notification); err != nil && ctx.Err() == nil {
				n.log.Warn("notify", "service", notification.Service, "event", notification.Event, "error", err)
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

// takeDue takes a notice that may be told now. Without one it says how long it is until the next; 0: none waits.
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
			continue // it came back to what the user knows
		}
		n.lastSent[service] = pending.Notification
		return &pending.Notification, n.settings, 0
	}
	return nil, Settings{}, delay
}

// delayNext begins the time in which the service is not spoken of.
func (n *Notifier) delayNext(service string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.nextAllowed[service] = time.Now().Add(MinInterval)
}
