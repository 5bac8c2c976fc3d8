package relay

import (
	"net"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder"
)

type named struct {
	net.Conn
	_ int
}

func TestAReportThatNamesNobodyIsAboutTheOnlyOneInFlight(t *testing.T) {
	const settle = time.Second
	now := time.Unix(1000, 0)
	anybody := forwarder.Refusal{Connect: true}

	for name, prepare := range map[string]func(*flights){
		"alone":             func(*flights) {},
		"another landed":    func(fs *flights) { f := flown(fs, new(named)); fs.land(f) },
		"another refused":   func(fs *flights) { fs.failed(fs.launch(), true, now) },
		"another had its":   func(fs *flights) { c := new(named); flown(fs, c); fs.report(refusedConnect(c), now) },
		"another ended ago": func(fs *flights) { fs.end(flown(fs, new(named)), now.Add(-settle-1)) },
	} {
		fs := newFlights(settle)
		prepare(fs)
		f := flown(fs, new(named))
		if fs.report(anybody, now); f.own == nil {
			t.Errorf("%s: the report is not taken for its own", name)
		}
	}
	for name, prepare := range map[string]func(*flights){
		"another open":       func(fs *flights) { flown(fs, new(named)) },
		"another dialled":    func(fs *flights) { fs.launch() },
		"another given up":   func(fs *flights) { fs.failed(fs.launch(), false, now) },
		"another just ended": func(fs *flights) { fs.end(flown(fs, new(named)), now.Add(-settle)) },
	} {
		fs := newFlights(settle)
		prepare(fs)
		f := flown(fs, new(named))
		if fs.report(anybody, now); f.own != nil || f.vague == nil {
			t.Errorf("%s: the report is taken for its own", name)
		}
	}
}

func flown(fs *flights, conn net.Conn) *flight {
	f := fs.launch()
	fs.made(f, conn)
	return f
}

func TestAReportMayComeBeforeTheDialReturns(t *testing.T) {
	fs, conn := newFlights(time.Second), new(named)
	f, other := fs.launch(), fs.launch()
	fs.report(refusedConnect(conn), time.Now())
	fs.made(other, new(named))
	fs.made(f, conn)
	if f.own == nil || other.own != nil || fs.early != nil || fs.dialled != 0 {
		t.Errorf("got %+v, %+v, %+v", f, other, fs)
	}
}

func TestAVagueReportOfLongAgoSaysNothing(t *testing.T) {
	fs, now := newFlights(time.Second), time.Unix(1000, 0)
	f := flown(fs, new(named))
	fs.report(forwarder.Refusal{}, now)
	fs.end(f, now.Add(2*time.Second))
	if w, _ := f.word(time.Second); w.vague != nil {
		t.Error("it was heard")
	}
	fs.report(forwarder.Refusal{}, now.Add(2500*time.Millisecond))
	if w, _ := f.word(time.Second); w.vague == nil {
		t.Error("it was not heard")
	}
}
