package relay

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder"
)

func probe(t *testing.T, r *fixture, tn *tunnel) (*probed, *served) {
	t.Helper()
	conn, err := r.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	bound(t, conn)
	return conn.(*probed), tn.next(t)
}

func TestAProbeIsToldWhyItsConnectionEnded(t *testing.T) {
	killed := errors.New("killed")
	for name, row := range map[string]struct {
		say  func(*tunnel, *served)
		want func(error) bool
	}{
		"own report": {
			func(tn *tunnel, s *served) { tn.refusals <- refusedConnect(s.near) }, isRefusal,
		},
		"report that names nobody": {
			func(tn *tunnel, _ *served) { tn.refusals <- refusedConnect(nil) }, isRefusal,
		},
		"tunnel ended": {
			func(tn *tunnel, _ *served) { tn.end(killed) },
			func(err error) bool { return errors.Is(err, killed) },
		},
		"tunnel closed": {
			func(tn *tunnel, _ *served) { tn.end(nil) },
			func(err error) bool { return errors.Is(err, io.EOF) },
		},
		"silence": {
			func(*tunnel, *served) {},
			func(err error) bool { return errors.Is(err, io.EOF) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, tn := begin(t), openTunnel(t, "tcp")
			r.Attach(tn)
			conn, server := probe(t, r, tn)
			server.Close()
			row.say(tn, server)
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
	return ok && refusal.Connect
}

func TestAProbeThatWasAnsweredSeesThePlainEnd(t *testing.T) {
	r, tn := begin(t), openTunnel(t, "tcp")
	r.Attach(tn)
	conn, server := probe(t, r, tn)
	server.send("x")
	server.Close()
	tn.refusals <- refusedConnect(server.near)
	if got, err := io.ReadAll(conn); string(got) != "x" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestAProbeIsNotHeldWhenItsTimeIsUp(t *testing.T) {
	for name, hasten := range map[string]func(*probed){
		"deadline": func(p *probed) { _ = p.SetReadDeadline(past) },
		"both":     func(p *probed) { _ = p.SetDeadline(past) },
		"close":    func(p *probed) { _ = p.Close() },
	} {
		patient := brisk
		patient.settle = patience
		r, tn := run(t, patience, patient), openTunnel(t, "tcp")
		r.Attach(tn)
		conn, server := probe(t, r, tn)
		server.Close()
		ended := make(chan error, 1)
		go func() {
			_, err := conn.Read(make([]byte, 1))
			ended <- err
		}()
		flightEnded(t, r)
		hasten(conn)
		select {
		case err := <-ended:
			if !errors.Is(err, io.EOF) {
				t.Errorf("%s: got %v", name, err)
			}
		case <-time.After(patience / 2):
			t.Errorf("%s: it waits on", name)
		}
	}
}

func TestARefusedProbeMakesTheTunnelSuspectAndAnAnsweredOneLiftsIt(t *testing.T) {
	r, tn := begin(t), openTunnel(t, "tcp")
	tn.onDial = func(context.Context) error {
		if tn.dials.Load() == 1 {
			return &forwarder.Refusal{Reason: "refused", Connect: true}
		}
		return nil
	}
	r.Attach(tn)
	if _, err := r.Dial(t.Context()); !isRefusal(err) {
		t.Fatalf("got %v", err)
	}
	scout := r.dial()
	tn.next(t)
	second := r.dial() // waits for the scout
	conn, server := probe(t, r, tn)
	server.send("x")
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	tn.next(t)
	_, _ = scout, second
}
