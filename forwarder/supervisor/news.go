package supervisor

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/eventlog"
	"github.com/localport-sh/localport/forwarder/notify"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
)

// eventPublisher makes known what happens: it is written down, the user is told, and prompts look. It is safe for concurrent use,
// and never waited for.
type eventPublisher struct {
	dir      *lockstate.Dir
	project  string // its name
	log      *slog.Logger
	recorder *eventlog.Recorder
	notifier *notify.Notifier
	queue    chan queuedEvent
}

// queuedEvent is an event, and the state that its service is in.
type queuedEvent struct {
	eventlog.Event
	state forwarder.State
}

// eventQueueSize is how many events may wait to be written; what is more is dropped and counted in the log.
const eventQueueSize = 1024

func newEventPublisher(dir *lockstate.Dir, log *slog.Logger, mask func(string) string) *eventPublisher {
	return &eventPublisher{
		dir: dir, project: filepath.Base(filepath.Dir(dir.Config)), log: log,
		recorder: eventlog.Record(dir.LogDir(), mask, eventlog.Limits{}),
		notifier: notify.New(notify.Settings{}, log),
		queue:    make(chan queuedEvent, eventQueueSize),
	}
}

// setUserConfig has the user's wishes heeded.
func (n *eventPublisher) setUserConfig(user project.UserConfig, env []string) {
	home, err := os.UserHomeDir()
	if err != nil {
		home = "/"
	}
	n.recorder.SetLimits(logLimits(user))
	n.notifier.Set(notify.Settings{
		Command: user.Notify.Command, Desktop: user.Notify.Desktop, On: user.Notify.On, Dir: home, Env: env,
	})
}

func logLimits(user project.UserConfig) eventlog.Limits {
	return eventlog.Limits{Size: user.Logs.MaxSize, Keep: user.Logs.Keep}
}

// publish makes an event known. Its texts are masked already, or hold no secret.
func (n *eventPublisher) publish(e eventlog.Event, state forwarder.State) {
	e.Time = time.Now()
	select {
	case n.queue <- queuedEvent{e, state}:
	default:
		n.log.Warn("an event was dropped: too many wait to be written", "kind", e.Kind, "service", e.Service)
	}
}

// run writes events down until ctx ends, then those that still wait.
func (n *eventPublisher) run(ctx context.Context) {
	defer n.notifier.Close()
	defer func() { _ = n.recorder.Close() }()
	for {
		select {
		case r := <-n.queue:
			n.write(ctx, r)
			continue
		default:
		}
		select {
		case r := <-n.queue:
			n.write(ctx, r)
		case <-ctx.Done():
			for len(n.queue) > 0 {
				n.recorder.Append((<-n.queue).Event)
			}
			return
		}
	}
}

func (n *eventPublisher) write(ctx context.Context, r queuedEvent) {
	if !isShownAtPrompt(r.Kind) || !n.recordWithLine(ctx, &r.Event) {
		n.recorder.Append(r.Event)
	}
	n.notifier.Tell(notify.Notice{
		Event: string(r.Kind), Service: r.Service, Project: n.project, State: string(r.state), Reason: r.Reason,
	})
}

func isShownAtPrompt(kind eventlog.Kind) bool {
	return kind == eventlog.Failed || kind == eventlog.Recovered || kind == eventlog.Pending
}

// recordWithLine writes an event under the number by which prompts are told of it: before any prompt can see that number.
func (n *eventPublisher) recordWithLine(ctx context.Context, e *eventlog.Event) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	written := false
	_, err := n.dir.Update(ctx, func(tx *lockstate.Tx) error {
		tx.Bump()
		if !written { // also where Update calls this once more: no number is lower than the one before
			e.Line = tx.Line + 1 // what the bump makes of it
			n.recorder.Append(*e)
			written = true
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		n.log.Error("have prompts told", "error", err)
	}
	return written
}
