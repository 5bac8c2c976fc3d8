package process

import (
	"strconv"
	"strings"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/kubectl/session"
	"github.com/localport-sh/localport/project"
)

// The output of kubectl 1.27 to 1.33.
var (
	forwardingLine = project.LazyRegexp(`^Forwarding from (127\.0\.0\.1:\d+) -> `)
	// klogHeader matches the header of the client library's log lines: "E1123 00:54:40.940754   23675 memcache.go:265] ".
	klogHeader = project.LazyRegexp(`^[IWEF]\d{4} [\d:.]+\s+\d+ [^\]]+\] `)
)

// parseListenAddr parses the line that says where kubectl listens.
func parseListenAddr(line string) (addr string, ok bool) {
	match := forwardingLine().FindStringSubmatch(line)
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
	text := strings.TrimSpace(klogHeader().ReplaceAllString(line, ""))
	if _, value, ok := strings.Cut(text, `err="`); ok {
		if quoted, err := strconv.QuotedPrefix(`"` + value); err == nil {
			text, _ = strconv.Unquote(quoted)
		}
	}
	return text
}

// parseRefusal parses the report of a connection that failed, which quotes the node's message.
func parseRefusal(message string) (forwarder.Refusal, bool) {
	if !strings.HasPrefix(message, "an error occurred forwarding ") {
		return forwarder.Refusal{}, false
	}
	return forwarder.Refusal{Reason: message, IsConnectFailure: session.IsConnectFailure(message)}, true
}

// cannotCreateStreams reports whether kubectl's connection to the API server is stuck: it stays alive but never works again.
func cannotCreateStreams(message string) bool {
	return strings.HasPrefix(message, "error creating ") && strings.Contains(message, "Timeout occurred")
}
