package ssh

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/tasks"
)

// destination is where an ssh goes: a host, a user, a key, a way. At most one master leads there at a time.
type destination struct {
	tasks *tasks.Group // the driver's
	argv  []string     // of a master, without its socket
	key   string       // the key file of the config
	logs  logs         // of the services whose tunnels go there

	mu       sync.Mutex
	master   *master            // up or coming; nil
	old      bool               // this ssh is older than 8.7
	apart    bool               // the server does not let services share a connection
	around   bool               // a master that the user keeps to a jump host does not answer
	failure  *forwarder.Failure // of the last attempt; nil after one that succeeded
	failures int                // in a row
	tried    time.Time          // when the last attempt began
	asked    string             // where the user answered during that; empty: nobody did
}

// destination is where a tunnel's ssh goes.
func (d *driver) destination(s *spec, run forwarder.Run) *destination {
	argv := s.argv()
	key := strings.Join(append(argv, run.Dir), "\x00")
	own := key + "\x00" + s.name
	if s.to.alone {
		key = own
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if to := d.destinations[key]; to != nil && to.parted() {
		key = own
	}
	to := d.destinations[key]
	if to == nil {
		to = &destination{tasks: d.tasks, argv: argv, key: s.to.keyFile}
		d.destinations[key] = to
	}
	return to
}

func (d *destination) parted() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.apart
}

// part gives each service a master of its own from now on. It is false where there is only one.
func (d *destination) part(m *master) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.apart = d.apart || m.users > 1
	return d.apart
}

// fresh is how long a master's word that it has logged in counts for those who come.
const fresh = 3 * time.Second

// pace is the least time between two attempts that clients cause.
const pace = time.Second

// join returns a master that is known to lead to the server, starting one if there is none. Whoever got one calls leave.
func (d *destination) join(ctx context.Context, run forwarder.Run) (*master, error) {
	d.logs.add(run.Log)
	for {
		m, wait, err := d.enter(run)
		if err != nil {
			d.logs.remove(run.Log)
			return nil, err
		}
		if m == nil {
			if err := pause(ctx, wait); err != nil {
				d.logs.remove(run.Log)
				return nil, err
			}
			continue
		}
		if err = m.await(ctx); err == nil {
			return m, nil
		}
		asked := run.Ask == "" || m.asking != "" // by this attempt, or there is nobody to ask
		d.leave(m, nil)
		switch {
		case ctx.Err() == nil && (errors.Is(err, errSilent) || errors.Is(err, errOld) || !asked):
			continue // another takes its place
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			err = m.speech.failure("ssh was not ready in time")
		}
		d.logs.remove(run.Log)
		return nil, err
	}
}

// pause waits, unless ctx ends.
func pause(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// enter makes the caller a user of the master. There may be none yet: then wait says when to ask again, or the error why
// there will be none.
func (d *destination) enter(run forwarder.Run) (m *master, wait time.Duration, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.master == nil {
		if f := d.remembered(run); f != nil {
			return nil, 0, f
		}
		if wait := pace - time.Since(d.tried); d.failure != nil && run.Urgent && wait > 0 {
			return nil, wait, nil
		}
		d.tried, d.asked = time.Now(), run.Ask
		d.master = d.start(run)
	}
	d.master.users++
	return d.master, 0, nil
}

// remembered is the failure of the last attempt, if that is answer enough: ten services that share a destination are not
// to knock ten times as often as one would. What the user has done since, a client that waits, or a network that has
// changed are reasons to try again. d.mu is held.
func (d *destination) remembered(run forwarder.Run) error {
	f := d.failure
	switch {
	case f == nil:
		return nil
	case run.Ask != "" && run.Ask == d.asked: // the login is the same, and the user has answered for all
	case run.Ask != "", run.Asked.After(d.tried):
		return nil
	case f.Class == forwarder.Transient && time.Since(d.tried) > quiet(d.failures):
		return nil
	case f.Class != forwarder.ByAttention && run.Urgent:
		return nil
	}
	again := *f
	return &again
}

// quiet is how long an attempt's failure counts for everybody: less than any service waits by itself.
func quiet(failures int) time.Duration {
	return min(200*time.Millisecond<<min(failures-1, 6), 10*time.Second)
}

// leave ends the use of a master. The last user ends the master.
func (d *destination) leave(m *master, log io.Writer) {
	if log != nil {
		d.logs.remove(log)
	}
	d.mu.Lock()
	m.users--
	last := m.users == 0
	if last {
		d.dismiss(m)
	}
	d.mu.Unlock()
	if last {
		m.close()
	}
}

// dismiss makes room for another master. d.mu is held.
func (d *destination) dismiss(m *master) {
	if d.master == m {
		d.master = nil
	}
}

// up notes that a master has logged in.
func (d *destination) up() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failure, d.failures = nil, 0
}

// failed notes that a master could not log in.
func (d *destination) failed(m *master, f *forwarder.Failure) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failure = f
	d.failures++
	if strings.Contains(f.Reason, byProxy) && strings.Contains(f.Reason, "timed out during banner exchange") {
		d.around = !d.around
	}
	d.dismiss(m)
}

// ages notes that this ssh is older than 8.7.
func (d *destination) ages(m *master) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.old = true
	d.dismiss(m)
}

// over notes that a master that was up has ended.
func (d *destination) over(m *master) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dismiss(m)
}

// logs are where what an ssh says is written: the log of every service whose bytes it carries.
type logs struct {
	mu  sync.Mutex
	all map[io.Writer]int
}

func (l *logs) add(log io.Writer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == nil {
		l.all = make(map[io.Writer]int)
	}
	l.all[log]++
}

func (l *logs) remove(log io.Writer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all[log]--; l.all[log] <= 0 {
		delete(l.all, log)
	}
}

func (l *logs) write(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for log := range l.all {
		_, _ = io.WriteString(log, line+"\n")
	}
}
