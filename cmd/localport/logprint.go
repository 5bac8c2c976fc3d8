package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// logJSON is a line of a log for programs. It is stable.
type logJSON struct {
	Time    string `json:"time"` // RFC 3339, UTC; empty where the log says none
	Level   string `json:"level"`
	Service string `json:"service"`
	Run     string `json:"run"`
	Request string `json:"request"`
	Message string `json:"message"`
}

const jsonTime = "2006-01-02T15:04:05.000Z"

// printer prints lines as they stand, after their log's name where there are several; or as objects.
func (o outputFormat) printer(w io.Writer, named bool) func([]entryLine) error {
	return func(lines []entryLine) error {
		b := bufio.NewWriter(w)
		for _, line := range lines {
			switch {
			case o.json():
				printCompact(b, line.object())
			case named:
				fmt.Fprintf(b, "%s: %s\n", line.log, line.Raw)
			default:
				fmt.Fprintln(b, line.Raw)
			}
		}
		return b.Flush()
	}
}

func (l entryLine) object() logJSON {
	return logJSON{
		Time: written(l.Time), Level: strings.ToLower(l.Level.String()), Service: l.Service, Run: l.Run, Request: l.Request,
		Message: l.Text,
	}
}

func written(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(jsonTime)
}

// printCompact prints one object on one line. The error, if there is one, is the writer's to keep.
func printCompact(w *bufio.Writer, v any) {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(v)
}

// unread reports whether out is a pipe, a socket or a terminal that nobody reads any more. A write would say so, but
// there may be nothing to write for hours.
func unread(out any) bool {
	file, ok := out.(*os.File)
	if !ok {
		return false
	}
	poll := []unix.PollFd{{Fd: int32(file.Fd())}}
	n, err := unix.Poll(poll, 0)
	return err == nil && n > 0 && poll[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0
}
