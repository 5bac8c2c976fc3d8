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

// news makes known what happens: it is written down, the user is told, and prompts look. It is safe for concurrent use,
// and never waited for.
type news struct {
	dir      *lockstate.Dir
	project  string // its name
	log      *slog.Logger
	recorder *eventlog.Recorder
	notifier *notify.Notifier
	queue    chan report
}

// report is an event, and the state that its service is in.
type report struct {
	eventlog.Event
	state forwarder.State
}

// mostNews is how many events may wait to be written; what is more is dropped and counted in the log.
const mostNews = 1024

func newNews(dir *lockstate.Dir, log *slog.Logger, mask func(string) string) *news {
	return &news{
		dir: dir, project: filepath.Base(filepath.Dir(dir.Config)), log: log,
		recorder: eventlog.NewRecorder(dir.LogDir(), mask, eventlog.Limits{}),
		notifier: notify.New(notify.Settings{}, log),
		queue:    make(chan report, mostNews),
	}
}

// set has the user's wishes heeded.
func (n *news) set(user project.UserConfig, env []string) {
	home, err := os.UserHomeDir()
	if err != nil {
		home = "/"
	}
	n.recorder.SetLimits(limits(user))
	n.notifier.UpdateSettings(notify.Settings{
		Command: user.Notify.Command, Desktop: user.Notify.Desktop, Events: user.Notify.On, Dir: home, Env: env,
	})
}

func limits(user project.UserConfig) eventlog.Limits {
	return eventlog.Limits{MaxSize: user.Logs.MaxSize, MaxAge: user.Logs.Keep}
}

// tell makes an event known. Its texts are masked already, or hold no secret.
func (n *news) tell(e eventlog.Event, state forwarder.State) {
	e.Time = time.Now()
	select {
	case n.queue <- report{e, state}:
	default:
		n.log.Warn("an event was dropped: too many wait to be written", "kind", e.Kind, "service", e.Service)
	}
}

// run writes events down until ctx ends, then those that still wait.
func (n *news) run(ctx context.Context) {
	defer n.notifier.Close()
	defer func() { _ = n.recorder.Close() }()
	for {
		select {
		case r := <-n.queue:
			n.publish(ctx, r)
			continue
		default:
		}
		select {
		case r := <-n.queue:
			n.publish(ctx, r)
		case <-ctx.Done():
			for len(n.queue) > 0 {
				n.recorder.Append((<-n.queue).Event)
			}
			return
		}
	}
}

func (n *news) publish(ctx context.Context, r report) {
	if !forPrompts(r.Kind) || !n.withLine(ctx, &r.Event) {
		n.recorder.Append(r.Event)
	}
	n.notifier.Notify(notify.Notification{
		Event: string(r.Kind), Service: r.Service, Project: n.project, State: string(r.state), Reason: r.Reason,
	})
}

func forPrompts(kind eventlog.Kind) bool {
	return kind == eventlog.ServiceFailed || kind == eventlog.ServiceRecovered || kind == eventlog.ConfigPending
}

// withLine writes an event under the number by which prompts are told of it: before any prompt can see that number.
func (n *news) withLine(ctx context.Context, e *eventlog.Event) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	written := false
	_, err := n.dir.Update(ctx, func(tx *lockstate.Tx) error {
		tx.Bump()
		if !written { // also where Update calls this once more: no number is lower than the one before
			e.PromptLine = tx.Line + 1 // what the bump makes of it
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
