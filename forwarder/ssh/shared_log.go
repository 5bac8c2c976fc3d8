package ssh

import (
	"io"
	"sync"
)

// maxSharedLines is how many of a master's last lines are kept for services that start to use it later.
const maxSharedLines = 50

// sharedLog writes the output of a destination's masters to the log of every service that uses one. The log of a service that starts to use a
// running master gets what that has printed before.
type sharedLog struct {
	mu        sync.Mutex
	writers   map[io.Writer]*logUser
	lines     []string       // the last lines of the last master that was started
	count     int            // of all lines of all masters; the number of the last one in lines
	delivered map[string]int // by service: the number of the last line that is in its log
}

// logUser is the user of a log: the service that it belongs to, and how many of its tunnels have it.
type logUser struct {
	service string
	tunnels int
}

// addWriter adds the log of a service that is about to use a master.
func (l *sharedLog) addWriter(service string, w io.Writer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.writers == nil {
		l.writers, l.delivered = make(map[io.Writer]*logUser), make(map[string]int)
	}
	if l.writers[w] == nil {
		l.writers[w] = &logUser{service: service}
	}
	l.writers[w].tunnels++
	first := l.count - len(l.lines) // the number of the line before lines[0]
	missing := l.lines[max(0, min(l.delivered[service]-first, len(l.lines))):]
	if len(missing) > 0 {
		_, _ = io.WriteString(w, "output of the shared ssh so far:\n")
	}
	for _, line := range missing {
		_, _ = io.WriteString(w, line+"\n")
	}
	l.delivered[service] = l.count
}

func (l *sharedLog) removeWriter(w io.Writer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if user := l.writers[w]; user != nil {
		if user.tunnels--; user.tunnels == 0 {
			delete(l.writers, w)
		}
	}
}

// startMaster forgets the lines of the master before.
func (l *sharedLog) startMaster() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = nil
}

func (l *sharedLog) writeLine(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lines) == maxSharedLines {
		l.lines = append([]string(nil), l.lines[1:]...)
	}
	l.lines = append(l.lines, line)
	l.count++
	for w, user := range l.writers {
		_, _ = io.WriteString(w, line+"\n")
		l.delivered[user.service] = l.count
	}
}
