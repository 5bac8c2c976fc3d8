package ssh

import (
	"bufio"
	"io"
	"os"
	"syscall"
)

// jumpLog receives the log of the ssh processes to jump hosts through a named pipe: ssh has no other place for it than a file with a name.
type jumpLog struct {
	pipe   *os.File
	doneCh chan struct{}
}

// endOfLog ends the reading. ssh escapes its first character in what it logs.
const endOfLog = "\x00end"

// newJumpLog creates the pipe at path and calls onLine with each line, without its line end. The caller calls close; the path need not
// exist until then.
func newJumpLog(path string, onLine func(line string)) (*jumpLog, error) {
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		return nil, err
	}
	pipe, err := os.OpenFile(path, os.O_RDWR, 0) // both ways: neither this nor an ssh waits for the other side to open
	if err != nil {
		return nil, err
	}
	l := &jumpLog{pipe: pipe, doneCh: make(chan struct{})}
	go func() {
		defer close(l.doneCh)
		l.read(onLine)
	}()
	return l, nil
}

func (l *jumpLog) read(onLine func(line string)) {
	reader := bufio.NewReader(l.pipe)
	for {
		line, isPrefix, err := reader.ReadLine()
		if err != nil || string(line) == endOfLog {
			return
		}
		onLine(string(line))
		for isPrefix && err == nil {
			_, isPrefix, err = reader.ReadLine()
		}
	}
}

// close returns when all lines have been read that were logged before.
func (l *jumpLog) close() {
	// Not the end of file: a master of the user's own, which outlives this one, may keep the pipe open.
	if _, err := io.WriteString(l.pipe, "\n"+endOfLog+"\n"); err == nil {
		<-l.doneCh
	}
	_ = l.pipe.Close()
	<-l.doneCh
}
