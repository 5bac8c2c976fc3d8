package process

import (
	"bytes"
	"io"
	"os"
	"slices"
	"sync"
	"time"
)

// Stream is the output that a line was printed on.
type Stream int

// The streams of a child.
const (
	Stdout Stream = 1
	Stderr Stream = 2
)

// maxLineBytes is the length at which a line is truncated.
const maxLineBytes = 8 << 10

// maxLastLines is how many lines LastLines returns at most.
const maxLastLines = 8

// lineReader delivers a child's output, line by line or all lines that were read at once, and keeps the last lines.
type lineReader struct {
	mu        sync.Mutex
	onLine    func(Stream, string)
	onRead    func()
	onLines   func(Stream, []byte)
	lastLines []string
}

// readBufferBytes is how much of a child's output is read at once.
const readBufferBytes = 64 << 10

// readLines reads until the end of the file, or until its read deadline. What one read returns is handled at once: a program that prints short
// lines costs little more than one that prints long ones.
func (l *lineReader) readLines(stream Stream, r io.Reader) {
	buffer := make([]byte, readBufferBytes)
	used := 0            // the bytes at the start of buffer are those of a line that has not ended
	isTruncated := false // that line is longer than maxLineBytes, and the rest of it is ignored
	for {
		n, err := r.Read(buffer[used:])
		data := buffer[:used+n]
		if isTruncated && n > 0 {
			rest := data[used:]
			end := bytes.IndexByte(rest, '\n')
			if end < 0 {
				end = len(rest)
			} else {
				isTruncated = false
			}
			data = append(data[:used], rest[end:]...)
		}
		complete := bytes.LastIndexByte(data, '\n') + 1
		l.handleLines(stream, data[:complete])
		used = copy(buffer, data[complete:])
		if used > maxLineBytes {
			used, isTruncated = maxLineBytes, true
		}
		if err != nil {
			l.handleLines(stream, buffer[:used])
			return
		}
	}
}

// handleLines handles lines, which it may change. Only the last line of the output may lack its line end.
func (l *lineReader) handleLines(stream Stream, lines []byte) {
	if len(lines) == 0 {
		return
	}
	lines = truncateLines(lines)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keepLast(lines)
	if l.onLines != nil {
		l.onLines(stream, lines)
		return
	}
	if l.onLine != nil {
		for line := range bytes.Lines(lines) {
			l.onLine(stream, string(trimLineEnd(line)))
		}
	}
	if l.onRead != nil {
		l.onRead()
	}
}

// truncateLines removes in place what lines have beyond maxLineBytes.
func truncateLines(lines []byte) []byte {
	done := 0 // the lines before are short enough
	for len(lines)-done > maxLineBytes {
		if last := bytes.LastIndexByte(lines[done:done+maxLineBytes+1], '\n'); last >= 0 {
			done += last + 1
			continue
		}
		done += maxLineBytes
		end := bytes.IndexByte(lines[done:], '\n')
		lines = append(lines[:done], lines[done+end:]...)
		done++
	}
	return lines
}

// keepLast adds the last of some lines to lastLines, without empty ones.
func (l *lineReader) keepLast(lines []byte) {
	var found []string // newest first
	for len(lines) > 0 && len(found) < maxLastLines {
		lines = bytes.TrimRight(lines, "\r\n")
		start := bytes.LastIndexByte(lines, '\n') + 1
		if start < len(lines) {
			found = append(found, string(lines[start:]))
		}
		lines = lines[:start]
	}
	if excess := len(l.lastLines) + len(found) - maxLastLines; excess > 0 {
		l.lastLines = slices.Delete(l.lastLines, 0, excess)
	}
	slices.Reverse(found)
	l.lastLines = append(l.lastLines, found...)
}

// trimLineEnd removes the line end, which may be that of Windows.
func trimLineEnd(line []byte) []byte {
	line, isEnded := bytes.CutSuffix(line, []byte("\n"))
	if isEnded {
		line = bytes.TrimSuffix(line, []byte("\r"))
	}
	return line
}

// LogBuffer collects lines of a child, in OnLine, and writes those that were read at once to a log in one piece, in OnRead.
type LogBuffer struct {
	w     io.Writer
	lines []byte
}

// NewLogBuffer makes a LogBuffer of a log.
func NewLogBuffer(w io.Writer) *LogBuffer { return &LogBuffer{w: w} }

// Add adds a line, which has no line end.
func (b *LogBuffer) Add(line string) { b.lines = append(append(b.lines, line...), '\n') }

// Flush writes the lines.
func (b *LogBuffer) Flush() {
	if len(b.lines) == 0 {
		return
	}
	_, _ = b.w.Write(b.lines) // a log reports its own errors
	b.lines = b.lines[:0]
	if cap(b.lines) > 2*readBufferBytes {
		b.lines = nil
	}
}

// outputReaders are the goroutines that read a child's stdout and stderr.
type outputReaders struct {
	files []*os.File
	wg    sync.WaitGroup
}

// drain waits until the output has been read to its end, or, after drainTimeout, until what is in the pipes has been read, and closes the files.
func (r *outputReaders) drain() {
	deadline := time.Now().Add(drainTimeout)
	for _, file := range r.files {
		_ = file.SetReadDeadline(deadline)
	}
	r.wg.Wait()
	for _, file := range r.files {
		file.Close()
	}
}
