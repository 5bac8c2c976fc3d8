package process

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/localport-sh/localport/forwarder"
)

// The output of kubectl 1.27 to 1.33.
var (
	forwardingLine = regexp.MustCompile(`^Forwarding from (127\.0\.0\.1:\d+) -> `)
	// klogHeader matches the header of the client library's log lines: "E1123 00:54:40.940754   23675 memcache.go:265] ".
	klogHeader = regexp.MustCompile(`^[IWEF]\d{4} [\d:.]+\s+\d+ [^\]]+\] `)
)

// parseListenAddr parses the line that says where kubectl listens.
func parseListenAddr(line string) (addr string, ok bool) {
	match := forwardingLine.FindStringSubmatch(line)
	if match == nil {
		return "", false
	}
	return match[1], true
}

// isHandlingLine reports whether a line only announces a connection.
func isHandlingLine(line string) bool { return strings.HasPrefix(line, "Handling connection for ") }

// messageText returns a line without its log format. Since 1.31 an error is a quoted attribute of a log line; an error of several
// lines is indented.
func messageText(line string) string {
	text := strings.TrimSpace(klogHeader.ReplaceAllString(line, ""))
	if _, value, ok := strings.Cut(text, `err="`); ok {
		if quoted, err := strconv.QuotedPrefix(`"` + value); err == nil {
			text, _ = strconv.Unquote(quoted)
		}
	}
	return text
}

// parseRefusal parses the report of a connection that failed. Only these three messages mean that none of the client's bytes
// reached the pod.
func parseRefusal(message string) (forwarder.Refusal, bool) {
	if !strings.HasPrefix(message, "an error occurred forwarding ") {
		return forwarder.Refusal{}, false
	}
	lower := strings.ToLower(message)
	connect := strings.Contains(lower, "connection refused") ||
		strings.Contains(lower, "failed to find sandbox") ||
		strings.Contains(lower, "network namespace for sandbox") && strings.Contains(lower, "is closed")
	return forwarder.Refusal{Reason: message, IsConnectFailure: connect && !isTransferError(lower)}, true
}

// isTransferError reports whether a read or write failed after the connect: the message may then quote "connection refused" from
// elsewhere.
func isTransferError(lower string) bool {
	return strings.Contains(lower, "read tcp") || strings.Contains(lower, "write tcp") ||
		strings.Contains(lower, "error copying")
}

// cannotCreateStreams reports whether kubectl's connection to the API server is stuck: it stays alive but never works again.
func cannotCreateStreams(message string) bool {
	return strings.HasPrefix(message, "error creating ") && strings.Contains(message, "Timeout occurred")
}
