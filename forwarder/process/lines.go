package process

import (
	"bufio"
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

// lineReader delivers a child's output line by line, and keeps the last lines.
type lineReader struct {
	mu        sync.Mutex
	onLine    func(Stream, string)
	onRead    func()
	lastLines []string
}

// readBufferBytes is how much of a child's output is read at once.
const readBufferBytes = 64 << 10

// readLines reads until the end of the file, or until its read deadline.
func (l *lineReader) readLines(stream Stream, r io.Reader) {
	reader := bufio.NewReaderSize(r, readBufferBytes)
	defer l.handleRead()
	for {
		line, isPrefix, err := reader.ReadLine()
		if err != nil {
			return
		}
		l.handleLine(stream, string(line[:min(len(line), maxLineBytes)]))
		for isPrefix && err == nil {
			_, isPrefix, err = reader.ReadLine()
		}
		if buffered, _ := reader.Peek(reader.Buffered()); bytes.IndexByte(buffered, '\n') < 0 {
			l.handleRead()
		}
	}
}

func (l *lineReader) handleLine(stream Stream, line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if line != "" {
		if len(l.lastLines) == maxLastLines {
			l.lastLines = slices.Delete(l.lastLines, 0, 1)
		}
		l.lastLines = append(l.lastLines, line)
	}
	if l.onLine != nil {
		l.onLine(stream, line)
	}
}

// handleRead handles that all lines of what was read have been handled.
func (l *lineReader) handleRead() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.onRead != nil {
		l.onRead()
	}
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

// drain waits until the output has been read to its end, at most drainTimeout, and closes the files.
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
