// Package notify tells the user of what happens to his services, by a program of his own or on his desktop.
package notify

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder/printable"
	"github.com/localport-sh/localport/forwarder/wait"
)

// Pace is the least time between two notices of one service. What happens in between is not queued: the last of it is
// told when the time is over, unless it is what was told already.
const Pace = 5 * time.Second

// Limit is how long a program may take to tell.
const Limit = 10 * time.Second

// Notice is what the user is told. Its texts must hold no secret: they become arguments of programs. What they hold of other programs
// is escaped, for the user's program may print it.
type Notice struct {
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
	On      []string // events
	Dir     string   // where the programs run
	Env     []string // their environment, to which LOCALPORT_EVENT and the others are added
}

// Notifier tells one project's notices, one at a time. It is safe for concurrent use.
type Notifier struct {
	log    *slog.Logger
	tell   func(context.Context, Settings, Notice) error
	cancel context.CancelFunc
	done   chan struct{}
	wake   chan struct{}

	mu       sync.Mutex
	settings Settings
	waiting  map[string]waiting   // by service
	told     map[string]Notice    // last
	next     map[string]time.Time // when the next may be told
}

// waiting is a notice that is to be told, and when it came.
type waiting struct {
	Notice
	since time.Time
}

// New is a notifier with these settings. What goes wrong is logged. It must be closed.
func New(settings Settings, log *slog.Logger) *Notifier { return begin(settings, log, tell) }

func begin(settings Settings, log *slog.Logger, tell func(context.Context, Settings, Notice) error) *Notifier {
	ctx, cancel := context.WithCancel(context.Background())
	n := &Notifier{
		log: log, tell: tell, cancel: cancel, done: make(chan struct{}), wake: make(chan struct{}, 1), settings: settings,
		waiting: make(map[string]waiting), told: make(map[string]Notice), next: make(map[string]time.Time),
	}
	go func() {
		defer close(n.done)
		n.run(ctx)
	}()
	return n
}

// Set changes the settings from the next notice on.
func (n *Notifier) Set(settings Settings) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.settings = settings
}

// Tell has a notice told if the settings ask for its event. It never waits.
func (n *Notifier) Tell(notice Notice) {
	n.mu.Lock()
	wanted := n.settings.wants(notice.Event)
	if wanted {
		n.waiting[notice.Service] = waiting{notice.escaped(), time.Now()}
	}
	n.mu.Unlock()
	if wanted {
		wait.Notify(n.wake)
	}
}

// escaped is the notice with nothing in it that a terminal would act on.
func (n Notice) escaped() Notice {
	n.Project, n.Reason = printable.Line(n.Project), printable.Line(n.Reason)
	return n
}

// Close ends what is being told, with its program, and forgets the rest. It returns when nothing is left.
func (n *Notifier) Close() {
	n.cancel()
	<-n.done
}

// run tells whatever is due, until ctx ends.
func (n *Notifier) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		notice, settings, delay := n.due()
		if notice != nil {
			if err := n.tell(ctx, settings, *notice); err != nil && ctx.Err() == nil {
				n.log.Warn("notify", "service", notice.Service, "event", notice.Event, "error", err)
			}
			n.pace(notice.Service)
			continue
		}
		if delay > 0 {
			timer.Reset(delay)
		}
		select {
		case <-ctx.Done():
		case <-n.wake:
		case <-timer.C:
		}
	}
}

// due takes a notice that may be told now. Without one it says how long it is until the next; 0: none waits.
func (n *Notifier) due() (notice *Notice, settings Settings, wait time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for service, w := range n.waiting {
		if left := time.Until(n.next[service]); left > 0 {
			if wait == 0 || left < wait {
				wait = left
			}
			continue
		}
		delete(n.waiting, service)
		if w.since.Before(n.next[service]) && w.Notice == n.told[service] {
			continue // it came back to what the user knows
		}
		n.told[service] = w.Notice
		return &w.Notice, n.settings, 0
	}
	return nil, Settings{}, wait
}

// pace begins the time in which the service is not spoken of.
func (n *Notifier) pace(service string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.next[service] = time.Now().Add(Pace)
}
