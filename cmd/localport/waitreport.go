package main

import (
	"context"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/client"
)

// waitReport tells a person what a command waits for: after a moment, and again when the reason has changed.
type waitReport struct {
	w        io.Writer
	names    []string      // of the services
	limit    time.Duration // of the wait
	statusCh chan api.Status
	told     map[string]waitReason // by service
}

// waitReason is what was said about a service.
type waitReason struct {
	text string
	at   time.Time
}

// changedReasonInterval is the time between two reasons for one service: some reasons differ at each attempt, by a pid for example.
const changedReasonInterval = 5 * time.Second

// waitReportDelay is the time after which a wait is reported. Most services are ready before.
func waitReportDelay() time.Duration { return client.PromptTimeout() * 3 / 4 }

func newWaitReport(w io.Writer, names []string, limit time.Duration) *waitReport {
	return &waitReport{w: w, names: names, limit: limit, statusCh: make(chan api.Status, 1), told: make(map[string]waitReason)}
}

// update gives the report the latest status. It does not block. It must not be called concurrently.
func (r *waitReport) update(status api.Status) {
	select {
	case <-r.statusCh: // an older one
	default:
	}
	r.statusCh <- status
}

// run prints until ctx ends.
func (r *waitReport) run(ctx context.Context) {
	timer := time.NewTimer(waitReportDelay())
	defer timer.Stop()
	var latest api.Status
	isDue := false
	for {
		select {
		case <-ctx.Done():
			return
		case latest = <-r.statusCh:
		case <-timer.C:
			isDue = true
		}
		if isDue && ctx.Err() == nil {
			r.print(latest)
		}
	}
}

// print names the services that are not settled and what is not yet known about them.
func (r *waitReport) print(status api.Status) {
	var withoutReason []string
	for _, svc := range status.Services {
		if !slices.Contains(r.names, svc.Name) || svc.State.IsSettled() {
			continue
		}
		reason := output.JoinLines(svc.LastError)
		told, isTold := r.told[svc.Name]
		if isTold && (reason == "" || reason == told.text || told.text != "" && time.Since(told.at) < changedReasonInterval) {
			continue
		}
		r.told[svc.Name] = waitReason{reason, time.Now()}
		if reason == "" {
			withoutReason = append(withoutReason, svc.Name)
			continue
		}
		output.Info(r.w, "waiting up to %v for %s: %s", r.limit, svc.Name, reason)
	}
	if len(withoutReason) > 0 {
		output.Info(r.w, "waiting up to %v for %s", r.limit, strings.Join(withoutReason, ", "))
	}
}
