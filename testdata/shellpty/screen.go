package shellpty

import (
	"io"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// screen keeps all that a terminal was sent. The zero value is ready.
type screen struct {
	mu      sync.Mutex
	shown   []byte
	changed chan struct{} // closed and replaced with every write; nil until somebody waits
}

func (s *screen) copy(from io.Reader) { _, _ = io.Copy(s, from) }

// Write is for copy.
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shown = append(s.shown, p...)
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
	return len(p), nil
}

func (s *screen) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.shown)
}

func (s *screen) text(from int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return plain(s.shown[from:])
}

// wait returns the text from an offset on, when it holds what is expected.
func (s *screen) wait(t testing.TB, from int, expected string) string {
	t.Helper()
	deadline := time.NewTimer(promptTimeout)
	defer deadline.Stop()
	for {
		s.mu.Lock()
		if s.changed == nil {
			s.changed = make(chan struct{})
		}
		text, changed := plain(s.shown[from:]), s.changed
		s.mu.Unlock()
		if strings.Contains(text, expected) {
			return text
		}
		select {
		case <-changed:
		case <-deadline.C:
			t.Fatalf("%q not on the screen after %s:\n%s", expected, promptTimeout, text)
		}
	}
}

// The last: what fish prints to learn whether the cursor stands at the beginning of a line.
var escapes = regexp.MustCompile("\x1b\\[[0-9;?>=]*[A-Za-z]|\x1b\\][^\x07\x1b]*(\x07|\x1b\\\\)|\x1b[()=>].?|\r|⏎ *")

func plain(shown []byte) string { return string(escapes.ReplaceAll(shown, nil)) }
