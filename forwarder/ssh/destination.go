package ssh

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/forwarder/tasks"
	"github.com/localport-sh/localport/forwarder/wait"
)

// destination is what one ssh command line connects to. It has at most one master at a time, shared by all tunnels to it, and
// remembers why the last one failed.
type destination struct {
	tasks           *tasks.Group // the driver's
	baseArgv        []string     // of a master, without the options of one run
	keyFile         string       // key_file of the config; may be empty
	configFile      string       // config_file of the config; may be empty
	options         map[string]string
	recheckInterval time.Duration // see there; a test's may be shorter
	log             sharedLog     // the logs of all services with a tunnel to here

	mu               sync.Mutex
	master           *master // logged in or starting; nil: none
	nextLogin        loginOptions
	sharingRefusals  int        // how often the server refused the channels of several services on one connection
	sharingRefusedAt time.Time  // when it last did
	oldSSH           sshProgram // that rejected forkOption; zero: none
	oldSSHFoundAt    time.Time
	lastFailure      *forwarder.Failure // of the last attempt; nil: it succeeded, lasts, ended without a result, or the network has changed
	failureCount     int                // consecutive
	loggedIn         wait.Broadcast     // by a master
	refusalCount     int                // how many attempts a server that answered has refused, since the last success or failure of another kind
	refusedConnects  int                // how many of the last connections, in a row, were refused
	intervalReset    wait.Broadcast     // by onNetworkChange
	lastAttemptAt    time.Time          // start of the last attempt
	inputs           loginInputs        // of the last attempt
	lastAskSocket    string             // where that attempt's questions went; empty: nobody was asked
	lookups          map[string]hostLookups
	listeners        map[string]string // the addresses on which the server was made to listen and was not told to stop, and the services' names
}

// loginOptions is what earlier attempts have shown to be needed for a login.
type loginOptions struct {
	bypassesJumpMaster bool // the user's own master to a jump host does not answer
	connectTimeout     time.Duration
}

// destinationFor returns the destination of a tunnel, shared or its own.
func (d *driver) destinationFor(s *tunnelSpec, run forwarder.Run) *destination {
	argv := s.baseArgv()
	key := strings.Join(append(argv, run.Dir, s.environmentKey(run.Env)), "\x00")
	unsharedKey := key + "\x00" + s.name
	if s.connection.isUnshared {
		key = unsharedKey
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if dest := d.destinations[key]; dest != nil && dest.hasRefusedSharing(run) {
		key = unsharedKey
	}
	dest := d.destinations[key]
	if dest == nil {
		dest = &destination{nextLogin: loginOptions{connectTimeout: defaultConnectTimeout}, tasks: d.tasks, recheckInterval: d.recheckInterval, baseArgv: argv, keyFile: s.connection.keyFile, configFile: s.connection.configFile, options: s.connection.options}
		d.destinations[key] = dest
	}
	return dest
}

// maxSharingDelay is the longest time for which the services of a server that refuses their channels on one connection do not share another.
const maxSharingDelay = 24 * time.Hour

// hasRefusedSharing reports whether the server is known to refuse the channels of several services on one connection. After recheckInterval,
// twice that and so on, and after a restart by the user, they try again: its settings may have changed.
func (d *destination) hasRefusedSharing(run forwarder.Run) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.isSharingRefused() && !run.RestartedAt.After(d.sharingRefusedAt)
}

// isSharingRefused reports whether the last refusal still counts. d.mu is held.
func (d *destination) isSharingRefused() bool {
	delay := wait.Backoff{First: d.recheckInterval, Max: maxSharingDelay}
	return d.sharingRefusals > 0 && time.Since(d.sharingRefusedAt) < delay.After(d.sharingRefusals)
}

// stopSharing makes every service open a master of its own from now on, and reports true. It reports false if the master has a
// single user, so that sharing cannot be the cause.
func (d *destination) stopSharing(m *master) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if m.userCount > 1 && !d.isSharingRefused() {
		d.sharingRefusals++
		d.sharingRefusedAt = time.Now()
	}
	return d.isSharingRefused()
}

// livenessMaxAge is how long a login or a received message proves that a master is alive.
const livenessMaxAge = 3 * time.Second

// urgentInterval is the least time between two attempts caused by waiting clients. It grows while a server answers and ends each
// connection: sshd counts these (MaxStartups, PerSourcePenalties), and so does fail2ban, which would lock the user out.
//
// A connection that is refused is that of a server that is restarting, or of one whose firewall rejects this machine, as fail2ban does: after
// quickAttempts the interval grows in the same way. The first ten seconds are for the restart, which takes less, and a ban lasts far longer. A
// timeout, a host without a route or a name without an address are nobody's decision, and cost the server nothing: the interval does not grow.
var urgentInterval = wait.Backoff{First: time.Second, Max: 30 * time.Second}

const quickAttempts = 10

// attemptInterval is the least time from the last attempt to the next. d.mu is held.
func (d *destination) attemptInterval() time.Duration {
	return urgentInterval.After(max(1, d.refusalCount+max(0, d.refusedConnects+1-quickAttempts)))
}

// onNetworkChange makes the attempts frequent again, and forgets the last failure: the server may see another address. A change of the network is
// often several. A server that has refused a login lately is asked again when SharedFailureTime has passed.
func (d *destination) onNetworkChange() {
	d.mu.Lock()
	d.refusalCount, d.refusedConnects = 0, 0
	again := d.lastAttemptAt.Add(forwarder.SharedFailureTime)
	switch {
	case d.lastFailure == nil:
	case d.lastFailure.Class == forwarder.Transient || time.Now().After(again):
		d.lastFailure = nil
	case d.inputs.retryAt.IsZero() || d.inputs.retryAt.After(again):
		d.inputs.retryAt = again
	}
	d.mu.Unlock()
	d.intervalReset.Announce()
}

// acquireMaster returns a master whose server has answered lately, and starts one if there is none. The caller calls
// releaseMaster.
func (d *destination) acquireMaster(ctx context.Context, service string, run forwarder.Run) (*master, error) {
	d.log.addWriter(service, run.Log)
	for {
		resetCh := d.intervalReset.Changed()
		m, delay, err := d.tryAcquireMaster(run)
		if err != nil {
			d.log.removeWriter(run.Log)
			return nil, err
		}
		if m == nil {
			if !wait.SleepOrWake(ctx, delay, resetCh) {
				d.log.removeWriter(run.Log)
				return nil, ctx.Err()
			}
			continue
		}
		if err = m.waitReady(ctx); err == nil {
			return m, nil
		}
		isAnswered := run.AskSocket == "" || m.askSocket != "" // false: a login joined an attempt that could not ask
		d.releaseMaster(m, nil)
		if errors.Is(err, errUnresponsive) && !m.isSetAside() && m.endReason() == nil {
			d.log.removeWriter(run.Log)
			return nil, unresponsiveFailure()
		}
		switch {
		case ctx.Err() == nil && (errors.Is(err, errUnresponsive) || errors.Is(err, errOldSSH) || !isAnswered):
			continue // with another master
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			err = m.output.failure("ssh did not finish logging in before the timeout")
		}
		d.log.removeWriter(run.Log)
		return nil, err
	}
}

// tryAcquireMaster makes the caller a user of the current master, or of a new one. Without a master, delay is when to try again, or
// err why not to.
func (d *destination) tryAcquireMaster(run forwarder.Run) (m *master, delay time.Duration, err error) {
	inputs, isAttemptJustified := d.readInputs(run)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.master != nil && d.master.isOutdated(run, d.lastAttemptAt) {
		d.master = nil // it serves the tunnels that it has
	}
	if d.master == nil {
		if f := d.cachedFailure(run); f != nil && !isAttemptJustified {
			return nil, 0, f
		}
		if delay := d.attemptInterval() - time.Since(d.lastAttemptAt); d.failureCount > 0 && run.IsUrgent && !d.isRequested(run) && delay > 0 {
			return nil, delay, nil
		}
		d.lastAttemptAt, d.lastAskSocket, d.inputs = time.Now(), run.AskSocket, inputs
		d.lastFailure = nil // what it rested on is examined again, in this attempt or, if that is cancelled, in the next
		d.master = d.startMaster(run)
	}
	d.master.userCount++
	return d.master, 0, nil
}

// tryCommand returns the command with which a person tries a corrected config file.
func (d *destination) tryCommand() string {
	host := process.QuoteWord(d.baseArgv[len(d.baseArgv)-1])
	if d.configFile == "" {
		return "ssh -G " + host
	}
	return "ssh -F " + process.QuoteWord(d.configFile) + " -G " + host
}

// cachedFailure returns the failure of the last attempt if it still counts, so that ten services at one destination attempt no more
// often than one would. An action of the user since then, a waiting client or a changed network justify a new attempt. d.mu is held.
func (d *destination) cachedFailure(run forwarder.Run) error {
	f := d.lastFailure
	switch {
	case f == nil:
		return nil
	case run.AskSocket != "" && run.AskSocket == d.lastAskSocket: // the same login: the user has already answered for all its services
	case d.isRequested(run):
		return nil
	case f.Class == forwarder.Transient && time.Since(d.lastAttemptAt) > max(failureTTL.After(d.failureCount), d.refusalTTL()):
		return nil
	case f.Class != forwarder.NeedsUser && run.IsUrgent:
		return nil
	}
	copied := *f
	return &copied
}

// failureTTL is how long a failure counts for all services: less than the backoff of any service.
var failureTTL = wait.Backoff{First: 200 * time.Millisecond, Max: 10 * time.Second}

// isRequested reports whether the user has requested an attempt since the last one, or what its failure rests on has changed. d.mu is held.
func (d *destination) isRequested(run forwarder.Run) bool {
	return run.AskSocket != "" || run.OutdatedBefore().After(d.lastAttemptAt)
}

// refusalTTL is how long a refusal counts for all services. d.mu is held.
func (d *destination) refusalTTL() time.Duration {
	if interval := d.attemptInterval(); interval > urgentInterval.First {
		return interval
	}
	return 0
}

// releaseMaster ends the caller's use of a master. Without users the master is closed.
func (d *destination) releaseMaster(m *master, log io.Writer) {
	if log != nil {
		d.log.removeWriter(log)
	}
	d.mu.Lock()
	m.userCount--
	isLastUser := m.userCount == 0
	isKept := isLastUser && m.askSocket != "" && d.master == m
	if isLastUser && !isKept {
		d.detachMaster(m)
	}
	d.mu.Unlock()
	switch {
	case isKept:
		d.tasks.Go(func(ctx context.Context) { d.closeUnused(ctx, m) })
	case isLastUser:
		m.close()
	}
}

// loginGrace is how long a master that the user had to log in waits for its next user: services that are restarted together release it all at
// once.
const loginGrace = 2 * time.Second

// closeUnused closes a master that has no user after loginGrace, or when ctx ends.
func (d *destination) closeUnused(ctx context.Context, m *master) {
	select {
	case <-m.doneCh:
	case <-ctx.Done():
	case <-time.After(loginGrace):
	}
	d.mu.Lock()
	isUnused := m.userCount == 0
	if isUnused {
		d.detachMaster(m)
	}
	d.mu.Unlock()
	if isUnused {
		m.close()
	}
}

// detachMaster makes m no longer the current master. d.mu is held.
func (d *destination) detachMaster(m *master) {
	if d.master == m {
		d.master = nil
	}
}

// recordLogin records that a master has logged in. A quick login shows that a longer timeout is no longer needed.
func (d *destination) recordLogin(m *master) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if time.Since(m.startedAt) < defaultConnectTimeout/2 {
		d.nextLogin.connectTimeout = defaultConnectTimeout
	}
	d.lastFailure, d.failureCount, d.refusalCount, d.refusedConnects = nil, 0, 0, 0
	d.inputs.changeCount = 0
	d.loggedIn.Announce()
}

// recordFailure records why a master could not log in.
func (d *destination) recordFailure(m *master, f *forwarder.Failure) {
	inputs := d.readInputsAfter(m, f)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.master == m || d.master == nil { // else a newer attempt is under way
		d.lastFailure, d.inputs = f, inputs
	}
	d.failureCount++
	switch {
	case isFromServer(f):
		d.refusalCount++
		d.refusedConnects = 0
	case strings.Contains(f.Reason, "Connection refused"):
		d.refusedConnects++ // a ban may have followed the refusals
	default:
		d.refusalCount, d.refusedConnects = 0, 0
	}
	if strings.Contains(f.Reason, "timed out during banner exchange") {
		d.nextLogin.connectTimeout = min(3*d.nextLogin.connectTimeout, maxConnectTimeout)
		if strings.Contains(f.Reason, proxyPeerName) {
			d.nextLogin.bypassesJumpMaster = !d.nextLogin.bypassesJumpMaster
		}
	} else {
		d.nextLogin.bypassesJumpMaster = false // without the user's master to the jump host, a login there may need the user
	}
	d.detachMaster(m)
}

// sshProgram is an ssh as it was when it was started.
type sshProgram struct {
	path string
	info os.FileInfo // nil: not known
}

func sshProgramAt(path string) sshProgram {
	info, _ := os.Stat(path)
	return sshProgram{path, info}
}

// isSame reports whether both are the same file, which has not been changed: an upgrade replaces it.
func (p sshProgram) isSame(other sshProgram) bool {
	return p.path == other.path && p.info != nil && other.info != nil && os.SameFile(p.info, other.info) &&
		p.info.ModTime().Equal(other.info.ModTime()) && p.info.Size() == other.info.Size()
}

// isOldSSH reports whether a program is known to be OpenSSH before 8.7. It may be a script that starts another one, so that this is found out
// again every recheckInterval.
func (d *destination) isOldSSH(program sshProgram) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return program.isSame(d.oldSSH) && time.Since(d.oldSSHFoundAt) < d.recheckInterval
}

// recordOldSSH records that the master's ssh rejected forkOption.
func (d *destination) recordOldSSH(m *master) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.oldSSH, d.oldSSHFoundAt = m.program, time.Now()
	d.detachMaster(m)
}

// recordEnd records that a master has ended.
func (d *destination) recordEnd(m *master) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.detachMaster(m)
}

// setListener records for which service the server listens on an address; empty: for none.
func (d *destination) setListener(addr, service string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.listeners == nil {
		d.listeners = make(map[string]string)
	}
	d.listeners[addr] = service
}

// listenerOf returns the service for which the server was made to listen on an address, by this master or an earlier one; empty: none.
func (d *destination) listenerOf(addr string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.listeners[addr]
}
