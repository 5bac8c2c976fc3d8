package handoff

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/lockstate"
)

// Arg is the argument that makes this program call Main.
const Arg = client.KeeperArg

// Note is what the next supervisor is started with. It is held in the keeper's memory only.
type Note struct {
	Exe  string   `json:"exe"` // this program
	Args []string `json:"args"`
	Env  []string `json:"env"`
	Log  string   `json:"log"` // where its stdout and stderr go
	// Memory is what it is to know of the one before, in the supervisor's own words.
	Memory json.RawMessage `json:"memory"`
	// Supervisor and Run are whose note it is: what is left of the run when the process has ended is swept.
	Supervisor lockstate.Process `json:"supervisor,omitzero"`
	Run        string            `json:"run,omitempty"`
}

// answerTime is how long a keeper may take to answer, but for replace.
const answerTime = 2 * time.Second

var errGone = errors.New("the keeper is gone")

// Link is a supervisor's connection to its keeper. Its methods are safe for concurrent use; each returns when the
// keeper has done what was asked.
type Link struct {
	conn    *net.UnixConn
	done    chan struct{}
	answers chan frame

	mu  sync.Mutex // one request at a time
	seq uint64
	pid int
}

// Start starts a keeper. Whoever has the Link calls End or Close.
func Start(exe string) (*Link, error) {
	ours, theirs, err := pair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	cmd := exec.Command(exe, Arg)
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{theirs} // becomes socketFD
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		ours.Close()
		return nil, fmt.Errorf("start the keeper: %w", err)
	}
	go func() { _ = cmd.Wait() }() // it may outlive us, when another supervisor takes over
	l := newLink(ours)
	l.pid = cmd.Process.Pid
	return l, nil
}

// Handed is what a supervisor that a keeper started has from the one before.
type Handed struct {
	Files  map[string][]*os.File // by the name they were held under; the receiver closes them
	Memory json.RawMessage
	// Alive: the one before lives, and goes on until this one is ready.
	Alive bool
}

// Inherit is the link of a supervisor that was started by a keeper, and what it was handed.
func Inherit() (*Link, *Handed, error) {
	file := os.NewFile(client.ExtraFD, "the keeper's socket")
	conn, err := connection(file)
	if err != nil {
		return nil, nil, fmt.Errorf("take over from the keeper: %w", err)
	}
	handed, pid, err := receiveAll(conn)
	if err != nil {
		conn.Close()
		return nil, nil, fmt.Errorf("take over from the keeper: %w", err)
	}
	l := newLink(conn)
	l.pid = pid
	return l, handed, nil
}

// receiveAll is the other end of hand. The pid is that of who hands over.
func receiveAll(conn *net.UnixConn) (handed *Handed, pid int, err error) {
	handed = &Handed{Files: make(map[string][]*os.File)}
	for {
		f, err := receive(conn)
		if err != nil {
			handed.close()
			return nil, 0, err
		}
		switch f.Verb {
		case hold:
			for _, fd := range f.files {
				handed.Files[f.Name] = append(handed.Files[f.Name], os.NewFile(uintptr(fd), f.Name))
			}
		case begin:
			handed.Memory, handed.Alive = f.Note.Memory, f.Alive
			return handed, f.PID, nil
		}
	}
}

func (h *Handed) close() {
	for _, files := range h.Files {
		for _, file := range files {
			file.Close()
		}
	}
}

// Offer hands files over to a supervisor that calls Accept, without a keeper between them. They stay the caller's.
func Offer(conn *net.UnixConn, files map[string][]*os.File) error {
	var frames []frame
	for name, files := range files {
		f := frame{Verb: hold, Name: name}
		for _, file := range files {
			copied, err := copyDescriptor(file)
			if err != nil {
				for _, f := range append(frames, f) {
					closeAll(f.files)
				}
				return err
			}
			f.files = append(f.files, copied)
		}
		frames = append(frames, f)
	}
	return hand(conn, append(frames, frame{Verb: begin, Note: &Note{}, Alive: true, PID: os.Getpid()}))
}

// copyDescriptor does without Fd, which would make the socket a blocking one for everybody who has it.
func copyDescriptor(file *os.File) (copied int, err error) {
	raw, err := file.SyscallConn()
	if err != nil {
		return 0, err
	}
	controlErr := raw.Control(func(fd uintptr) { copied, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) })
	return copied, errors.Join(controlErr, err)
}

// Accept returns what another supervisor offers.
func Accept(conn *net.UnixConn) (*Handed, error) {
	handed, _, err := receiveAll(conn)
	return handed, err
}

func newLink(conn *net.UnixConn) *Link {
	l := &Link{conn: conn, done: make(chan struct{}), answers: make(chan frame, 4)}
	go l.listen()
	return l
}

// listen passes answers on until the keeper is gone.
func (l *Link) listen() {
	defer close(l.done)
	for {
		f, err := receive(l.conn)
		if err != nil {
			l.conn.Close()
			return
		}
		select {
		case l.answers <- f:
		default: // nobody waits for it any more
		}
	}
}

// Done is closed when the keeper is gone.
func (l *Link) Done() <-chan struct{} { return l.done }

// PID is the keeper's.
func (l *Link) PID() int { return l.pid }

// Hold has the keeper keep copies of the files under a name, instead of what it had under it. The files stay the
// caller's.
func (l *Link) Hold(name string, files []*os.File) error {
	f := frame{Verb: hold, Name: name}
	for _, file := range files {
		raw, err := file.SyscallConn()
		if err != nil {
			return err
		}
		// Not Fd, which would make the socket a blocking one for everybody who has it.
		if err := raw.Control(func(fd uintptr) { f.files = append(f.files, int(fd)) }); err != nil {
			return err
		}
	}
	return l.call(f, answerTime)
}

// Drop has the keeper close what it keeps under a name. When it returns, no copy is left there.
func (l *Link) Drop(name string) error { return l.call(frame{Verb: drop, Name: name}, answerTime) }

// Leave gives the keeper what the next supervisor is to be started with.
func (l *Link) Leave(n Note) error { return l.call(frame{Verb: note, Note: &n}, answerTime) }

// Replace has the keeper start the next supervisor, from another program if exe is not empty. It returns nil when
// that one is ready: it has everything then, and the caller has only to finish what it has begun.
func (l *Link) Replace(ctx context.Context, exe string) error {
	limit := 30 * time.Second
	if deadline, ok := ctx.Deadline(); ok {
		limit = max(time.Until(deadline), time.Millisecond)
	}
	return l.call(frame{Verb: replace, Exe: exe}, limit)
}

// End has the keeper close everything, and exit when the supervisor has. When it returns, no copy is left anywhere. A keeper that does not
// answer is killed.
func (l *Link) End() {
	_ = l.call(frame{Verb: end}, answerTime)
	l.conn.Close()
	<-l.done
}

// Close gives up the link alone: to the keeper it looks as if the supervisor had died, or finished.
func (l *Link) Close() {
	l.conn.Close()
	<-l.done
}

func (l *Link) call(f frame, limit time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seq++
	f.Seq = l.seq
	timer := time.NewTimer(limit)
	defer timer.Stop()
	_ = l.conn.SetWriteDeadline(time.Now().Add(limit))
	if err := send(l.conn, f); err != nil {
		l.kill()
		return fmt.Errorf("%w: %w", errGone, err)
	}
	for {
		select {
		case answer := <-l.answers:
			if answer.Seq != f.Seq {
				continue
			}
			if answer.Error != "" {
				return errors.New(answer.Error)
			}
			return nil
		case <-l.done:
			return errGone
		case <-timer.C:
			if f.Verb != replace {
				l.kill()
			}
			return fmt.Errorf("the keeper did not answer within %v", limit)
		}
	}
}

// kill ends a keeper that does nothing any more: it must not hold a port that is to be closed.
func (l *Link) kill() {
	select {
	case <-l.done: // its pid may be another's by now
	default:
		_ = syscall.Kill(l.pid, syscall.SIGKILL)
	}
}
