package process

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/localport-sh/localport/forwarder"
)

// What kubectl prints, as of 1.27 to 1.33.
var (
	forwardingLine = regexp.MustCompile(`^Forwarding from (127\.0\.0\.1:\d+) -> `)
	// klogHeader is the head of a line of the client library's own log: "E1123 00:54:40.940754   23675 memcache.go:265] ".
	klogHeader = regexp.MustCompile(`^[IWEF]\d{4} [\d:.]+\s+\d+ [^\]]+\] `)
)

// parseListenAddr reads the line that says where kubectl listens.
func parseListenAddr(line string) (addr string, ok bool) {
	match := forwardingLine.FindStringSubmatch(line)
	if match == nil {
		return "", false
	}
	return match[1], true
}

// isHandlingLine reports whether a line only says that there is a connection.
func isHandlingLine(line string) bool { return strings.HasPrefix(line, "Handling connection for ") }

// messageText is a line without the dress of the log that it was printed by. Since 1.31 an error is a quoted value there,
// and one of several lines is indented.
func messageText(line string) string {
	text := strings.TrimSpace(klogHeader.ReplaceAllString(line, ""))
	if _, value, ok := strings.Cut(text, `err="`); ok {
		if quoted, err := strconv.QuotedPrefix(`"` + value); err == nil {
			text, _ = strconv.Unquote(quoted)
		}
	}
	return text
}

// parseRefusal reads the report of a connection that failed. Only these three say that nothing of it reached the pod.
func parseRefusal(message string) (forwarder.Refusal, bool) {
	if !strings.HasPrefix(message, "an error occurred forwarding ") {
		return forwarder.Refusal{}, false
	}
	lower := strings.ToLower(message)
	connect := strings.Contains(lower, "connection refused") ||
		strings.Contains(lower, "failed to find sandbox") ||
		strings.Contains(lower, "network namespace for sandbox") && strings.Contains(lower, "is closed")
	return forwarder.Refusal{Reason: message, Connect: connect && !isTransferError(lower)}, true
}

// isTransferError reports whether it was reading or writing that failed: an error text of the far side may say anything.
func isTransferError(lower string) bool {
	return strings.Contains(lower, "read tcp") || strings.Contains(lower, "write tcp") ||
		strings.Contains(lower, "error copying")
}

// cannotCreateStreams reports whether kubectl says that it cannot make streams any more. It would stay, and never work again.
func cannotCreateStreams(message string) bool {
	return strings.HasPrefix(message, "error creating ") && strings.Contains(message, "Timeout occurred")
}
