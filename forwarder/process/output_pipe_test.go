package process

import (
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

// expiredPipe returns a pipe that its reader reads from after its deadline.
func expiredPipe(t *testing.T) (reader, writer *os.File) {
	t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reader.Close(); writer.Close() })
	if err := reader.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	return reader, writer
}

// The child has exited, and the machine was too busy to read its output before the deadline. Another process keeps the pipe open.
func TestReadLines_OutputInThePipeIsReadAfterTheDeadline(t *testing.T) {
	reader, writer := expiredPipe(t)
	want := strings.Repeat("a line\n", 9000) + "Permission denied"
	if _, err := io.WriteString(writer, want); err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	lines := lineReader{onLines: func(_ Stream, text []byte) { got.Write(text) }}
	lines.readLines(Stderr, newOutputPipe(reader))
	if got.String() != want {
		t.Errorf("%d bytes of %d were read", got.Len(), len(want))
	}
	if last := lines.lastLines; len(last) == 0 || last[len(last)-1] != "Permission denied" {
		t.Errorf("the last lines are %q", last)
	}
}

func TestReadLines_EndsAfterTheDeadlineThoughAProcessPrintsWithoutEnd(t *testing.T) {
	reader, writer := expiredPipe(t)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		text := []byte(strings.Repeat("y\n", 2048))
		for {
			if _, err := writer.Write(text); err != nil {
				return
			}
		}
	}()
	size := 0
	lines := lineReader{onLines: func(_ Stream, text []byte) { size += len(text) }}
	lines.readLines(Stdout, newOutputPipe(reader))
	if size > maxPipeBytes+readBufferBytes {
		t.Errorf("%d bytes were read", size)
	}
	reader.Close()
	<-ended
}
