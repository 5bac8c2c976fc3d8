package shellpty

import (
	"bytes"
	"io"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// screen collects all output of a terminal. The zero value is empty and ready for use.
type screen struct {
	mu        sync.Mutex // guards the fields that follow
	output    []byte
	changedCh chan struct{} // closed and replaced with every write; nil until somebody waits
}

// copy collects what the shell writes. It answers a question for the cursor's position, as a terminal does: nushell waits for that.
func (s *screen) copy(tty io.ReadWriter) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := tty.Read(buffer)
		for range bytes.Count(buffer[:n], []byte("\x1b[6n")) {
			_, _ = io.WriteString(tty, "\x1b[1;1R")
		}
		_, _ = s.Write(buffer[:n])
		if err != nil {
			return
		}
	}
}

// Write appends output. Only copy calls it.
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.output = append(s.output, p...)
	if s.changedCh != nil {
		close(s.changedCh)
		s.changedCh = nil
	}
	return len(p), nil
}

func (s *screen) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.output)
}

func (s *screen) text(from int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return stripEscapes(s.output[from:])
}

func (s *screen) raw(from int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.output[from:])
}

// watch returns the text from an offset on, and a channel that is closed when there is more.
func (s *screen) watch(from int) (text string, changedCh <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changedCh == nil {
		s.changedCh = make(chan struct{})
	}
	return stripEscapes(s.output[from:]), s.changedCh
}

// waitForText returns the text from an offset on as soon as it contains what is expected.
func (s *screen) waitForText(t testing.TB, from int, expected string) string {
	t.Helper()
	deadline := time.NewTimer(promptTimeout)
	defer deadline.Stop()
	for {
		text, changedCh := s.watch(from)
		if strings.Contains(text, expected) {
			return text
		}
		select {
		case <-changedCh:
		case <-deadline.C:
			t.Fatalf("%q not on the screen after %s:\n%s", expected, promptTimeout, text)
		}
	}
}

// escapePattern matches escape sequences, carriage returns and, last, what fish prints to find out whether the cursor is at the beginning of
// a line.
var escapePattern = regexp.MustCompile("\x1b\\[[0-9;?>=]*[A-Za-z]|\x1b\\][^\x07\x1b]*(\x07|\x1b\\\\)|\x1b[78]|\x1b[()=>].?|\r|⏎ *")

func stripEscapes(shown []byte) string { return string(escapePattern.ReplaceAll(shown, nil)) }
