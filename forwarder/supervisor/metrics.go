package supervisor

import (
	"context"
	"net"
	"strconv"
	"time"

	"github.com/localport-sh/localport/forwarder/metrics"
	"github.com/localport-sh/localport/forwarder/wait"
)

// serveMetrics has the metrics where the config asks for them, until ctx ends or the ports are given up: a successor serves them
// while this supervisor waits for the ends of its connections.
func (s *Supervisor) serveMetrics(ctx context.Context) {
	for ctx.Err() == nil {
		port := s.active.Load().project.MetricsPort
		end := s.startTask(func(ctx context.Context) { s.serveMetricsOn(ctx, port) })
		select {
		case <-s.reloadedCh:
			end()
		case <-s.endedCh:
			end()
			return
		case <-ctx.Done():
			end()
			return
		}
	}
}

// serveMetricsOn serves the metrics on a port; 0 is none. The port may be taken for a while, if only by the supervisor that this
// one replaces.
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
	before := ""
	s.updateConditions(func(n *conditions) { before, n.metricsError = n.metricsError, text })
	if text != before && text != "" {
		s.log.Warn("no metrics", "error", err)
	}
}
