package process

import (
	"bufio"
	"io"
	"os"
	"slices"
	"sync"
	"time"
)

// Stream is where a line was printed.
type Stream int

// The streams of a child.
const (
	Stdout Stream = 1
	Stderr Stream = 2
)

// MaxLine is where a line is cut, in bytes; the rest of the line is dropped.
const MaxLine = 8 << 10

// lastWords is how many lines are kept for the case that the child ends.
const lastWords = 8

// lines hands over what a child prints, and remembers the end of it.
type lines struct {
	mu   sync.Mutex
	take func(Stream, string)
	last []string
}

// pump reads until the end of file, or until its deadline.
func (l *lines) pump(from Stream, r io.Reader) {
	reader := bufio.NewReaderSize(r, MaxLine)
	for {
		line, more, err := reader.ReadLine()
		if err != nil {
			return
		}
		l.took(from, string(line))
		for more && err == nil {
			_, more, err = reader.ReadLine()
		}
	}
}

func (l *lines) took(from Stream, line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if line != "" {
		if len(l.last) == lastWords {
			l.last = slices.Delete(l.last, 0, 1)
		}
		l.last = append(l.last, line)
	}
	if l.take != nil {
		l.take(from, line)
	}
}

// pumps are the two readers of a child's output.
type pumps struct {
	files []*os.File
	wg    sync.WaitGroup
}

// finish returns when the output has been read to its end; soon, also when a process that left the group holds it.
func (p *pumps) finish() {
	deadline := time.Now().Add(drainLimit)
	for _, file := range p.files {
		_ = file.SetReadDeadline(deadline)
	}
	p.wg.Wait()
	for _, file := range p.files {
		file.Close()
	}
}
