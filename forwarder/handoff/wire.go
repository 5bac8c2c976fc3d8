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
)

// frame is one message between a supervisor and its keeper: four bytes of length, big endian, then JSON. Descriptors
// travel with the length.
type frame struct {
	Seq   uint64 `json:"seq"` // of a request, and of its answer
	Verb  verb   `json:"verb,omitempty"`
	Name  string `json:"name,omitempty"`
	Note  *Note  `json:"note,omitempty"`
	Exe   string `json:"exe,omitempty"`
	PID   int    `json:"pid,omitempty"`   // of the keeper, in an answer
	Alive bool   `json:"alive,omitempty"` // in begin: the supervisor before this one lives, and ends when this one is ready
	Error string `json:"error,omitempty"`

	files []int
}

type verb string

const (
	hold    verb = "hold"    // keep copies of these descriptors under a name, instead of those held under it
	drop    verb = "drop"    // close what is held under a name
	note    verb = "note"    // what the next supervisor is to be started with
	replace verb = "replace" // start the next supervisor now
	end     verb = "end"     // close everything, and exit when the supervisors have ended
	begin   verb = "begin"   // to a new supervisor: you have it all
)

// Limits of one message.
const (
	largest    = 16 << 20 // a config and an environment are far below
	mostRights = 64       // a service has two listeners
)

func send(conn *net.UnixConn, f frame) error {
	data, err := json.Marshal(f)
	if err != nil {
		return err
	}
	var rights []byte
	if len(f.files) > 0 {
		rights = unix.UnixRights(f.files...)
	}
	// The descriptors go with bytes that are read by themselves: a read never takes them with another message's.
	if _, _, err := conn.WriteMsgUnix(binary.BigEndian.AppendUint32(nil, uint32(len(data))), rights, nil); err != nil {
		return err
	}
	_, err = conn.Write(data)
	return err
}

// receive reads one message. Its descriptors are the caller's to close; they are raw, so that no poller is told of
// every connection to a listener that is only kept.
func receive(conn *net.UnixConn) (frame, error) {
	head, rights := make([]byte, 4), make([]byte, unix.CmsgSpace(4*mostRights))
	n, rn, flags, _, err := conn.ReadMsgUnix(head, rights)
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err != nil {
		return frame{}, err
	}
	files, err := descriptors(rights[:rn])
	if err == nil && flags&unix.MSG_CTRUNC != 0 {
		err = errors.New("descriptors were lost on the way: too many open files")
	}
	if err == nil {
		_, err = io.ReadFull(conn, head[n:])
	}
	if err != nil {
		closeAll(files)
		return frame{}, err
	}
	f, err := body(conn, binary.BigEndian.Uint32(head))
	if err != nil {
		closeAll(files)
		return frame{}, err
	}
	f.files = files
	return f, nil
}

func body(r io.Reader, length uint32) (frame, error) {
	if length > largest {
		return frame{}, fmt.Errorf("a message of %d bytes", length)
	}
	data := make([]byte, length)
	if _, err := io.ReadFull(r, data); err != nil {
		return frame{}, err
	}
	var f frame
	return f, json.Unmarshal(data, &f)
}

func descriptors(rights []byte) ([]int, error) {
	if len(rights) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, err
	}
	var files []int
	for _, message := range messages {
		more, err := unix.ParseUnixRights(&message)
		if err != nil {
			closeAll(files)
			return nil, err
		}
		files = append(files, more...)
	}
	for _, fd := range files {
		unix.CloseOnExec(fd)
	}
	return files, nil
}

func closeAll(files []int) {
	for _, fd := range files {
		_ = unix.Close(fd)
	}
}

// pair is a connection and its other end, to be given to a child.
func pair() (*net.UnixConn, *os.File, error) {
	syscall.ForkLock.RLock()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(fds[0])
		unix.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, fmt.Errorf("make a pair of sockets: %w", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "the keeper's socket")
	ours, err := connection(os.NewFile(uintptr(fds[0]), "the keeper's socket"))
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return ours, theirs, nil
}

// connection makes a connection of a socket, and closes the file.
func connection(file *os.File) (*net.UnixConn, error) {
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		conn.Close()
		return nil, fmt.Errorf("%s is a %s", file.Name(), conn.LocalAddr().Network())
	}
	return unixConn, nil
}
