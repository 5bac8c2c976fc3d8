package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
)

// logJSON is a log line as --json prints it. Other programs depend on its names.
type logJSON struct {
	Time    string `json:"time"` // RFC 3339 in UTC; empty if the line has none
	Level   string `json:"level"`
	Service string `json:"service"`
	Run     string `json:"run"`
	Request string `json:"request"`
	Message string `json:"message"`
}

const jsonTimeLayout = "2006-01-02T15:04:05.000Z"

type linePrinter func(lines []namedLine, withNames bool) error

// newPrinter returns a function that prints lines: as JSON objects, or as text with control characters escaped, prefixed by the name of
// their log if withNames is set.
func (o outputFormat) newPrinter(w io.Writer) linePrinter {
	return func(lines []namedLine, withNames bool) error {
		b := bufio.NewWriter(w)
		for _, line := range lines {
			switch {
			case o.isJSON():
				if err := output.JSONLine(b, line.toJSON()); err != nil {
					return err
				}
			case withNames:
				fmt.Fprintf(b, "%s: %s\n", line.log, output.EscapeLine(line.localText()))
			default:
				fmt.Fprintln(b, output.EscapeLine(line.localText()))
			}
		}
		return b.Flush()
	}
}

// logTimeLayout is localTimeLayout with milliseconds. logfmtTimeLayout is for a value of logfmt, which has no blanks.
const (
	logTimeLayout    = "2006-01-02 15:04:05.000 -07:00"
	logfmtTimeLayout = "2006-01-02T15:04:05.000-07:00"
)

// localText returns the line with its time in the local zone.
func (l namedLine) localText() string {
	if l.TimeText == "" {
		return l.Raw
	}
	layout := logTimeLayout
	if strings.HasPrefix(l.Raw, "time=") {
		layout = logfmtTimeLayout
	}
	return strings.Replace(l.Raw, l.TimeText, l.Time.Local().Format(layout), 1)
}

func (l namedLine) toJSON() logJSON {
	return logJSON{
		Time: formatTime(l.Time), Level: strings.ToLower(l.Level.String()), Service: l.Service, Run: l.Run, Request: l.Request,
		Message: l.Text,
	}
}

func formatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(jsonTimeLayout)
}

// hasReaderClosed reports whether out is a pipe, a socket or a terminal whose reader is gone. A write would fail, but
// there may be nothing to write for hours.
func hasReaderClosed(out any) bool {
	file, ok := out.(*os.File)
	if !ok {
		return false
	}
	poll := []unix.PollFd{{Fd: int32(file.Fd())}}
	n, err := unix.Poll(poll, 0)
	return err == nil && n > 0 && poll[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0
}
