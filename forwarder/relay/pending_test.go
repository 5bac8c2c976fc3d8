package relay

import (
	"net"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder"
)

type fakeConn struct {
	net.Conn
	_ int
}

func TestPendingConns_AssignsUnnamedRefusalToTheOnlyPendingConn(t *testing.T) {
	const reportWindow = time.Second
	now := time.Unix(1000, 0)
	unnamed := forwarder.Refusal{IsConnectFailure: true}

	for name, prepare := range map[string]func(*pendingConns){
		"only one":          func(*pendingConns) {},
		"another confirmed": func(ps *pendingConns) { p := addConnected(ps, new(fakeConn)); ps.remove(p) },
		"another refused":   func(ps *pendingConns) { ps.recordDialError(ps.add(), true, now) },
		"another has its own refusal": func(ps *pendingConns) {
			c := new(fakeConn)
			addConnected(ps, c)
			ps.assignRefusal(connectRefusal(c), now)
		},
		"another ended long ago": func(ps *pendingConns) { ps.markEnded(addConnected(ps, new(fakeConn)), now.Add(-reportWindow-1)) },
	} {
		ps := newPendingConns(reportWindow)
		prepare(ps)
		p := addConnected(ps, new(fakeConn))
		if ps.assignRefusal(unnamed, now); p.ownRefusal == nil {
			t.Errorf("%s: the refusal is not assigned", name)
		}
	}
	for name, prepare := range map[string]func(*pendingConns){
		"another open":          func(ps *pendingConns) { addConnected(ps, new(fakeConn)) },
		"another is dialed":     func(ps *pendingConns) { ps.add() },
		"another dial canceled": func(ps *pendingConns) { ps.recordDialError(ps.add(), false, now) },
		"another just ended":    func(ps *pendingConns) { ps.markEnded(addConnected(ps, new(fakeConn)), now.Add(-reportWindow)) },
	} {
		ps := newPendingConns(reportWindow)
		prepare(ps)
		p := addConnected(ps, new(fakeConn))
		if ps.assignRefusal(unnamed, now); p.ownRefusal != nil || p.ambiguousRefusal == nil {
			t.Errorf("%s: the refusal is assigned", name)
		}
	}
}

func addConnected(ps *pendingConns, conn net.Conn) *pendingConn {
	p := ps.add()
	ps.setConn(p, conn)
	return p
}

func TestPendingConns_AssignsRefusalThatArrivesBeforeDialReturns(t *testing.T) {
	ps, conn := newPendingConns(time.Second), new(fakeConn)
	p, other := ps.add(), ps.add()
	ps.assignRefusal(connectRefusal(conn), time.Now())
	ps.setConn(other, new(fakeConn))
	ps.setConn(p, conn)
	if p.ownRefusal == nil || other.ownRefusal != nil || ps.unassigned != nil || ps.dialing != 0 {
		t.Errorf("got %+v, %+v, %+v", p, other, ps)
	}
}

func TestPendingConns_IgnoresAmbiguousRefusalLongBeforeTheEnd(t *testing.T) {
	ps, now := newPendingConns(time.Second), time.Unix(1000, 0)
	p := addConnected(ps, new(fakeConn))
	ps.assignRefusal(forwarder.Refusal{}, now)
	ps.markEnded(p, now.Add(2*time.Second))
	if report, _ := p.endReport(time.Second); report.ambiguousRefusal != nil {
		t.Error("it is reported")
	}
	ps.assignRefusal(forwarder.Refusal{}, now.Add(2500*time.Millisecond))
	if report, _ := p.endReport(time.Second); report.ambiguousRefusal == nil {
		t.Error("it is not reported")
	}
}
