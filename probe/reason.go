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

// maxReason is the length of a reason in bytes: a server can put megabytes into its error.
const maxReason = 1 << 10

func truncate(text string) string {
	if len(text) <= maxReason {
		return text
	}
	return strings.ToValidUTF8(text[:maxReason], "") + "…"
}

// JoinLines returns text of several lines as one line, of at most maxReason bytes.
func JoinLines(text string) string {
	if !strings.ContainsAny(text, "\r\n") {
		return truncate(text)
	}
	var lines []string
	for line := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == '\n' || r == '\r' }) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return truncate(strings.Join(lines, "; "))
}

// cause returns what a system call returned, without the call's name.
func cause(err error) error {
	if call, ok := errors.AsType[*os.SyscallError](err); ok {
		return call.Err
	}
	return err
}
