package ssh

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/forwarder/ssh/mux"
	"github.com/localport-sh/localport/forwarder/wait"
)

// A server that has sent nothing for livenessInterval gets a ping, and may send nothing for responseTimeout after it.
const (
	livenessInterval = 5 * time.Second
	responseTimeout  = 3 * time.Second
)

// Errors after which acquireMaster tries another master.
var (
	errUnresponsive = errors.New("the server does not answer")
	errOldSSH       = errors.New("ssh is older than 8.7")
)

// master is one ssh process that carries the connections of several tunnels.
type master struct {
	destination *destination
	runConfig   forwarder.Run // of the service for which it was started
	startedAt   time.Time
	inputs      loginInputs // before its login
	askSocket   string      // where ssh's questions go; empty: nobody is asked
	output      *outputParser
	userCount   int // guarded by destination.mu

	cancel     context.CancelFunc // ends run
	program    sshProgram         // belongs to run
	isOldSSH   bool               // the program is OpenSSH before 8.7; belongs to run
	loggedInAt time.Time          // valid after readyCh if it has logged in
	readyCh    chan struct{}      // closed when it has logged in, or cannot
	doneCh     chan struct{}      // closed when run has returned and the process has ended
	isClosed   atomic.Bool        // by close
	// hasForwarded: the server has opened a connection for a SOCKS proxy, so that it does not forbid forwarding.
	hasForwarded atomic.Bool
	setAsideCh   chan struct{} // closed by suspect
	isTrial      bool          // it was started to find out what the server allows; its failure is nobody's
	isRestricted atomic.Bool   // the server has forbidden it something
	listenSlot   chan struct{} // holds a value while a request to listen is under way: the server's messages are about that

	mu                sync.Mutex
	child             *process.Child
	jumpLog           *jumpLog // nil: not started, or ended
	control           *mux.Control
	conn              *mux.Conn
	err               error              // why it ended, or could not log in; the first reason counts
	isVerifying       bool               // a liveness check runs in the background
	isVerifyRequested bool               // one more ping is needed: the answer to this one may be older than the last request
	suspicion         *forwarder.Failure // why the server does not answer, if the master is not set aside for that; nil: it answers
	restrictions      map[string]restriction
	isRechecking      bool      // runRechecks runs
	recheckedAt       time.Time // when another connection last showed what the server allows; zero: never

	suspicionChanged wait.Broadcast
}

// startMaster makes a master and starts its run. d.mu is held.
func (d *destination) startMaster(run forwarder.Run) *master {
	m := d.makeMaster(run)
	d.runMaster(m)
	return m
}

func (d *destination) makeMaster(run forwarder.Run) *master {
	return &master{
		destination: d, runConfig: run, startedAt: time.Now(), askSocket: run.AskSocket,
		output:  &outputParser{loggedInCh: make(chan bool, 1), keyFile: d.keyFile, tryCommand: d.tryCommand(), hasAgent: d.inputs.isAgentAnswering(run)},
		inputs:  d.inputs,
		readyCh: make(chan struct{}), doneCh: make(chan struct{}), setAsideCh: make(chan struct{}),
		listenSlot: make(chan struct{}, 1),
	}
}

// runMaster starts a master's run. d.mu is held.
func (d *destination) runMaster(m *master) {
	options := d.nextLogin
	m.cancel = d.tasks.Go(func(ctx context.Context) { m.run(ctx, options) })
}

// run starts ssh, serves until ssh or ctx ends, and returns when the process has ended.
func (m *master) run(ctx context.Context, options loginOptions) {
	defer close(m.doneCh)
	isLoggedIn := false
	forwarder.CatchPanic(func() { isLoggedIn = m.logInAndServe(ctx, options) }, func(f *forwarder.Failure, stack []byte) {
		m.destination.log.writeLine(string(stack))
		m.recordErr(f)
		m.destination.recordFailure(m, f)
	})
	m.destination.recordEnd(m)
	if !isLoggedIn {
		m.recordErr(context.Canceled) // unless a better reason is recorded
		close(m.readyCh)
	}
	m.stop()
	if isLoggedIn {
		m.recordErr(m.output.failure("ssh exited: " + m.child.ExitStatus()))
	}
}

// isOutdated reports whether a request of the user needs another master: a restart, because the server's settings may have changed, or a
// shell with another agent. lastAttemptAt is when the destination's last master was started. A master that the user had to log in is not
// outdated by a restart, which could not ask, but by another login if the server has forbidden it something.
func (m *master) isOutdated(run forwarder.Run, lastAttemptAt time.Time) bool {
	if run.RestartedAt.After(m.startedAt) && m.askSocket == "" {
		return true
	}
	if run.AskSocket != "" && run.AskSocket != m.askSocket && m.isRestricted.Load() {
		return true
	}
	return run.RequestedAt.After(lastAttemptAt) && m.hasOtherAgent(run)
}

// hasOtherAgent reports whether the master was started with another agent than that of run.
func (m *master) hasOtherAgent(run forwarder.Run) bool {
	return process.Getenv(m.runConfig.Env, AgentVariable) != process.Getenv(run.Env, AgentVariable)
}

// logInAndServe returns false if ssh could not log in, and true when the master has ended after a login.
func (m *master) logInAndServe(ctx context.Context, options loginOptions) (isLoggedIn bool) {
	if err := m.logIn(ctx, options); err != nil {
		f, isFailure := errors.AsType[*forwarder.Failure](err)
		if isFailure && f.Class == forwarder.Permanent && strings.HasPrefix(f.Reason, commandLinePrefix) {
			if option := findBadOption(ctx, m.destination.baseArgv, m.runConfig); option != "" {
				f.Reason, f.Hint = fmt.Sprintf("option %s: %s", option, f.Reason), "correct the service's connection.options"
			}
		}
		if isFailure {
			m.destination.addUserHints(f)
		}
		switch {
		case isFailure && !m.isOldSSH && isUnknownOption(f, forkOption):
			err = errOldSSH
			m.destination.recordOldSSH(m)
		case isFailure && !m.isClosed.Load() && !m.isTrial:
			m.destination.recordFailure(m, f)
		}
		m.recordErr(err)
		return false
	}
	m.loggedInAt = time.Now()
	m.destination.recordLogin(m)
	close(m.readyCh)
	m.serve(ctx)
	return true
}

// maxStopChecks is how often in a row a master that is set aside may be found stopped, at intervals of livenessInterval: as long as ssh's
// keepalives would wait by default. A stopped ssh sends none, and would keep its connections for as long as their clients wait.
const maxStopChecks = 9

// stopChecks counts how often in a row a process was found stopped. Time in which this program was stopped too does not count.
type stopChecks int

// add adds a check, and reports whether the process is to be ended.
func (c *stopChecks) add(isStopped bool) bool {
	if *c++; !isStopped {
		*c = 0
	}
	return *c >= maxStopChecks
}

// serve returns when ssh, its connection or ctx ends. Until then, it has a silent server checked. It also returns when the master is set aside
// and its process stays stopped: that ssh sends no keepalives which would end it.
func (m *master) serve(ctx context.Context) {
	timer := wait.NewLongTimer(livenessInterval)
	defer timer.Stop()
	for checks := stopChecks(0); ; {
		timer.Reset(wait.AlignDelay(livenessInterval)) // with the checks of other masters and of processes
		select {
		case <-m.child.Done():
			return
		case <-m.conn.Done():
			return
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if checks.add(m.isSetAside() && m.child.IsProcessStopped()) {
			return
		}
		// A second less: the answer to the ping of the last tick must not postpone the next ping to the tick after this one.
		if time.Since(m.conn.LastReceived()) >= livenessInterval-time.Second {
			m.startLivenessCheck()
		}
	}
}

// recordErr records why the master ended, unless a reason is recorded.
func (m *master) recordErr(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err == nil {
		m.err = err
	}
}

// logIn starts ssh and returns when it has logged in and both connections to its control socket are open.
func (m *master) logIn(ctx context.Context, options loginOptions) error {
	// Not in the run's own directory, which is removed with the one service that happened to come first.
	dir, err := os.MkdirTemp(filepath.Dir(m.runConfig.SocketDir), "m")
	if err != nil {
		return &forwarder.Failure{Reason: err.Error()}
	}
	defer os.RemoveAll(dir)
	m.output.socketPath = filepath.Join(dir, "s")
	jumpLogPath := filepath.Join(dir, "j")
	env, err := m.buildEnv(dir, jumpLogPath, options.bypassesJumpMaster)
	if err != nil {
		return &forwarder.Failure{Reason: err.Error()}
	}
	argv, toConfigFile, err := useDefaults(m.destination.baseArgv, dir, defaultOptions(options.connectTimeout))
	if err != nil {
		return &forwarder.Failure{Reason: err.Error()}
	}
	lookup := process.Command{Argv: []string{"ssh"}, Env: m.runConfig.Env, Dir: m.runConfig.Dir} // not the wrapper in env
	path, err := process.LookPath("ssh", lookup.Env, lookup.Dir)
	if err != nil {
		return process.ClassifyStartError(err, lookup, installSSH)
	}
	m.program = sshProgramAt(path)
	m.isOldSSH = m.destination.isOldSSH(m.program)
	m.destination.log.startMaster()
	jumpLog, err := newJumpLog(jumpLogPath, func(line string) { m.handleLine(sourceJump, toConfigFile.Replace(line)) })
	if err != nil {
		return &forwarder.Failure{Reason: err.Error()}
	}
	m.mu.Lock()
	m.jumpLog = jumpLog
	m.mu.Unlock()
	m.runConfig.ReportProgress("ssh is logging in to " + m.hostName())
	program, err := process.Start(process.Command{
		Path: path, Argv: buildArgv(argv, m.output.socketPath, m.isOldSSH, m.askSocket != ""), Dir: m.runConfig.Dir, Env: env,
		OnLine: func(stream process.Stream, line string) {
			from := sourceOther
			if stream == process.Stdout {
				from = sourceSSH
			}
			m.handleLine(from, toConfigFile.Replace(line))
		},
	})
	if err != nil {
		return process.ClassifyStartError(err, lookup, installSSH)
	}
	m.mu.Lock()
	m.child = program
	m.mu.Unlock()
	select {
	case hasSocket := <-m.output.loggedInCh:
		if !hasSocket {
			m.stopChild()
			return m.output.failure("ssh connected, but its control socket is unavailable")
		}
	case <-program.Done():
		m.stopChild()
		return m.output.failure("ssh exited: " + program.ExitStatus())
	case <-ctx.Done():
		m.stopChild()
		return ctx.Err()
	}
	if err := m.openControl(ctx); err != nil {
		m.stopChild()
		return m.output.failure(fmt.Sprintf("cannot use the control socket of ssh (OpenSSH 7.4 or newer is needed): %v", err))
	}
	return nil
}

const installSSH = "install ssh (Debian and Ubuntu: openssh-client; Fedora: openssh-clients)"

// describeProxy names what the message "Executing proxy command: exec COMMAND" is about.
func describeProxy(message string) string {
	_, command, _ := strings.Cut(message, ": ")
	program, _, _ := strings.Cut(strings.TrimPrefix(command, "exec "), " ") // the arguments may hold a password
	if program = filepath.Base(program); program == "ssh" {
		return "a jump host"
	}
	return "the ProxyCommand " + program
}

// hostName returns the host as the config names it.
func (m *master) hostName() string { return m.destination.baseArgv[len(m.destination.baseArgv)-1] }

// handleLine handles a line of output.
func (m *master) handleLine(from source, line string) {
	if message, isDebug := strings.CutPrefix(line, "debug1: "); isDebug && from == sourceSSH && strings.HasPrefix(message, executingProxy) {
		m.runConfig.ReportProgress("ssh is logging in to " + m.hostName() + " through " + describeProxy(message))
	}
	isLogged := true
	forwarder.CatchPanic(func() { isLogged = m.output.parseLine(from, line) }, func(_ *forwarder.Failure, stack []byte) {
		m.destination.log.writeLine(string(stack)) // a server chooses the text of a line: a bug in reading it must not end the supervisor
	})
	if isLogged {
		m.destination.log.writeLine(line)
	}
}

// stopChild ends the process, if there is one, and returns when all that it and the ssh processes to jump hosts logged has been read.
func (m *master) stopChild() {
	m.mu.Lock()
	program, jumpLog := m.child, m.jumpLog
	m.jumpLog = nil
	m.mu.Unlock()
	if program != nil {
		program.Stop(process.DefaultGracePeriod)
	}
	if jumpLog != nil {
		jumpLog.close()
	}
}

// openControl opens the two connections to ssh, one for requests and one for channels, and makes ssh accept no more.
func (m *master) openControl(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, responseTimeout)
	defer cancel()
	control, err := mux.Dial(ctx, m.output.socketPath)
	if err != nil {
		return err
	}
	second, err := mux.Dial(ctx, m.output.socketPath)
	if err != nil {
		_ = control.Close()
		return err
	}
	conn, err := second.OpenProxy(ctx)
	if err == nil {
		err = control.StopListening(ctx)
	}
	if err != nil {
		_ = control.Close()
		_ = second.Close()
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.control, m.conn = control, conn
	return nil
}

// stop ends the process and both connections.
func (m *master) stop() {
	m.mu.Lock()
	control, conn := m.control, m.conn
	m.mu.Unlock()
	m.stopChild() // first: a master some of whose channels were refused exits with an error when a connection ends
	if conn != nil {
		_ = conn.Close()
		_ = control.Close()
	}
}

// close ends the master and returns when its process has ended.
func (m *master) close() {
	m.isClosed.Store(true)
	m.cancel()
	<-m.doneCh
}

// waitReady waits for the login and checks that the server still answers. It returns errUnresponsive if not.
func (m *master) waitReady(ctx context.Context) error {
	select {
	case <-m.readyCh:
	case <-ctx.Done():
		return ctx.Err()
	}
	if m.isSetAside() {
		return errUnresponsive
	}
	if err := m.endReason(); err != nil {
		return err
	}
	if time.Since(m.loggedInAt) < livenessMaxAge || time.Since(m.conn.LastReceived()) < livenessMaxAge {
		return nil
	}
	return m.verifyLiveness(ctx)
}

// endReason returns why the master has ended or could not log in; nil while it runs.
func (m *master) endReason() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// verifyLiveness pings the server. Any message from it counts as an answer, because on a saturated link the answer itself may be
// late. Without one it returns errUnresponsive, and sets the master aside.
func (m *master) verifyLiveness(ctx context.Context) error {
	for {
		pingedAt := time.Now()
		pingCtx, cancel := context.WithTimeout(ctx, responseTimeout)
		err := m.conn.Ping(pingCtx)
		cancel()
		switch {
		case err == nil:
			m.setSuspicion(nil)
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case !errors.Is(err, context.DeadlineExceeded):
			<-m.doneCh
			return errUnresponsive
		case m.conn.LastReceived().After(pingedAt):
			m.setSuspicion(nil)
			return nil
		case wait.WasSuspended(pingedAt, responseTimeout):
			continue // the answer may have come in time
		}
		m.suspect()
		return errUnresponsive
	}
}

// suspect makes newcomers use another master, because the server did not answer. Whether the connection is dead only ssh decides, by its
// keepalives: established connections survive a silence that ends before, and the master ends with the last of them. A master that needed
// the user to log in stays the current one: another could not log in. Its services show the failure until the server answers.
func (m *master) suspect() {
	failure := unresponsiveFailure()
	if m.child.IsProcessStopped() {
		failure = &forwarder.Failure{Reason: "the ssh process is suspended (SIGSTOP)"}
	}
	m.setSuspicion(failure)
	if m.askSocket != "" {
		return
	}
	m.recordErr(failure)
	m.destination.recordEnd(m)
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.isSetAside() {
		close(m.setAsideCh)
	}
}

// setSuspicion changes the failure that the master's services show.
func (m *master) setSuspicion(failure *forwarder.Failure) {
	m.mu.Lock()
	hasChanged := (m.suspicion == nil) != (failure == nil)
	m.suspicion = failure
	m.mu.Unlock()
	if hasChanged {
		m.suspicionChanged.Announce()
	}
}

// currentSuspicion returns why the server does not answer; nil if it does, as far as is known.
func (m *master) currentSuspicion() *forwarder.Failure {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.suspicion
}

func unresponsiveFailure() *forwarder.Failure {
	return &forwarder.Failure{Reason: fmt.Sprintf("the ssh server did not answer within %v", responseTimeout)}
}

func (m *master) isSetAside() bool { return wait.IsClosed(m.setAsideCh) }

// maxRefusals is after how many refused channels a master is replaced: ssh keeps a kilobyte for each until it exits.
const maxRefusals = 2000

// recycleAfterRefusals ends a master that has reached maxRefusals, if no channel is open and no login would be lost.
func (m *master) recycleAfterRefusals(lastRefusal *mux.OpenChannelError) {
	if m.conn.RefusalCount() >= maxRefusals && m.conn.StreamCount() == 0 && m.askSocket == "" {
		m.recordErr(&forwarder.Failure{Reason: fmt.Sprintf("ssh is restarted after %d refused connections, the last one with: %v", maxRefusals, lastRefusal)})
		m.cancel()
	}
}

// startLivenessCheck verifies in the background that the server answers.
func (m *master) startLivenessCheck() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.isVerifyRequested = m.isVerifying
	if m.isVerifying || wait.IsClosed(m.doneCh) {
		return
	}
	m.isVerifying = true
	m.destination.tasks.Go(func(ctx context.Context) {
		forwarder.CatchPanic(func() { m.runLivenessChecks(ctx) }, func(f *forwarder.Failure, _ []byte) {
			m.recordErr(f)
			m.cancel()
		})
	})
}

// runLivenessChecks pings until no check was requested after the last ping was sent.
func (m *master) runLivenessChecks(ctx context.Context) {
	for isNeeded := true; isNeeded; {
		err := m.verifyLiveness(ctx)
		m.mu.Lock()
		isNeeded = m.isVerifyRequested && err == nil && ctx.Err() == nil
		m.isVerifying, m.isVerifyRequested = isNeeded, false
		m.mu.Unlock()
	}
}
