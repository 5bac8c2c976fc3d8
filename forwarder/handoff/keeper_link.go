package handoff

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/lockstate"
)

// Arg is the command-line argument for which this program calls Main.
const Arg = client.KeeperArg

// Successor says how to start the next supervisor. The keeper holds it in memory only.
type Successor struct {
	Exe  string   `json:"exe"` // the program
	Args []string `json:"args"`
	Env  []string `json:"env"`
	Log  string   `json:"log"` // path for its stdout and stderr
	// State is what the supervisor tells its successor; opaque to the keeper.
	State json.RawMessage `json:"memory"`
	// Supervisor and Run are those of the sender. The keeper sweeps the run after the process has exited.
	Supervisor lockstate.Process `json:"supervisor,omitzero"`
	Run        string            `json:"run,omitempty"`
}

// successorJSON is the JSON of a Successor. Arguments and environment that are not UTF-8 are added as bytes, because JSON cannot hold them
// as strings.
type successorJSON struct {
	successorFields
	RawArgs [][]byte `json:"raw_args,omitempty"`
	RawEnv  [][]byte `json:"raw_env,omitempty"`
}

type successorFields Successor

// MarshalJSON returns the successorJSON.
func (s Successor) MarshalJSON() ([]byte, error) {
	return json.Marshal(successorJSON{successorFields(s), bytesUnlessUTF8(s.Args), bytesUnlessUTF8(s.Env)})
}

// UnmarshalJSON reads a successorJSON.
func (s *Successor) UnmarshalJSON(data []byte) error {
	var decoded successorJSON
	err := json.Unmarshal(data, &decoded)
	for texts, raw := range map[*[]string][][]byte{&decoded.Args: decoded.RawArgs, &decoded.Env: decoded.RawEnv} {
		if raw != nil {
			*texts = strings.Split(string(bytes.Join(raw, []byte{0})), "\x00") // no argument holds a NUL
		}
	}
	*s = Successor(decoded.successorFields)
	return err
}

// bytesUnlessUTF8 returns the bytes of the texts, or nil if all of them are UTF-8.
func bytesUnlessUTF8(texts []string) (raw [][]byte) {
	if !slices.ContainsFunc(texts, func(text string) bool { return !utf8.ValidString(text) }) {
		return nil
	}
	for _, text := range texts {
		raw = append(raw, []byte(text))
	}
	return raw
}

// answerTimeout bounds every request but replace.
const answerTimeout = 2 * time.Second

// ErrKeeperEnded says that the keeper ended before it answered: it may have done what was requested.
var ErrKeeperEnded = errors.New("the keeper has ended")

// KeeperLink is a supervisor's connection to its keeper. Its methods are safe for concurrent use; each returns when the keeper has
// answered.
type KeeperLink struct {
	conn     *net.UnixConn
	doneCh   chan struct{}
	answerCh chan frame

	pid int

	requestSlot chan struct{} // a semaphore: one request at a time
	seq         uint64        // of the last request
}

// Start starts a keeper. The caller must call End or Close.
func Start(exe string) (*KeeperLink, error) {
	ours, theirs, err := newSocketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	cmd := exec.Command(exe, Arg)
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{theirs} // becomes supervisorFD
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		ours.Close()
		return nil, fmt.Errorf("start the keeper: %w", err)
	}
	unregister := process.RegisterChild(cmd.Process.Pid)
	go func() {
		_ = cmd.Wait() // it outlives this process if another supervisor takes over
		unregister()
	}()
	l := newKeeperLink(ours)
	l.pid = cmd.Process.Pid
	return l, nil
}

// Inheritance is what a supervisor gets from its predecessor.
type Inheritance struct {
	Files map[string][]*os.File // by the name they were held under; the caller closes them
	State json.RawMessage
	// IsPredecessorAlive is set if the predecessor runs until this supervisor is ready.
	IsPredecessorAlive bool
	Deaths             []Death // of supervisors before this one, since a start last succeeded
}

// Death is the death of a supervisor that neither stopped nor handed over.
type Death struct {
	Supervisor lockstate.Process `json:"supervisor"`
	Run        string            `json:"run"`
	At         time.Time         `json:"at"`
	Reason     string            `json:"reason,omitempty"` // process.ExitObserver.Reason; empty if it is not known
}

// Inherit returns the connection to the keeper that started this process, and what it handed over.
func Inherit() (*KeeperLink, *Inheritance, error) {
	file := os.NewFile(client.ExtraFD, "the keeper's socket")
	conn, err := newUnixConn(file)
	if err != nil {
		return nil, nil, fmt.Errorf("take over from the keeper: %w", err)
	}
	handed, pid, err := readInheritance(conn)
	if err != nil {
		conn.Close()
		return nil, nil, fmt.Errorf("take over from the keeper: %w", err)
	}
	l := newKeeperLink(conn)
	l.pid = pid
	return l, handed, nil
}

// readInheritance reads what sendFrames writes. The pid is the sender's.
func readInheritance(conn *net.UnixConn) (handed *Inheritance, pid int, err error) {
	handed = &Inheritance{Files: make(map[string][]*os.File)}
	for {
		f, err := readFrame(conn)
		if err != nil {
			handed.close()
			return nil, 0, err
		}
		switch f.Verb {
		case verbHold:
			for _, fd := range f.fds {
				handed.Files[f.Name] = append(handed.Files[f.Name], os.NewFile(uintptr(fd), f.Name))
			}
		case verbBegin:
			handed.State, handed.IsPredecessorAlive, handed.Deaths = f.Successor.State, f.IsPredecessorAlive, f.Deaths
			return handed, f.PID, nil
		}
	}
}

func (h *Inheritance) close() {
	for _, files := range h.Files {
		for _, file := range files {
			file.Close()
		}
	}
}

// Offer sends copies of files to another supervisor, which calls AcceptOffer. The files stay the caller's.
func Offer(conn *net.UnixConn, files map[string][]*os.File) error {
	var frames []frame
	for name, files := range files {
		f := frame{Verb: verbHold, Name: name}
		for _, file := range files {
			copied, err := copyDescriptor(file)
			if err != nil {
				for _, f := range append(frames, f) {
					closeDescriptors(f.fds)
				}
				return err
			}
			f.fds = append(f.fds, copied)
		}
		frames = append(frames, f)
	}
	return sendFrames(conn, append(frames, frame{Verb: verbBegin, Successor: &Successor{}, IsPredecessorAlive: true, PID: os.Getpid()}))
}

// copyDescriptor does not call Fd, which would make the socket blocking for every process that has it.
func copyDescriptor(file *os.File) (copied int, err error) {
	raw, err := file.SyscallConn()
	if err != nil {
		return 0, err
	}
	controlErr := raw.Control(func(fd uintptr) { copied, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) })
	return copied, errors.Join(controlErr, err)
}

// AcceptOffer receives what another supervisor sends with Offer.
func AcceptOffer(conn *net.UnixConn) (*Inheritance, error) {
	handed, _, err := readInheritance(conn)
	return handed, err
}

func newKeeperLink(conn *net.UnixConn) *KeeperLink {
	l := &KeeperLink{conn: conn, doneCh: make(chan struct{}), answerCh: make(chan frame, 4), requestSlot: make(chan struct{}, 1)}
	go l.readAnswers()
	return l
}

// readAnswers reads answers until the keeper ends.
func (l *KeeperLink) readAnswers() {
	defer close(l.doneCh)
	for {
		f, err := readFrame(l.conn)
		if err != nil {
			l.conn.Close()
			return
		}
		select {
		case l.answerCh <- f:
		default: // the caller has timed out
		}
	}
}

// Done is closed when the keeper has ended.
func (l *KeeperLink) Done() <-chan struct{} { return l.doneCh }

// PID returns the keeper's pid.
func (l *KeeperLink) PID() int { return l.pid }

// Hold has the keeper hold copies of the files under a name, in place of those it held. The files stay the caller's.
func (l *KeeperLink) Hold(name string, files []*os.File) error {
	f := frame{Verb: verbHold, Name: name}
	for _, file := range files {
		raw, err := file.SyscallConn()
		if err != nil {
			return err
		}
		// Not Fd, which would make the socket blocking for every process that has it.
		if err := raw.Control(func(fd uintptr) { f.fds = append(f.fds, int(fd)) }); err != nil {
			return err
		}
	}
	return l.call(f, answerTimeout)
}

// Drop has the keeper close what it holds under a name. When it returns without an error, the keeper has no copy.
func (l *KeeperLink) Drop(name string) error {
	return l.call(frame{Verb: verbDrop, Name: name}, answerTimeout)
}

// SetSuccessor tells the keeper how to start the next supervisor.
func (l *KeeperLink) SetSuccessor(successor Successor) error {
	return l.call(frame{Verb: verbSuccessor, Successor: &successor}, answerTimeout)
}

// Replace has the keeper start the next supervisor, from another program if exe is not empty. It returns nil when that is ready and has
// everything; the caller drains then. The error is an *api.LoginLossError if services would need another login.
func (l *KeeperLink) Replace(ctx context.Context, exe string) error {
	limit := 30 * time.Second
	if deadline, ok := ctx.Deadline(); ok {
		limit = max(time.Until(deadline), time.Millisecond)
	}
	return l.call(frame{Verb: verbReplace, Exe: exe}, limit)
}

// End has the keeper close everything, and exit after the supervisor. When it returns, the keeper has no copies. A keeper that does not
// answer is killed.
func (l *KeeperLink) End() {
	_ = l.call(frame{Verb: verbEnd}, answerTimeout)
	l.conn.Close()
	<-l.doneCh
}

// Close closes the connection only. The keeper treats that as the death of the supervisor, or as the end of its drain if it was replaced.
func (l *KeeperLink) Close() {
	l.conn.Close()
	<-l.doneCh
}

func (l *KeeperLink) call(f frame, limit time.Duration) error {
	l.requestSlot <- struct{}{}
	defer func() { <-l.requestSlot }()
	l.seq++
	f.Seq = l.seq
	timer := time.NewTimer(limit)
	defer timer.Stop()
	_ = l.conn.SetWriteDeadline(time.Now().Add(limit))
	if err := writeFrame(l.conn, f); err != nil {
		l.killKeeper()
		return fmt.Errorf("%w: %w", ErrKeeperEnded, err)
	}
	for {
		select {
		case answer := <-l.answerCh:
			if answer.Seq != f.Seq {
				continue
			}
			switch {
			case answer.LoginLoss != nil:
				return answer.LoginLoss
			case answer.Error != "":
				return errors.New(answer.Error)
			}
			return nil
		case <-l.doneCh:
			return ErrKeeperEnded
		case <-timer.C:
			if f.Verb != verbReplace {
				l.killKeeper()
			}
			return fmt.Errorf("the keeper did not answer within %v", limit)
		}
	}
}

// killKeeper kills a keeper that does not respond, because it may hold a port that must be closed.
func (l *KeeperLink) killKeeper() {
	select {
	case <-l.doneCh: // its pid may be reused
	default:
		_ = syscall.Kill(l.pid, syscall.SIGKILL)
	}
}
