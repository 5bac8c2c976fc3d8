package handoff

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/forwarder/api"
)

// frame is one message between a supervisor and its keeper: four bytes of length, big endian, then JSON. Descriptors are sent with the
// length.
type frame struct {
	Seq                uint64     `json:"seq"` // of a request, and of its answer
	Verb               verb       `json:"verb,omitempty"`
	Name               string     `json:"name,omitempty"`
	Successor          *Successor `json:"note,omitempty"`
	Exe                string     `json:"exe,omitempty"`
	PID                int        `json:"pid,omitempty"`    // of the keeper, in an answer
	IsPredecessorAlive bool       `json:"alive,omitempty"`  // in verbBegin: the predecessor runs until the new supervisor is ready
	Deaths             []Death    `json:"deaths,omitempty"` // in verbBegin: of supervisors that the new one replaces
	Error              string     `json:"error,omitempty"`
	// LoginLoss is set if that is the error of verbReplace.
	LoginLoss *api.LoginLossError `json:"login_loss,omitempty"`

	fds []int
}

type verb string

const (
	verbHold      verb = "hold"    // hold these descriptors under a name, in place of those held
	verbDrop      verb = "drop"    // close what is held under a name
	verbSuccessor verb = "note"    // how to start the next supervisor
	verbReplace   verb = "replace" // start the next supervisor now
	verbEnd       verb = "end"     // close everything, and exit after the supervisors
	verbBegin     verb = "begin"   // to a new supervisor: everything has been sent
)

// Limits of one message.
const (
	maxMessageSize = 16 << 20 // bytes; a config and an environment are far smaller
	maxDescriptors = 64       // a service has two listeners
)

func writeFrame(conn *net.UnixConn, f frame) error {
	data, err := json.Marshal(f)
	if err != nil {
		return err
	}
	var rights []byte
	if len(f.fds) > 0 {
		rights = unix.UnixRights(f.fds...)
	}
	// The length is read by itself, so its descriptors never arrive with another message's.
	if _, _, err := conn.WriteMsgUnix(binary.BigEndian.AppendUint32(nil, uint32(len(data))), rights, nil); err != nil {
		return err
	}
	_, err = conn.Write(data)
	return err
}

// readFrame reads one message. The caller closes its descriptors. They are raw, so that the runtime's poller is not woken by every
// connection to a held listener.
func readFrame(conn *net.UnixConn) (frame, error) {
	head, rights := make([]byte, 4), make([]byte, unix.CmsgSpace(4*maxDescriptors))
	n, rn, flags, _, err := conn.ReadMsgUnix(head, rights)
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err != nil {
		return frame{}, err
	}
	fds, err := parseDescriptors(rights[:rn])
	if err == nil && flags&unix.MSG_CTRUNC != 0 {
		err = errors.New("receive file descriptors: some were lost, because too many files are open")
	}
	if err == nil {
		_, err = io.ReadFull(conn, head[n:])
	}
	var f frame
	if err == nil {
		f, err = readBody(conn, binary.BigEndian.Uint32(head))
	}
	if err != nil {
		closeDescriptors(fds)
		return frame{}, err
	}
	f.fds = fds
	return f, nil
}

func readBody(r io.Reader, length uint32) (frame, error) {
	if length > maxMessageSize {
		return frame{}, fmt.Errorf("invalid message: %d bytes, at most %d are allowed", length, maxMessageSize)
	}
	data := make([]byte, length)
	if _, err := io.ReadFull(r, data); err != nil {
		return frame{}, err
	}
	var f frame
	return f, json.Unmarshal(data, &f)
}

func parseDescriptors(rights []byte) ([]int, error) {
	if len(rights) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, err
	}
	var fds []int
	for _, message := range messages {
		received, err := unix.ParseUnixRights(&message)
		if err != nil {
			closeDescriptors(fds)
			return nil, err
		}
		fds = append(fds, received...)
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
	}
	return fds, nil
}

func closeDescriptors(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

// newSocketPair makes a connection and its other end, for a child process.
func newSocketPair() (*net.UnixConn, *os.File, error) {
	syscall.ForkLock.RLock()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(fds[0])
		unix.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, fmt.Errorf("create a socket pair: %w", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "the keeper's socket")
	ours, err := newUnixConn(os.NewFile(uintptr(fds[0]), "the keeper's socket"))
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return ours, theirs, nil
}

// newUnixConn makes a connection from a socket, and closes the file.
func newUnixConn(file *os.File) (*net.UnixConn, error) {
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		conn.Close()
		return nil, fmt.Errorf("%s is a %s socket, not a unix socket", file.Name(), conn.LocalAddr().Network())
	}
	return unixConn, nil
}
