package supervisor

import (
	"context"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/eventlog"
	"github.com/localport-sh/localport/forwarder/notify"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
)

// eventPublisher writes events to the event log, notifies the user and has prompts re-evaluate. It is safe for concurrent use, and
// publish never waits.
type eventPublisher struct {
	store    *store
	project  string // its name
	log      *slog.Logger
	recorder *eventlog.Recorder
	notifier *notify.Notifier
	queueCh  chan *eventlog.Event
}

// eventQueueSize is the capacity of the queue; further events are dropped, which is logged.
const eventQueueSize = 1024

func newEventPublisher(store *store, log *slog.Logger, mask func(string) string) *eventPublisher {
	return &eventPublisher{
		store: store, project: filepath.Base(filepath.Dir(store.dir.Config)), log: log,
		recorder: eventlog.NewRecorder(store.dir.LogDir(), mask, eventlog.Limits{}),
		notifier: notify.New(notify.Settings{}, log),
		queueCh:  make(chan *eventlog.Event, eventQueueSize),
	}
}

// setUserConfig applies the user's notification and log settings.
func (p *eventPublisher) setUserConfig(user project.UserConfig, env []string) {
	home, err := lockstate.HomeDir()
	if err != nil {
		home = "/"
	}
	p.recorder.SetLimits(logLimits(user))
	p.notifier.UpdateSettings(notify.Settings{
		Command: user.Notify.Command, Desktop: user.Notify.Desktop, Events: user.Notify.On, Dir: home, Env: env,
	})
}

func logLimits(user project.UserConfig) eventlog.Limits {
	return eventlog.Limits{MaxSize: user.Logs.MaxSize, MaxAge: user.Logs.Keep}
}

// publish notifies the user of an event in the state of its service, and queues it to be written. Its texts must be masked.
func (p *eventPublisher) publish(e eventlog.Event, state forwarder.State) {
	e.Time = eventTime(e.Time)
	p.notifier.Notify(notify.Notification{
		Event: string(e.Kind), Service: e.Service, Project: p.project, State: string(state), Reason: e.Reason,
	})
	select {
	case p.queueCh <- &e:
	default:
		p.log.Warn("dropped an event: the queue is full", "kind", e.Kind, "service", e.Service)
	}
}

// announceRetryInterval is the time between attempts to announce events to the prompts.
const announceRetryInterval = time.Second

// run writes queued events until ctx ends, then those that are left, and sends the notifications that are left. Events that could not be announced to the prompts, because the
// state is locked for example, are kept and retried.
func (p *eventPublisher) run(ctx context.Context) {
	defer p.notifier.Close()
	defer func() { _ = p.recorder.Close() }()
	var unannounced []eventlog.Event
	var retryCh <-chan time.Time // nil while there are none
	for {
		select {
		case queued := <-p.queueCh:
			if isShownAtPrompt(queued.Kind) {
				unannounced = p.announce(ctx, append(unannounced, *queued))
			} else {
				p.recorder.Append(*queued)
			}
		case <-retryCh:
			unannounced = p.announce(ctx, unannounced)
		case <-ctx.Done():
			for len(p.queueCh) > 0 {
				unannounced = append(unannounced, *<-p.queueCh)
			}
			for _, event := range unannounced {
				p.recorder.Append(event)
			}
			return
		}
		if retryCh = nil; len(unannounced) > 0 {
			retryCh = time.After(announceRetryInterval)
		}
	}
}

// announce records events under new numbers of the prompts' line, and returns those that are left after the first failure.
func (p *eventPublisher) announce(ctx context.Context, events []eventlog.Event) (left []eventlog.Event) {
	for len(events) > 0 && p.recordWithLine(ctx, &events[0]) {
		events = events[1:]
	}
	return events
}

func isShownAtPrompt(kind eventlog.Kind) bool {
	return kind == eventlog.ServiceFailed || kind == eventlog.ServiceRecovered || kind == eventlog.ConfigPending
}

// recordWithLine bumps the prompts' line and records an event under the new number, before any prompt can read that number.
func (p *eventPublisher) recordWithLine(ctx context.Context, e *eventlog.Event) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	written := false
	err := p.store.bump(ctx, func(number uint64) {
		if !written { // only once, though this may be called again: the numbers never go down
			e.PromptLine = number
			p.recorder.Append(*e)
			written = true
		}
	})
	if err != nil && ctx.Err() == nil {
		p.log.Error("cannot announce an event to the prompts", "error", err)
	}
	return written
}
