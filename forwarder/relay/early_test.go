package relay

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder"
)

// What the tunnel says of a connection that ended before a byte came back.
const (
	ownConnect    = "its own refused connect"
	ownRead       = "its own failed read"
	alone         = "a refused connect that names nobody, with nobody else in flight"
	among         = "a refused connect that names nobody, with another in flight"
	amongProbes   = "a refused connect that names nobody, with a probe in flight"
	afterAnswered = "a refused connect that names nobody, with others that were answered"
	readError     = "a failed read that names nobody"
	others        = "another's refused connect"
	exit          = "the tunnel's end"
	refusalExit   = "its own refused connect, and the tunnel's end"
	silence       = "nothing"
)

// What the client gets.
const (
	another = "another connection"
	resets  = "a reset"
	asIs    = "the end as it came"
)

var (
	question = "question"
	upload   = strings.Repeat("0123456789abcdef", 5000) // more than is recorded
)

func TestOnlyWhatCannotHaveArrivedIsSentAgain(t *testing.T) {
	for _, row := range []struct{ report, nothing, some, much string }{
		{ownConnect, another, another, resets},
		{ownRead, another, resets, resets},
		{alone, another, another, resets},
		{among, another, resets, resets},
		{amongProbes, another, resets, resets},
		{afterAnswered, another, another, resets},
		{readError, another, resets, resets},
		{others, asIs, asIs, asIs},
		{exit, another, resets, resets},
		{refusalExit, another, another, resets},
		{silence, asIs, asIs, asIs},
	} {
		for sent, want := range map[string]string{"": row.nothing, question: row.some, upload: row.much} {
			for _, end := range []string{"end", "reset"} {
				t.Run(row.report+"/"+amount(sent)+"/"+end, func(t *testing.T) {
					t.Parallel()
					lostEarly(t, sent, end, row.report, want)
				})
			}
		}
	}
}

func amount(sent string) string {
	switch sent {
	case "":
		return "nothing"
	case question:
		return "some"
	}
	return "much"
}

func lostEarly(t *testing.T, sent, end, report, want string) {
	r, tn := begin(t), openTunnel(t, "tcp")
	r.Attach(tn)
	inFlight := company(t, r, tn, report)
	client := r.dial()
	server := tn.next(t)
	client.send(sent)
	server.expect(sent)
	if end == "reset" {
		server.reset()
	} else {
		server.Close()
	}
	say(tn, server, inFlight, report)

	switch want {
	case another:
		if report == exit || report == refusalExit {
			tn = openTunnel(t, "tcp")
			r.Attach(tn)
		}
		again := tn.next(t)
		again.expect(sent)
		echo(client, again)
	case resets:
		client.expectReset()
	case asIs:
		if end == "reset" {
			client.expectReset()
			return
		}
		client.expectEnd()
	}
	wantReplays := uint64(0)
	if want == another && sent != "" {
		wantReplays = 1
	}
	if s := r.Stats(); s.Replays != wantReplays {
		t.Errorf("%d replays, want %d", s.Replays, wantReplays)
	}
}

// company makes the connections that the report may be about as well.
func company(t *testing.T, r *fixture, tn *tunnel, report string) *served {
	switch report {
	case among, others:
		r.dial()
		return tn.next(t)
	case amongProbes:
		probe, err := r.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { probe.Close() })
		return tn.next(t)
	case afterAnswered:
		client := r.dial()
		server := tn.next(t)
		echo(client, server)
	}
	return nil
}

func say(tn *tunnel, lost, other *served, report string) {
	switch report {
	case ownConnect:
		tn.refusals <- refusedConnect(lost.near)
	case ownRead:
		tn.refusals <- forwarder.Refusal{Reason: "read: connection reset", Conn: lost.near}
	case alone, among, amongProbes, afterAnswered:
		tn.refusals <- refusedConnect(nil)
	case readError:
		tn.refusals <- forwarder.Refusal{Reason: "read: connection reset"}
	case others:
		tn.refusals <- refusedConnect(other.near)
	case exit:
		tn.end(errors.New("killed"))
	case refusalExit:
		tn.refusals <- refusedConnect(lost.near)
		tn.end(errors.New("killed"))
	}
}

func TestAReportMayComeBeforeTheEnd(t *testing.T) {
	r, tn := begin(t), openTunnel(t, "tcp")
	r.Attach(tn)
	client := r.dial()
	server := tn.next(t)
	client.send(question)
	server.expect(question)
	tn.refusals <- refusedConnect(server.near)
	signal(t, r.refused)
	server.Close()
	again := tn.next(t)
	again.expect(question)
	echo(client, again)
}

func TestAHalfCloseIsSentAgainToo(t *testing.T) {
	for _, sent := range []string{"", question} {
		r, tn := begin(t), openTunnel(t, "tcp")
		r.Attach(tn)
		client := r.dial()
		client.send(sent)
		client.finish()
		for range 3 {
			server := tn.next(t)
			server.expect(sent)
			server.expectEnd()
			server.Close()
			tn.refusals <- refusedConnect(nil)
		}
		server := tn.next(t)
		server.expect(sent)
		server.expectEnd()
		server.send("answer")
		server.Close()
		client.expect("answer")
		client.expectEnd()
	}
}

func TestBytesSentWhileTheEndIsJudgedAreForTheNextConnection(t *testing.T) {
	r, tn := begin(t), openTunnel(t, "tcp")
	r.Attach(tn)
	client := r.dial()
	server := tn.next(t)
	server.Close()
	flightEnded(t, r)
	client.send(question)
	tn.refusals <- forwarder.Refusal{Reason: "read: connection reset"}
	again := tn.next(t)
	again.expect(question)
	echo(client, again)
}

// flightEnded waits until the relay has seen a connection end.
func flightEnded(t *testing.T, r *fixture) {
	t.Helper()
	eventually(t, "the end was seen", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.link.flights.ended) > 0
	})
}

func TestAFarEndThatOnlyListensGetsEverything(t *testing.T) {
	r, tn := begin(t), openTunnel(t, "tcp")
	r.Attach(tn)
	client := r.dial()
	server := tn.next(t)
	server.finish()
	flightEnded(t, r)
	client.send(upload)
	client.expectEnd()
	client.finish()
	server.expect(upload)
	server.expectEnd()
	signal(t, r.quiets)
}

func TestNothingIsSentAgainAfterAByteCameBack(t *testing.T) {
	r, tn := begin(t), openTunnel(t, "tcp")
	r.Attach(tn)
	client := r.dial()
	server := tn.next(t)
	echo(client, server)
	client.send(question)
	server.expect(question)
	server.Close()
	tn.refusals <- refusedConnect(server.near)
	client.expectEnd()
	signal(t, r.refused)
	if n := tn.dials.Load(); n != 1 {
		t.Errorf("%d dials", n)
	}
}

func TestADialThatIsRefusedIsTriedAgain(t *testing.T) {
	for name, failure := range map[string]error{
		"refused": &forwarder.Refusal{Reason: "connection refused", Connect: true},
		"broken":  errors.New("no more files"),
	} {
		t.Run(name, func(t *testing.T) {
			r, tn := begin(t), openTunnel(t, "tcp")
			tn.onDial = func(context.Context) error {
				if tn.dials.Load() < 4 {
					return failure
				}
				return nil
			}
			r.Attach(tn)
			client := r.dial()
			client.send(question)
			server := tn.next(t)
			server.expect(question)
			echo(client, server)
			if name == "refused" {
				for range 3 {
					signal(t, r.refused)
				}
			}
			if s := r.Stats(); s.Replays != 0 || s.Waited != 1 || s.Total != 1 {
				t.Errorf("got %+v", s)
			}
		})
	}
}

func TestARefusedClientIsResetWhenItsTimeIsUp(t *testing.T) {
	r, tn := run(t, 100*time.Millisecond, brisk), openTunnel(t, "tcp")
	tn.onDial = func(context.Context) error { return &forwarder.Refusal{Reason: "refused", Connect: true} }
	r.Attach(tn)
	began := time.Now()
	client := r.dial()
	client.send(question)
	client.expectReset()
	if took := time.Since(began); took < 90*time.Millisecond {
		t.Errorf("it was reset after %v", took)
	}
}
