package relay

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder"
)

func dialProbe(t *testing.T, r *relayFixture, tn *scriptedTunnel) (*probeConn, *serverConn) {
	t.Helper()
	conn, err := r.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	setTestDeadline(t, conn)
	return conn.(*probeConn), tn.nextConn(t)
}

func TestProbeConn_ReadReturnsWhyConnectionEnded(t *testing.T) {
	killed := errors.New("killed")
	for name, row := range map[string]struct {
		report func(*scriptedTunnel, *serverConn)
		want   func(error) bool
	}{
		"own report": {
			func(tn *scriptedTunnel, s *serverConn) { tn.refusalCh <- connectRefusal(s.relayConn) }, isRefusal,
		},
		"unnamed report": {
			func(tn *scriptedTunnel, _ *serverConn) { tn.refusalCh <- connectRefusal(nil) }, isRefusal,
		},
		"tunnel ended": {
			func(tn *scriptedTunnel, _ *serverConn) { tn.end(killed) },
			func(err error) bool { return errors.Is(err, killed) },
		},
		"tunnel closed": {
			func(tn *scriptedTunnel, _ *serverConn) { tn.end(nil) },
			func(err error) bool { return errors.Is(err, io.EOF) },
		},
		"no report": {
			func(*scriptedTunnel, *serverConn) {},
			func(err error) bool { return errors.Is(err, io.EOF) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, tn := startRelay(t), openTunnel(t, "tcp")
			r.Attach(tn)
			conn, server := dialProbe(t, r, tn)
			server.Close()
			row.report(tn, server)
			if _, err := conn.Read(make([]byte, 1)); !row.want(err) {
				t.Errorf("got %v", err)
			}
			if s := r.Stats(); s.Total+s.BytesIn+s.BytesOut+s.Waited != 0 || s.Open != 0 {
				t.Errorf("it was counted: %+v", s)
			}
		})
	}
}

func isRefusal(err error) bool {
	refusal, ok := errors.AsType[*forwarder.Refusal](err)
	return ok && refusal.IsConnectFailure
}

func TestProbeConn_ReadReturnsEOFAfterResponse(t *testing.T) {
	r, tn := startRelay(t), openTunnel(t, "tcp")
	r.Attach(tn)
	conn, server := dialProbe(t, r, tn)
	server.send("x")
	server.Close()
	tn.refusalCh <- connectRefusal(server.relayConn)
	if got, err := io.ReadAll(conn); string(got) != "x" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestProbeConn_DeadlineOrCloseEndsWaitForReport(t *testing.T) {
	for name, endWait := range map[string]func(*probeConn){
		"read deadline":  func(p *probeConn) { _ = p.SetReadDeadline(pastDeadline) },
		"both deadlines": func(p *probeConn) { _ = p.SetDeadline(pastDeadline) },
		"close":          func(p *probeConn) { _ = p.Close() },
	} {
		timing := fastTiming
		timing.reportWindow = testTimeout
		r, tn := startRelayWithTiming(t, testTimeout, timing), openTunnel(t, "tcp")
		r.Attach(tn)
		conn, server := dialProbe(t, r, tn)
		server.Close()
		ended := make(chan error, 1)
		go func() {
			_, err := conn.Read(make([]byte, 1))
			ended <- err
		}()
		awaitEndSeen(t, r)
		endWait(conn)
		select {
		case err := <-ended:
			if !errors.Is(err, io.EOF) {
				t.Errorf("%s: got %v", name, err)
			}
		case <-time.After(testTimeout / 2):
			t.Errorf("%s: it waits on", name)
		}
	}
}

func TestProbeConn_RefusalMakesTunnelSuspectAndResponseClearsIt(t *testing.T) {
	r, tn := startRelay(t), openTunnel(t, "tcp")
	tn.onDial = func(context.Context) error {
		if tn.dials.Load() == 1 {
			return &forwarder.Refusal{Reason: "refused", IsConnectFailure: true}
		}
		return nil
	}
	r.Attach(tn)
	if _, err := r.Dial(t.Context()); !isRefusal(err) {
		t.Fatalf("got %v", err)
	}
	first := r.dialClient()
	tn.nextConn(t)
	second := r.dialClient() // waits for the trial client
	conn, server := dialProbe(t, r, tn)
	server.send("x")
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	tn.nextConn(t)
	_, _ = first, second
}
