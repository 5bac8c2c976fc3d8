package supervisor

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"strings"
	"time"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/eventlog"
	"github.com/localport-sh/localport/forwarder/handoff"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
)

// unknownDeath is the reason of a death of which neither the keeper nor the log knows more.
const unknownDeath = "the reason is not known"

// publishDeaths publishes the ends of supervisors that could not do so themselves: those that the keeper reports, and the one that the
// state records if it ended without its keeper. It is called before other goroutines use s.
func (s *Supervisor) publishDeaths(crashed *lockstate.Supervisor) {
	deaths := s.inherited.deaths
	if last := len(deaths) - 1; last >= 0 && s.inherited.handoffState.Terminated && !strings.HasPrefix(deaths[last].Reason, "killed") {
		deaths = deaths[:last] // it has left the project to its keeper, and reported that itself
	}
	if crashed != nil && len(deaths) == 0 && !s.inherited.handoffState.Terminated {
		deaths = []handoff.Death{{Supervisor: crashed.Process, Run: crashed.Run}}
	}
	for _, death := range deaths {
		reason := s.mask(describeDeath(death, s.dir.LogPath("supervisor")))
		s.log.Warn("the previous supervisor died", "pid", death.Supervisor.PID, "run", death.Run, "reason", reason)
		s.events.publish(eventlog.Event{Time: death.At, Kind: eventlog.SupervisorEnded, Run: death.Run, Reason: reason}, "")
		s.predecessorDeath = &api.SupervisorDeath{PID: death.Supervisor.PID, Run: death.Run, At: utcOrNil(death.At), Reason: reason}
	}
}

// describeDeath adds what the supervisor's log says of a crash to the keeper's reason.
func describeDeath(death handoff.Death, logPath string) string {
	reason := death.Reason
	if reason == "" || strings.HasPrefix(reason, "exit") { // the Go runtime exits with status 2 after it has written the reason
		var parts []string
		for _, part := range []string{reason, readCrash(logPath, death.Run)} {
			if part != "" {
				parts = append(parts, part)
			}
		}
		reason = strings.Join(parts, ": ")
	}
	if reason == "" {
		return unknownDeath
	}
	return reason
}

// crashPattern matches the first line that the Go runtime writes when it ends the program.
var crashPattern = project.LazyRegexp(`^(panic: |fatal error: |SIG[A-Z]+: )`)

// readCrash returns the first line of a crash that follows the last line which a run has logged; empty if there is none.
func readCrash(logPath, run string) string {
	const maxSize, maxLength = 1 << 20, 200
	file, err := os.Open(logPath)
	if err != nil {
		return ""
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && info.Size() > maxSize {
		_, _ = file.Seek(-maxSize, io.SeekEnd)
	}
	crash := ""
	scanner := bufio.NewScanner(file)
	scanner.Buffer(nil, maxSize)
	for scanner.Scan() {
		switch line := scanner.Bytes(); {
		case isLoggedBy(line, run):
			crash = ""
		case crash == "" && crashPattern().Match(line):
			crash = strings.TrimSpace(string(line[:min(len(line), maxLength)]))
		}
	}
	return crash
}

// isLoggedBy reports whether a run has logged a line. Lines of the keeper and of later runs may name it too.
func isLoggedBy(line []byte, run string) bool {
	_, rest, _ := bytes.Cut(line, []byte(" run="))
	return bytes.HasPrefix(line, []byte("time=")) && bytes.HasPrefix(rest, []byte(run)) && !bytes.Contains(line, []byte(" keeper="))
}

// describeSignal returns the signal that ended ctx, which is a signal.NotifyContext's: "signal: terminated".
func describeSignal(ctx context.Context) string {
	name, ok := strings.CutSuffix(context.Cause(ctx).Error(), " signal received")
	if !ok {
		return ""
	}
	return "signal: " + name
}

// eventTime returns the time of an event: now, unless it is set.
func eventTime(t time.Time) time.Time {
	if t.IsZero() {
		return time.Now()
	}
	return t
}
