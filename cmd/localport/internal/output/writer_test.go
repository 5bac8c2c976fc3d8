package output

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
)

// The descriptors of os.Pipe do not block: a write that the pipe cannot take at once waits for the reader.
func TestWriter_WaitsForTheReaderOfAPipe(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	text := []byte(strings.Repeat("0123456789\n", 100_000))
	received := make(chan []byte, 1)
	go func() {
		data, _ := io.ReadAll(reader)
		received <- data
	}()
	w := NewWriter(writer)
	if n, err := w.Write(text); n != len(text) || err != nil {
		t.Errorf("wrote %d bytes of %d: %v", n, len(text), err)
	}
	writer.Close()
	if data := <-received; !bytes.Equal(data, text) {
		t.Errorf("received %d bytes of %d", len(data), len(text))
	}
}

func TestWriter_KeepsTheErrorOfABrokenPipe(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	reader.Close()
	w := NewWriter(writer)
	_, _ = w.Write([]byte("a"))
	var pathErr *os.PathError
	if err := w.Err(); !errors.Is(err, syscall.EPIPE) || !errors.As(err, &pathErr) || pathErr.Op != "write" || w.HasWritten() {
		t.Errorf("got %v", err)
	}
}
