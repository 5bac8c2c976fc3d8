package process

import (
	"bufio"
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
	lastLines []string
}

// readLines reads until the end of the file, or until its read deadline.
func (l *lineReader) readLines(stream Stream, r io.Reader) {
	reader := bufio.NewReaderSize(r, maxLineBytes)
	for {
		line, isPrefix, err := reader.ReadLine()
		if err != nil {
			return
		}
		l.handleLine(stream, string(line))
		for isPrefix && err == nil {
			_, isPrefix, err = reader.ReadLine()
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
