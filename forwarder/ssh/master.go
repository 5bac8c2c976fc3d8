package ssh

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/forwarder/ssh/mux"
)

// answerLimit is how long a server may say nothing at all after it was asked for a sign of life.
const answerLimit = 3 * time.Second

// Why whoever waits for a master is to look for another.
var (
	errSilent = errors.New("the server gives no sign of life")
	errOld    = errors.New("this ssh is older than was thought")
)

// master is one run of ssh that carries the connections of several tunnels.
type master struct {
	at     *destination
	run    forwarder.Run // of the service that had it started
	asking string        // where the user answers; empty: nobody does
	speech *speech
	users  int // guarded by the destination's lock

	cancel context.CancelFunc // gives the start up
	began  time.Time          // when it had logged in; valid after ready
	ready  chan struct{}      // closed when it has logged in, or will not
	done   chan struct{}      // closed when it has ended and nothing of it is left
	closed atomic.Bool        // by us

	mu      sync.Mutex
	child   *process.Child
	control *mux.Control
	conn    *mux.Conn
	err     error // why it ended, or will not log in
	doubted bool  // a sign of life is waited for
	again   bool  // and another is wanted: its answer may be older than the last doubt
}

// start starts a master. d.mu is held.
func (d *destination) start(run forwarder.Run) *master {
	m := &master{
		at: d, run: run, asking: run.Ask,
		speech: &speech{ready: make(chan bool, 1), key: d.key},
		ready:  make(chan struct{}), done: make(chan struct{}),
	}
	old, around := d.old, d.around
	m.cancel = d.tasks.Go(func(ctx context.Context) { m.live(ctx, old, around) })
	return m
}

// live is the master's life, from its start until nothing is left.
func (m *master) live(ctx context.Context, old, around bool) {
	defer close(m.done)
	up := false
	forwarder.Contain(func() { up = m.course(ctx, old, around) }, func(f *forwarder.Failure, stack []byte) {
		m.at.logs.write(string(stack))
		m.note(f)
		m.at.failed(m, f)
	})
	m.at.over(m)
	if !up {
		m.note(context.Canceled) // at the least
		close(m.ready)
	}
	m.end()
	if up {
		m.note(m.speech.failure("ssh ended: " + m.child.ExitStatus()))
	}
}

// course is what becomes of an ssh: false if it could not log in.
func (m *master) course(ctx context.Context, old, around bool) (up bool) {
	if err := m.login(ctx, old, around); err != nil {
		f, failed := errors.AsType[*forwarder.Failure](err)
		switch {
		case failed && !old && rejects(f, sinceOld):
			err = errOld
			m.at.ages(m)
		case failed && !m.closed.Load():
			m.at.failed(m, f)
		}
		m.note(err)
		return false
	}
	m.began = time.Now()
	m.at.up()
	close(m.ready)
	select {
	case <-m.child.Done():
	case <-m.conn.Done():
	case <-ctx.Done():
	}
	return true
}

// note keeps the first reason of the end.
func (m *master) note(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err == nil {
		m.err = err
	}
}

// login starts ssh and returns when it has logged in and speaks to us, and to nobody else.
func (m *master) login(ctx context.Context, old, around bool) error {
	// It is shared: the folder of the run goes with the one service that happened to come first.
	dir, err := os.MkdirTemp(filepath.Dir(m.run.Sockets), "m")
	if err != nil {
		return &forwarder.Failure{Reason: err.Error()}
	}
	defer os.RemoveAll(dir)
	m.speech.socket = filepath.Join(dir, "s")
	env, err := m.environment(dir, around)
	if err != nil {
		return &forwarder.Failure{Reason: err.Error()}
	}
	argv, names, err := alias(m.at.argv, dir)
	if err != nil {
		return &forwarder.Failure{Reason: err.Error()}
	}
	program, err := process.Start(process.Command{
		Argv: command(argv, m.speech.socket, old, m.asking != ""), Dir: m.run.Dir, Env: env,
		OnLine: func(_ process.Stream, line string) { m.line(names.Replace(line)) },
	})
	if err != nil {
		return process.ClassifyStartError(err, "install ssh (Debian and Ubuntu: openssh-client; Fedora: openssh-clients)")
	}
	m.mu.Lock()
	m.child = program
	m.mu.Unlock()
	select {
	case up := <-m.speech.ready:
		if !up {
			program.Stop(process.DefaultGracePeriod)
			return m.speech.failure("ssh has logged in and takes no connections")
		}
	case <-program.Done():
		return m.speech.failure("ssh ended: " + program.ExitStatus())
	case <-ctx.Done():
		program.Stop(process.DefaultGracePeriod)
		return ctx.Err()
	}
	if err := m.connect(ctx); err != nil {
		program.Stop(process.DefaultGracePeriod)
		return m.speech.failure(fmt.Sprintf("ssh does not share its connection, which OpenSSH does since 7.4: %v", err))
	}
	return nil
}

// line takes what ssh prints.
func (m *master) line(line string) {
	if m.speech.line(line) {
		m.at.logs.write(line)
	}
}

// connect makes the two connections to ssh that there are, and has it listen for no more.
func (m *master) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	control, err := mux.Dial(ctx, m.speech.socket)
	if err != nil {
		return err
	}
	second, err := mux.Dial(ctx, m.speech.socket)
	if err != nil {
		_ = control.Close()
		return err
	}
	conn, err := second.Proxy(ctx)
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

// end ends what there is of it.
func (m *master) end() {
	m.mu.Lock()
	control, conn, program := m.control, m.conn, m.child
	m.mu.Unlock()
	if program != nil { // first: to a master that has refused channels, the end of a connection is an error
		program.Stop(process.DefaultGracePeriod)
	}
	if conn != nil {
		_ = conn.Close()
		_ = control.Close()
	}
}

// close ends it and returns when nothing is left.
func (m *master) close() {
	m.closed.Store(true)
	m.cancel()
	<-m.done
}

// await returns when the master is known to lead to its server; errSilent if it does not, and has been ended.
func (m *master) await(ctx context.Context) error {
	select {
	case <-m.ready:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := m.failure(); err != nil {
		return err
	}
	if time.Since(m.began) < fresh || time.Since(m.conn.Heard()) < fresh {
		return nil
	}
	return m.verify(ctx)
}

// failure is why it has ended, or could not log in; nil while it lives.
func (m *master) failure() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// verify asks the server for a sign of life: an answer, or whatever else comes from it meanwhile, for a line that is full may
// bring the answer late. Where there is none the master is ended.
func (m *master) verify(ctx context.Context) error {
	asked := time.Now()
	limited, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	err := m.conn.Ping(limited)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, context.DeadlineExceeded):
		if m.conn.Heard().After(asked) {
			return nil
		}
		m.note(&forwarder.Failure{Reason: fmt.Sprintf("the ssh server has not answered for %v", answerLimit)})
		m.cancel()
	}
	<-m.done
	return errSilent
}

// mostRefusals is how many refused channels a master is kept for: it holds a kilobyte for each until it ends.
const mostRefusals = 2000

// wear ends a master that has refused channels too often, if nothing is lost by that.
func (m *master) wear(r *mux.Refused) {
	if m.conn.Refusals() >= mostRefusals && m.conn.Streams() == 0 && m.asking == "" {
		m.note(&forwarder.Failure{Reason: fmt.Sprintf("ssh is replaced after %d refused connections, the last of which was: %v", mostRefusals, r)})
		m.cancel()
	}
}

// doubt asks for a sign of life in the background.
func (m *master) doubt() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.again = m.doubted
	if m.doubted || m.err != nil {
		return
	}
	m.doubted = true
	m.at.tasks.Go(func(ctx context.Context) {
		forwarder.Contain(func() { m.settleDoubts(ctx) }, func(f *forwarder.Failure, _ []byte) {
			m.note(f)
			m.cancel()
		})
	})
}

// settleDoubts asks for a sign of life until there is no doubt that is younger than the last.
func (m *master) settleDoubts(ctx context.Context) {
	for more := true; more; {
		err := m.verify(ctx)
		m.mu.Lock()
		more = m.again && err == nil
		m.doubted, m.again = more, false
		m.mu.Unlock()
	}
}
