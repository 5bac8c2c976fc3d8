package eventlog

import (
	"bytes"
	"time"
)

// The limits of short lines.
const (
	linesPerSecond = 20_000
	maxLineBurst   = 100_000 // after a time without output, lines are written without a limit up to here
	// shortLineBytes: lines are not limited as long as the lines that are read at once have on average this many bytes.
	shortLineBytes = 64
	minKeptLines   = 20 // the last lines of one read are always written: they may say why a program ends
)

// lineLimit limits the number of lines that a run may write to its log, with a token bucket. Its zero value is ready for use.
type lineLimit struct {
	spent     float64 // tokens of maxLineBurst, at updatedAt
	updatedAt time.Time
}

// apply returns how many whole lines at the beginning exceed the limit and are omitted, and the lines that are kept.
func (l *lineLimit) apply(now time.Time, lines []byte) (omitted int, kept []byte) {
	count := bytes.Count(lines, []byte("\n"))
	free := max(minKeptLines, len(lines)/shortLineBytes)
	if count <= free {
		return 0, lines
	}
	l.spent = max(0, l.spent-now.Sub(l.updatedAt).Seconds()*linesPerSecond)
	l.updatedAt = now
	allowed := free + int(maxLineBurst-l.spent)
	if count <= allowed {
		l.spent += float64(count - free)
		return 0, lines
	}
	l.spent = maxLineBurst
	return count - allowed, lastLines(lines, allowed)
}

// lastLines returns the last n of some whole lines.
func lastLines(lines []byte, n int) []byte {
	start := len(lines)
	for range n {
		if start == 0 {
			return lines
		}
		start = bytes.LastIndexByte(lines[:start-1], '\n') + 1
	}
	return lines[start:]
}
