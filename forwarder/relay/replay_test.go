package relay

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder"
)

// What the tunnel reports of a connection that ended before a byte came back.
const (
	reportOwnConnect             = "its own refused connect"
	reportOwnRead                = "its own failed read"
	reportUnnamedAlone           = "an unnamed refused connect, with no other pending"
	reportUnnamedWithClient      = "an unnamed refused connect, with another pending"
	reportUnnamedWithProbe       = "an unnamed refused connect, with a health check pending"
	reportUnnamedWithAnswered    = "an unnamed refused connect, with another established"
	reportUnnamedRead            = "an unnamed failed read"
	reportOfOther                = "the refused connect of another"
	reportTunnelEnd              = "the tunnel's end"
	reportOwnConnectAndTunnelEnd = "its own refused connect, and the tunnel's end"
	reportNothing                = "nothing"
)

// What happens to the client.
const (
	resultRetry         = "another connection"
	resultReset         = "a reset"
	resultEndAsReceived = "the end as received"
)

var (
	question = "question"
	upload   = strings.Repeat("0123456789abcdef", 5000) // more than maxReplayBytes
)

func TestRelay_ReplaysOnlyWhatCannotHaveBeenDelivered(t *testing.T) {
	for _, row := range []struct{ report, nothing, some, much string }{
		{reportOwnConnect, resultRetry, resultRetry, resultReset},
		{reportOwnRead, resultRetry, resultReset, resultReset},
		{reportUnnamedAlone, resultRetry, resultRetry, resultReset},
		{reportUnnamedWithClient, resultRetry, resultReset, resultReset},
		{reportUnnamedWithProbe, resultRetry, resultReset, resultReset},
		{reportUnnamedWithAnswered, resultRetry, resultRetry, resultReset},
		{reportUnnamedRead, resultRetry, resultReset, resultReset},
		{reportOfOther, resultEndAsReceived, resultEndAsReceived, resultEndAsReceived},
		{reportTunnelEnd, resultRetry, resultReset, resultReset},
		{reportOwnConnectAndTunnelEnd, resultRetry, resultRetry, resultReset},
		{reportNothing, resultEndAsReceived, resultEndAsReceived, resultEndAsReceived},
	} {
		for sent, want := range map[string]string{"": row.nothing, question: row.some, upload: row.much} {
			for _, end := range []string{"end", "reset"} {
				t.Run(row.report+"/"+sentAmount(sent)+"/"+end, func(t *testing.T) {
					t.Parallel()
					testEarlyEnd(t, sent, end, row.report, want)
				})
			}
		}
	}
}

func sentAmount(sent string) string {
	switch sent {
	case "":
		return "nothing"
	case question:
		return "some"
	}
	return "much"
}

func testEarlyEnd(t *testing.T, sent, end, report, want string) {
	r, tn := startRelay(t), openTunnel(t, "tcp")
	r.Attach(tn)
	other := openOtherConn(t, r, tn, report)
	client := r.dialClient()
	server := tn.nextConn(t)
	client.send(sent)
	server.expectText(sent)
	if end == "reset" {
		server.reset()
	} else {
		server.Close()
	}
	sendReport(tn, server, other, report)

	switch want {
	case resultRetry:
		if report == reportTunnelEnd || report == reportOwnConnectAndTunnelEnd {
			tn = openTunnel(t, "tcp")
			r.Attach(tn)
		}
		again := tn.nextConn(t)
		again.expectText(sent)
		pingPong(client, again)
	case resultReset:
		client.expectReset()
	case resultEndAsReceived:
		if end == "reset" {
			client.expectReset()
			return
		}
		client.expectEOF()
	}
	wantReplays := uint64(0)
	if want == resultRetry && sent != "" {
		wantReplays = 1
	}
	if s := r.Stats(); s.Replays != wantReplays {
		t.Errorf("%d replays, want %d", s.Replays, wantReplays)
	}
}

// openOtherConn makes another connection that the report may be about.
func openOtherConn(t *testing.T, r *relayFixture, tn *scriptedTunnel, report string) *serverConn {
	switch report {
	case reportUnnamedWithClient, reportOfOther:
		r.dialClient()
		return tn.nextConn(t)
	case reportUnnamedWithProbe:
		probe, err := r.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { probe.Close() })
		return tn.nextConn(t)
	case reportUnnamedWithAnswered:
		client := r.dialClient()
		server := tn.nextConn(t)
		pingPong(client, server)
	}
	return nil
}

func sendReport(tn *scriptedTunnel, lost, other *serverConn, report string) {
	switch report {
	case reportOwnConnect:
		tn.refusalCh <- connectRefusal(lost.relayConn)
	case reportOwnRead:
		tn.refusalCh <- forwarder.Refusal{Reason: "read: connection reset", Conn: lost.relayConn}
	case reportUnnamedAlone, reportUnnamedWithClient, reportUnnamedWithProbe, reportUnnamedWithAnswered:
		tn.refusalCh <- connectRefusal(nil)
	case reportUnnamedRead:
		tn.refusalCh <- forwarder.Refusal{Reason: "read: connection reset"}
	case reportOfOther:
		tn.refusalCh <- connectRefusal(other.relayConn)
	case reportTunnelEnd:
		tn.end(errors.New("killed"))
	case reportOwnConnectAndTunnelEnd:
		tn.refusalCh <- connectRefusal(lost.relayConn)
		tn.end(errors.New("killed"))
	}
}

func TestRelay_ReplaysAfterRefusalThatArrivesBeforeTheEnd(t *testing.T) {
	r, tn := startRelay(t), openTunnel(t, "tcp")
	r.Attach(tn)
	client := r.dialClient()
	server := tn.nextConn(t)
	client.send(question)
	server.expectText(question)
	tn.refusalCh <- connectRefusal(server.relayConn)
	receive(t, r.refusalCh)
	server.Close()
	again := tn.nextConn(t)
	again.expectText(question)
	pingPong(client, again)
}

func TestRelay_ReplaysHalfClose(t *testing.T) {
	for _, sent := range []string{"", question} {
		r, tn := startRelay(t), openTunnel(t, "tcp")
		r.Attach(tn)
		client := r.dialClient()
		client.send(sent)
		client.closeWrite()
		for range 3 {
			server := tn.nextConn(t)
			server.expectText(sent)
			server.expectEOF()
			server.Close()
			tn.refusalCh <- connectRefusal(nil)
		}
		server := tn.nextConn(t)
		server.expectText(sent)
		server.expectEOF()
		server.send("answer")
		server.Close()
		client.expectText("answer")
		client.expectEOF()
	}
}

func TestRelay_SendsBytesReceivedWhileAwaitingReportThroughNextConnection(t *testing.T) {
	r, tn := startRelay(t), openTunnel(t, "tcp")
	r.Attach(tn)
	client := r.dialClient()
	server := tn.nextConn(t)
	server.Close()
	awaitEndSeen(t, r)
	client.send(question)
	tn.refusalCh <- forwarder.Refusal{Reason: "read: connection reset"}
	again := tn.nextConn(t)
	again.expectText(question)
	pingPong(client, again)
}

// awaitEndSeen waits until the relay has seen the end of a connection.
func awaitEndSeen(t *testing.T, r *relayFixture) {
	t.Helper()
	eventually(t, "the end was seen", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.attached.pendingConns.ended) > 0
	})
}

func TestRelay_SendsEverythingToServerThatHalfClosesEarly(t *testing.T) {
	r, tn := startRelay(t), openTunnel(t, "tcp")
	r.Attach(tn)
	client := r.dialClient()
	server := tn.nextConn(t)
	server.closeWrite()
	awaitEndSeen(t, r)
	client.send(upload)
	client.expectEOF()
	client.closeWrite()
	server.expectText(upload)
	server.expectEOF()
	receive(t, r.lastClientCh)
}

func TestRelay_ReplaysNothingAfterFirstByteCameBack(t *testing.T) {
	r, tn := startRelay(t), openTunnel(t, "tcp")
	r.Attach(tn)
	client := r.dialClient()
	server := tn.nextConn(t)
	pingPong(client, server)
	client.send(question)
	server.expectText(question)
	server.Close()
	tn.refusalCh <- connectRefusal(server.relayConn)
	client.expectEOF()
	receive(t, r.refusalCh)
	if n := tn.dials.Load(); n != 1 {
		t.Errorf("%d dials", n)
	}
}

func TestRelay_RetriesRefusedDial(t *testing.T) {
	for name, failure := range map[string]error{
		"refused":     &forwarder.Refusal{Reason: "connection refused", IsConnectFailure: true},
		"other error": errors.New("no more files"),
	} {
		t.Run(name, func(t *testing.T) {
			r, tn := startRelay(t), openTunnel(t, "tcp")
			tn.onDial = func(context.Context) error {
				if tn.dials.Load() < 4 {
					return failure
				}
				return nil
			}
			r.Attach(tn)
			client := r.dialClient()
			client.send(question)
			server := tn.nextConn(t)
			server.expectText(question)
			pingPong(client, server)
			if name == "refused" {
				for range 3 {
					receive(t, r.refusalCh)
				}
			}
			if s := r.Stats(); s.Replays != 0 || s.Waited != 1 || s.Total != 1 {
				t.Errorf("got %+v", s)
			}
		})
	}
}

func TestRelay_ResetsRefusedClientAfterConnectTimeout(t *testing.T) {
	r, tn := startRelayWithTiming(t, 100*time.Millisecond, fastTiming), openTunnel(t, "tcp")
	tn.onDial = func(context.Context) error { return &forwarder.Refusal{Reason: "refused", IsConnectFailure: true} }
	r.Attach(tn)
	start := time.Now()
	client := r.dialClient()
	client.send(question)
	client.expectReset()
	if took := time.Since(start); took < 90*time.Millisecond {
		t.Errorf("reset after %v", took)
	}
}
