package shellpty

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// reportPipe is the pipe through which a shell reports to the test. It is a named pipe, so that the programs that the shell starts inherit
// no descriptor. A message ends with a NUL. Its first byte is its kind: 'P' a prompt, 'V' a value, 'Q' the end.
type reportPipe struct {
	file      *os.File
	messageCh chan string
	quitCh    chan struct{}
	reader    sync.WaitGroup
}

func openReportPipe(t testing.TB, path string) *reportPipe {
	t.Helper()
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatalf("make a named pipe: %v", err)
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0) // also for writing, so that opening does not block and reading never ends
	if err != nil {
		t.Fatal(err)
	}
	r := &reportPipe{file: file, messageCh: make(chan string), quitCh: make(chan struct{})}
	r.reader.Go(r.read)
	return r
}

func (r *reportPipe) read() {
	for in := bufio.NewReader(r.file); ; {
		message, err := in.ReadString(0)
		if err != nil {
			return
		}
		select {
		case r.messageCh <- strings.TrimSuffix(message, "\x00"):
		case <-r.quitCh:
			return
		}
	}
}

// close ends the reader by a message: closing the file does not wake up a reader of a pipe on every system.
func (r *reportPipe) close() {
	close(r.quitCh)
	_, _ = r.file.WriteString("Q\x00")
	r.reader.Wait()
	_ = r.file.Close()
}

// prompt is what a shell reports at a prompt.
type prompt struct {
	number int // of the prompt, from 1
	status int // exit status of the last command
	pid    int // of the shell
}

func parsePrompt(t testing.TB, message string) (p prompt) {
	t.Helper()
	if _, err := fmt.Sscan(message, &p.number, &p.status, &p.pid); err != nil {
		t.Fatalf("parse the report of a prompt %q: %v", message, err)
	}
	return p
}

// text returns the prompt as it is on the screen.
func (p prompt) text() string { return fmt.Sprintf("[%d]> ", p.number) }
