package probe

import (
	"errors"
	"net"
	"os"
	"strings"
)

// Reason returns the text of a check's error as one line. Package net puts the addresses of both ends before each of its errors; they
// are left out, because here they are those of the tunnel's private endpoint, which no user knows.
func Reason(err error) string {
	text := err.Error()
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Err != nil {
		text = strings.ReplaceAll(text, op.Error(), cause(op.Err).Error())
	}
	return JoinLines(text)
}

// JoinLines returns text of several lines as one line.
func JoinLines(text string) string {
	if !strings.ContainsAny(text, "\r\n") {
		return text
	}
	var lines []string
	for line := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == '\n' || r == '\r' }) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}

// cause returns what a system call returned, without the call's name.
func cause(err error) error {
	if call, ok := errors.AsType[*os.SyscallError](err); ok {
		return call.Err
	}
	return err
}
