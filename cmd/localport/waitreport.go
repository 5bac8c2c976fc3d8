package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/localport-sh/localport/cmd/localport/internal/layout"
	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/client"
)

// waitReport tells a person what a command waits for, if it waits for longer than a moment: on a terminal in lines that are updated in
// place, otherwise by a line for each change.
type waitReport struct {
	w         *output.Writer
	screen    *screenView   // nil: not a terminal whose lines can be updated
	limit     time.Duration // of the wait
	startTime time.Time
	reasonsCh chan []waitReason
	reported  map[string]reportedReason // by service
	isShown   bool
}

// waitReason is why a command waits for a service; the service is empty if it waits for something else.
type waitReason struct{ service, text string }

// reportedReason is what was printed about a service.
type reportedReason struct {
	text string
	at   time.Time
}

// changedReasonInterval is the time between two reasons for one service, where lines are not updated: some reasons differ at each attempt, by a
// pid for example.
const changedReasonInterval = 5 * time.Second

// reportInterval is how often the time on a terminal is updated.
const reportInterval = time.Second

// maxReportedServices is how many services are named on a terminal at the same time.
const maxReportedServices = 8

func newWaitReport(w *output.Writer, limit time.Duration) *waitReport {
	r := &waitReport{w: w, limit: limit, startTime: time.Now(), reasonsCh: make(chan []waitReason, 1), reported: make(map[string]reportedReason)}
	if w.IsTerminal() && os.Getenv("TERM") != "dumb" && os.Getenv("CI") == "" {
		r.screen = &screenView{out: w.File(), size: w.Size, encode: w.Encode}
	}
	return r
}

// delay is the time after which a wait is reported. Most services are ready before.
func (r *waitReport) delay() time.Duration {
	if r.screen != nil {
		return client.PromptTimeout() / 5
	}
	return client.PromptTimeout() * 3 / 4
}

// start reports until the returned function is called, which removes what was written on a terminal. summary is printed then if the wait was
// reported; it may be empty.
func (r *waitReport) start() (stop func(summary string)) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { r.run(ctx) })
	return func(summary string) {
		cancel()
		wg.Wait()
		if r.isShown && r.screen != nil {
			_ = r.screen.draw(nil)
		}
		if r.isShown && summary != "" {
			output.Info(r.w, "%s after %s", summary, formatElapsed(time.Since(r.startTime)))
		}
	}
}

// update gives the report the latest reasons. It does not block. It must not be called concurrently.
func (r *waitReport) update(reasons []waitReason) {
	select {
	case <-r.reasonsCh: // older ones
	default:
	}
	r.reasonsCh <- reasons
}

// run prints until ctx ends.
func (r *waitReport) run(ctx context.Context) {
	timer := time.NewTimer(r.delay())
	defer timer.Stop()
	tick := time.NewTicker(reportInterval)
	defer tick.Stop()
	var latest []waitReason
	isDue := false
	for {
		select {
		case <-ctx.Done():
			return
		case latest = <-r.reasonsCh:
		case <-timer.C:
			isDue = true
		case <-tick.C:
			if r.screen == nil {
				continue
			}
		}
		if !isDue || ctx.Err() != nil || len(latest) == 0 {
			continue
		}
		if r.screen != nil {
			r.draw(latest)
		} else {
			r.printNew(latest)
		}
	}
}

// draw shows the reasons on the terminal instead of those before.
func (r *waitReport) draw(reasons []waitReason) {
	r.isShown = true
	var lines []output.Line
	for i, reason := range reasons {
		if i == maxReportedServices {
			lines = append(lines, output.Line{{Style: output.Faint, Text: fmt.Sprintf("  and %d more", len(reasons)-i)}})
			break
		}
		subject := cmp.Or(reason.service, "the supervisor")
		if i == 0 {
			subject += fmt.Sprintf(" (%s of %s)", time.Since(r.startTime).Truncate(time.Second), r.limit)
		}
		line := output.Line{{Text: "localport: waiting for " + subject + ": "}, {Style: output.Progress, Text: reason.text}}
		lines = append(lines, line)
	}
	columns, _ := r.screen.size()
	for i := range lines {
		lines[i] = layout.TruncateLine(lines[i], columns)
	}
	_ = r.screen.draw(lines) // a report that cannot be shown is no reason to stop waiting
}

// printNew prints the reasons that have not been printed yet, those that are the same for several services on one line.
func (r *waitReport) printNew(reasons []waitReason) {
	services := make(map[string][]string)
	var texts []string
	for _, reason := range reasons {
		previous, wasReported := r.reported[reason.service]
		if wasReported && (reason.text == previous.text || reason.text == reasonOpening || previous.text != reasonOpening && time.Since(previous.at) < changedReasonInterval) {
			continue
		}
		r.reported[reason.service] = reportedReason{reason.text, time.Now()}
		if services[reason.text] == nil {
			texts = append(texts, reason.text)
		}
		services[reason.text] = append(services[reason.text], cmp.Or(reason.service, "the supervisor"))
	}
	for _, text := range texts {
		r.isShown = true
		output.Info(r.w, "waiting up to %v for %s: %s", r.limit, strings.Join(services[text], ", "), text)
	}
}

// formatElapsed formats how long a wait took.
func formatElapsed(d time.Duration) string {
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// What a command waits for while nothing has failed.
const (
	reasonOpening  = "opening the tunnel"
	reasonChecking = "checking its health"
)

// joinAndReport joins the project, and says that it waits for the supervisor if that takes long.
func (p commandProject) joinAndReport(ctx context.Context, w *output.Writer, options client.JoinOptions) (*client.JoinedProject, error) {
	report := newWaitReport(w, client.CommandTimeout())
	stopReport := report.start()
	defer stopReport("")
	reason := "it is starting"
	if recorded := p.Dir.ReadOrZero().Supervisor; recorded != nil && recorded.IsAlive() {
		reason = "it has not answered yet"
	}
	report.update([]waitReason{{text: reason}})
	return p.Join(ctx, options)
}

// waitReasons returns why the named services are not settled.
func waitReasons(status api.Status, names []string) []waitReason {
	var reasons []waitReason
	for _, svc := range status.Services {
		if slices.Contains(names, svc.Name) && !svc.IsSettled() {
			reasons = append(reasons, waitReason{svc.Name, waitReasonOf(svc)})
		}
	}
	return reasons
}

func waitReasonOf(svc api.ServiceStatus) string {
	lastError := output.JoinLines(svc.LastError)
	switch {
	case svc.EffectiveState() == forwarder.Unhealthy && lastError != "":
		return "its health check fails: " + lastError
	case lastError != "":
		return lastError
	case svc.UpSince != nil:
		return reasonChecking
	case svc.Progress != "":
		return reasonOpening + ": " + output.JoinLines(svc.Progress)
	}
	return reasonOpening
}
