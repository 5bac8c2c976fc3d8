package ssh

import (
	"os"
	"strings"
	"sync"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/process"
)

// speech is what an ssh says, and what it means.
type speech struct {
	socket string    // of the master
	key    string    // the key file of the config
	ready  chan bool // gets a word when it has logged in: whether its socket is there

	mu     sync.Mutex
	said   process.Transcript
	locked string // a key that the server would take and ssh could not use
	up     bool
}

// line takes what ssh prints, as it comes. It is false for what is not for the log.
func (s *speech) line(line string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if words, ok := strings.CutPrefix(line, "debug1: "); ok {
		s.debug(words)
		return false
	}
	if strings.HasPrefix(line, "debug2: ") || strings.HasPrefix(line, "debug3: ") { // of the ssh to a jump host
		return false
	}
	if !chatter(line) {
		s.said.Add(line)
	}
	return true
}

// debug takes what ssh prints at DEBUG1.
func (s *speech) debug(words string) {
	switch {
	case words == "Entering interactive session.":
		s.entered()
	case strings.HasPrefix(words, "Server accepts key: "):
		s.locked, _, _ = strings.Cut(strings.TrimPrefix(words, "Server accepts key: "), " ")
	case strings.HasPrefix(words, "Authentications that can continue"):
		s.locked = "" // it was used, and not enough
	}
}

// entered is told that an ssh has logged in: the ssh to a jump host says so too, where the user's configuration has it
// say that much.
func (s *speech) entered() {
	_, err := os.Lstat(s.socket)
	if _, failed := s.said.LastContaining(noSocket); s.up || err != nil && !failed {
		return
	}
	s.up = err == nil && !s.imposter()
	if s.up {
		s.said.Reset()
	}
	select {
	case s.ready <- s.up:
	default:
	}
}

// imposter reports whether the host's key was not the one known. A configuration may have ssh go on; we do not.
func (s *speech) imposter() bool {
	_, is := s.said.LastContaining(changedKey)
	return is
}

// chatter reports whether a line tells nothing of a failure.
func chatter(line string) bool {
	for _, start := range []string{"Authenticated to ", "Transferred: ", "Bytes per second: ", "Warning: Permanently added "} {
		if strings.HasPrefix(line, start) {
			return true
		}
	}
	return false
}

// failure is why it ended, or is of no use, by what it said; otherwise as the words have it.
func (s *speech) failure(otherwise string) *forwarder.Failure {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.explain(); f != nil {
		return f
	}
	return &forwarder.Failure{Reason: otherwise}
}
