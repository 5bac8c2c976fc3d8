package supervisor

import (
	"context"
	"net"
	"strconv"
	"time"

	"github.com/localport-sh/localport/forwarder/metrics"
	"github.com/localport-sh/localport/forwarder/wait"
)

// serveMetrics serves the metrics on the configured port until ctx ends or the ports are closed: a successor serves them while this
// supervisor drains its connections.
func (s *Supervisor) serveMetrics(ctx context.Context) {
	for ctx.Err() == nil && !wait.IsClosed(s.endedCh) {
		port := s.active.Load().project.MetricsPort
		stop := s.startTask(func(ctx context.Context) { s.serveMetricsOn(ctx, port) })
		select {
		case <-s.reloadedCh:
		case <-s.endedCh:
		case <-ctx.Done():
		}
		stop()
	}
}

// serveMetricsOn serves the metrics on a port; 0 is none. It retries every second while the port is in use, as by the supervisor that
// this one replaces.
func (s *Supervisor) serveMetricsOn(ctx context.Context, port int) {
	for ctx.Err() == nil && port != 0 {
		ln, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		s.setMetricsError(err)
		if err == nil {
			s.setMetricsError(metrics.Serve(ctx, ln, s.Status))
		}
		wait.Sleep(ctx, time.Second)
	}
	s.setMetricsError(nil)
}

func (s *Supervisor) setMetricsError(err error) {
	text := ""
	if err != nil {
		text = "metrics_port: " + err.Error()
	}
	if setCondition(s, &s.conditions.metricsError, text) && text != "" {
		s.log.Warn("cannot serve the metrics; retrying", "error", err)
	}
}
