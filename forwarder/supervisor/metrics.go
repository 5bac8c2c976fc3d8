package supervisor

import (
	"context"
	"net"
	"strconv"
	"time"

	"github.com/localport-sh/localport/forwarder/metrics"
)

// serveMetrics has the metrics where the config asks for them, until ctx ends.
func (s *Supervisor) serveMetrics(ctx context.Context) {
	for ctx.Err() == nil {
		port := s.plan.Load().project.MetricsPort
		end := s.launch(func(ctx context.Context) { s.serveMetricsOn(ctx, port) })
		select {
		case <-s.reloaded:
		case <-ctx.Done():
		}
		end()
	}
}

// serveMetricsOn serves the metrics on a port; 0 is none. The port may be taken for a while, if only by the supervisor that this
// one replaces.
func (s *Supervisor) serveMetricsOn(ctx context.Context, port int) {
	for ctx.Err() == nil && port != 0 {
		ln, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		s.noteMetrics(err)
		if err == nil {
			s.noteMetrics(metrics.Serve(ctx, ln, s.Status))
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
	s.noteMetrics(nil)
}

func (s *Supervisor) noteMetrics(err error) {
	text := ""
	if err != nil {
		text = "metrics_port: " + err.Error()
	}
	s.note(func(n *notes) {
		if text != n.metrics && text != "" {
			s.log.Warn("no metrics", "error", err)
		}
		n.metrics = text
	})
}
