package supervisor

import (
	"context"
	"errors"
	"maps"
	"net"
	"strconv"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/control"
	"github.com/localport-sh/localport/forwarder/metrics"
	"github.com/localport-sh/localport/probe"
)

// figures count what a forward has been through since its supervisor began.
type figures struct {
	latencies metrics.Histogram
	results   map[string]uint64 // of checks
	restarts  map[string]uint64 // by reason
}

// The reasons of restarts.
const (
	reasonEnded     = "ended"      // the tunnel ended by itself
	reasonNotOpened = "not_opened" // it could not be opened
	reasonSilent    = "silent"     // nothing came back through it
	reasonFrozen    = "frozen"     // its process was stopped
	reasonAsked     = "asked"      // by the user, or a changed config
	reasonIdle      = "idle"       // nobody used it for idle_timeout
)

// resultOf is the word for what came of a check.
func resultOf(err error) string {
	var (
		failure *probe.Failure
		refusal *forwarder.Refusal
	)
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.As(err, &refusal):
		return "refused"
	case errors.As(err, &failure):
		return "failed"
	}
	return "error"
}

// put copies the figures into a report. f.mu is held.
func (f *figures) put(one *control.ServiceStatus) {
	if len(f.results) > 0 {
		one.Health.Latencies, one.Health.Results = f.latencies.Snapshot(), maps.Clone(f.results)
	}
	one.RestartReasons = maps.Clone(f.restarts)
}

// serveMetrics has the figures where the config asks for them, until ctx ends.
func (s *Supervisor) serveMetrics(ctx context.Context) {
	for ctx.Err() == nil {
		s.mu.Lock()
		port := s.project.MetricsPort
		s.mu.Unlock()
		serving, stop := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.metricsOn(serving, port)
		}()
		select {
		case <-s.reloaded:
		case <-ctx.Done():
		}
		stop()
		<-done
	}
}

// metricsOn serves the figures on a port; 0 is none. The port may be taken for a while, if only by the supervisor that
// this one replaces.
func (s *Supervisor) metricsOn(ctx context.Context, port int) {
	for ctx.Err() == nil && port != 0 {
		ln, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		s.setMetricsTrouble(err)
		if err == nil {
			s.setMetricsTrouble(metrics.Serve(ctx, ln, s.Status))
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
	s.setMetricsTrouble(nil)
}

func (s *Supervisor) setMetricsTrouble(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := ""
	if err != nil {
		text = "metrics_port: " + err.Error()
	}
	if text != s.metricsTrouble && text != "" {
		s.log.Warn("no metrics", "error", err)
	}
	s.metricsTrouble = text
}
