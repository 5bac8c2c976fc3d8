package process

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// maxPipeBytes is how much a pipe can hold that a program of an ordinary user has enlarged: fs.pipe-max-size of Linux.
const maxPipeBytes = 1 << 20

// outputPipe is the end of a pipe from which a child's output is read. After the read deadline it returns what is in the pipe, and only then the error:
// on a busy machine, the child may have exited before its output could be read, and its last lines say why.
type outputPipe struct {
	file *os.File
	left int // bytes that are still read after the deadline: a process that has left the group may print without end
}

func newOutputPipe(file *os.File) *outputPipe { return &outputPipe{file, maxPipeBytes} }

// Read reads from the pipe.
func (p *outputPipe) Read(b []byte) (int, error) {
	n, err := p.file.Read(b)
	if n > 0 || p.left <= 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		return n, err
	}
	if n = readAvailable(p.file, b); n <= 0 {
		return 0, err
	}
	p.left -= n
	return n, nil
}

// readAvailable reads from a file that does not block, whatever its read deadline. It returns 0 if there is nothing to read.
func readAvailable(file *os.File, b []byte) (n int) {
	raw, err := file.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) {
		for {
			if n, err = unix.Read(int(fd), b); !errors.Is(err, unix.EINTR) {
				return
			}
		}
	})
	return max(n, 0)
}
