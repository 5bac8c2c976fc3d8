package ssh

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/ssh/mux"
	"github.com/localport-sh/localport/forwarder/wait"
)

// recheckInterval is the time between attempts at a server that does not accept the user, and between looks at what a server forbids: rare
// enough for programs that count logins, such as fail2ban. Nothing is asked, so that no password is tried again.
const recheckInterval = 15 * time.Minute

// restriction is something that the server has forbidden to a master. sshd decides that for a connection when it is made: after a change of
// sshd_config, only another connection is allowed it.
type restriction struct {
	tunnel   *tunnel                                       // that met it; nil: none was opened
	isLifted func(ctx context.Context, other *master) bool // whether the server is known to allow it to another master
	isKept   bool                                          // until the tunnel closes; otherwise it counts once, and again when it is met again
}

const (
	maxRestrictions = 32 // of a master, that are not kept: a SOCKS proxy's clients ask for anything
	trialTimeout    = 30 * time.Second
	trialGrace      = 30 * time.Second // for services to reconnect through a new master before it counts as unused
)

// addRestriction records a restriction, so that another connection shows from time to time whether it is lifted. The key tells it from others
// of the master. A connection that the user had to log in cannot be tried again without the user.
func (m *master) addRestriction(key string, r restriction) {
	m.isRestricted.Store(true)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.askSocket != "" || !r.isKept && len(m.restrictions) >= maxRestrictions {
		return
	}
	if m.restrictions == nil {
		m.restrictions = make(map[string]restriction)
	}
	if r.tunnel != nil {
		key = fmt.Sprintf("%p %s", r.tunnel, key)
	}
	m.restrictions[key] = r
	if m.isRechecking || wait.IsClosed(m.doneCh) {
		return
	}
	m.isRechecking = true
	m.destination.tasks.Go(func(ctx context.Context) {
		forwarder.CatchPanic(func() { m.runRechecks(ctx) }, func(_ *forwarder.Failure, stack []byte) {
			m.destination.log.writeLine(string(stack))
		})
	})
}

// removeRestrictions removes those of a tunnel that is closed.
func (m *master) removeRestrictions(t *tunnel) {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.restrictions, func(_ string, r restriction) bool { return r.tunnel == t })
}

// runRechecks looks at the restrictions each time that the server's last word on them is recheckInterval old, until none is left.
func (m *master) runRechecks(ctx context.Context) {
	for decidedAt := m.lastDecidedAt(); m.hasRestrictions(); decidedAt = m.lastDecidedAt() {
		select {
		case <-time.After(time.Until(decidedAt.Add(m.destination.recheckInterval))):
			m.recheckRestrictions(ctx)
		case <-m.doneCh:
			return
		case <-m.setAsideCh:
			return
		case <-ctx.Done():
			return
		}
	}
}

// lastDecidedAt is when the server last decided about the restrictions: at a login.
func (m *master) lastDecidedAt() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.recheckedAt.IsZero() {
		return m.loggedInAt
	}
	return m.recheckedAt
}

// hasRestrictions reports whether there are any. If not, the next one starts the rechecks again.
func (m *master) hasRestrictions() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.isRechecking = len(m.restrictions) > 0
	return m.isRechecking
}

// recheckRestrictions makes another connection. If it is allowed something that this one is not, it is for newcomers from then on, and the
// tunnels that were restricted reconnect. All others stay here, with their connections.
func (m *master) recheckRestrictions(ctx context.Context) {
	m.mu.Lock()
	m.recheckedAt = time.Now()
	restrictions := maps.Clone(m.restrictions)
	m.mu.Unlock()
	if len(restrictions) == 0 {
		return
	}
	d := m.destination
	d.log.writeLine("localport: another connection shows whether the server still forbids what it has refused")
	trialCtx, cancel := context.WithTimeout(ctx, trialTimeout)
	defer cancel()
	trial := d.startTrial(m)
	err := trial.waitReady(trialCtx)
	if errors.Is(err, errOldSSH) {
		d.releaseMaster(trial, nil)
		trial = d.startTrial(m)
		err = trial.waitReady(trialCtx)
	}
	defer d.releaseMaster(trial, nil)
	if err != nil {
		return // it is not known
	}
	lifted := make(map[*tunnel]bool)
	for key, r := range restrictions {
		isLifted := r.isLifted(trialCtx, trial)
		if isLifted {
			lifted[r.tunnel] = true
		}
		if isLifted || !r.isKept {
			m.mu.Lock()
			delete(m.restrictions, key)
			m.mu.Unlock()
		}
	}
	if len(lifted) == 0 {
		return
	}
	d.adoptTrial(trial)
	for t := range lifted {
		if t != nil {
			t.leave("the server now allows what it refused: the service reconnects")
		}
	}
	wait.Sleep(ctx, trialGrace)
}

// startTrial starts a master as m was started, to compare what the server allows. It is not the current one yet. The caller calls
// releaseMaster.
func (d *destination) startTrial(m *master) *master {
	d.mu.Lock()
	defer d.mu.Unlock()
	trial := d.makeMaster(m.runConfig)
	trial.isTrial = true
	trial.userCount++
	d.runMaster(trial)
	return trial
}

// adoptTrial makes a trial the current master, unless it has ended. The last one serves the tunnels that it has.
func (d *destination) adoptTrial(trial *master) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if trial.endReason() == nil {
		d.master = trial
	}
}

// allows reports whether the server is known to allow a connection to an address, whether or not anything listens there.
func (m *master) allows(ctx context.Context, host string, port int) bool {
	openCtx, cancel := context.WithTimeout(ctx, responseTimeout)
	defer cancel()
	stream, err := m.conn.Open(openCtx, host, port)
	if err == nil {
		_ = stream.Close()
		return true
	}
	if refused, isRefused := errors.AsType[*mux.OpenChannelError](err); isRefused {
		return !isForbidden(refused)
	}
	// The server is still connecting. It would have refused at once, before it answers a ping.
	pingCtx, cancelPing := context.WithTimeout(ctx, responseTimeout)
	defer cancelPing()
	return errors.Is(err, context.DeadlineExceeded) && m.conn.Ping(pingCtx) == nil
}

// isForbidden reports whether a server is configured to refuse a channel.
func isForbidden(refused *mux.OpenChannelError) bool {
	return refused.Reason == mux.Prohibited || refused.Reason == mux.UnknownChannelType
}

// describeRecheck says, for a hint, when a change of the server's settings takes effect for a service.
func (m *master) describeRecheck(service string) string {
	if m.askSocket != "" {
		return fmt.Sprintf(`after a change there, run "localport login %s"`, service)
	}
	return fmt.Sprintf(`the server is asked again every %d minutes, or at once by "localport restart %s"`, recheckInterval/time.Minute, service)
}
