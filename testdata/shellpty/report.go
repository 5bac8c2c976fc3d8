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

// report is the pipe through which a shell speaks to the test. It has a name, so that the programs that the shell
// starts inherit nothing. A message ends with a NUL; its first byte is its kind.
type report struct {
	file     *os.File
	messages chan string
	quit     chan struct{}
	reader   sync.WaitGroup
}

func openReport(t testing.TB, path string) *report {
	t.Helper()
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatalf("make a named pipe: %v", err)
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0) // both, so that it is open at once and never at its end
	if err != nil {
		t.Fatal(err)
	}
	r := &report{file: file, messages: make(chan string), quit: make(chan struct{})}
	r.reader.Go(r.read)
	return r
}

func (r *report) read() {
	for in := bufio.NewReader(r.file); ; {
		message, err := in.ReadString(0)
		if err != nil {
			return
		}
		select {
		case r.messages <- strings.TrimSuffix(message, "\x00"):
		case <-r.quit:
			return
		}
	}
}

// close ends the reader by a message of our own: closing alone does not wake a reader of a pipe everywhere.
func (r *report) close() {
	close(r.quit)
	_, _ = r.file.WriteString("Q\x00")
	r.reader.Wait()
	_ = r.file.Close()
}

// prompt is what a shell reports at each prompt.
type prompt struct {
	number, status, pid int
}

func parsePrompt(t testing.TB, message string) (p prompt) {
	t.Helper()
	if _, err := fmt.Sscan(message, &p.number, &p.status, &p.pid); err != nil {
		t.Fatalf("report of a prompt %q: %v", message, err)
	}
	return p
}

// text is how the prompt looks on the screen.
func (p prompt) text() string { return fmt.Sprintf("[%d]> ", p.number) }
