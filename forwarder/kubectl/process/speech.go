package process

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/localport-sh/localport/forwarder"
)

// What kubectl prints, as of 1.27 to 1.33.
var (
	forwarding = regexp.MustCompile(`^Forwarding from (127\.0\.0\.1:\d+) -> `)
	// klog is the head of a line of the client library's own log: "E1123 00:54:40.940754   23675 memcache.go:265] ".
	klog = regexp.MustCompile(`^[IWEF]\d{4} [\d:.]+\s+\d+ [^\]]+\] `)
)

// listening reads the line that says where kubectl listens.
func listening(line string) (addr string, ok bool) {
	match := forwarding.FindStringSubmatch(line)
	if match == nil {
		return "", false
	}
	return match[1], true
}

// handling reports whether a line only says that there is a connection.
func handling(line string) bool { return strings.HasPrefix(line, "Handling connection for ") }

// plain is a line without the dress of the log that it was printed by. Since 1.31 an error is a quoted value there,
// and one of several lines is indented.
func plain(line string) string {
	words := strings.TrimSpace(klog.ReplaceAllString(line, ""))
	if _, value, ok := strings.Cut(words, `err="`); ok {
		if quoted, err := strconv.QuotedPrefix(`"` + value); err == nil {
			words, _ = strconv.Unquote(quoted)
		}
	}
	return words
}

// refused reads the report of a connection that failed. Only these three say that nothing of it reached the pod.
func refused(words string) (forwarder.Refusal, bool) {
	if !strings.HasPrefix(words, "an error occurred forwarding ") {
		return forwarder.Refusal{}, false
	}
	lower := strings.ToLower(words)
	connect := strings.Contains(lower, "connection refused") ||
		strings.Contains(lower, "failed to find sandbox") ||
		strings.Contains(lower, "network namespace for sandbox") && strings.Contains(lower, "is closed")
	return forwarder.Refusal{Reason: words, Connect: connect && !transfer(lower)}, true
}

// transfer reports whether it was reading or writing that failed: an error text of the far side may say anything.
func transfer(lower string) bool {
	return strings.Contains(lower, "read tcp") || strings.Contains(lower, "write tcp") ||
		strings.Contains(lower, "error copying")
}

// hopeless reports whether kubectl says that it cannot make streams any more. It would stay, and never work again.
func hopeless(words string) bool {
	return strings.HasPrefix(words, "error creating ") && strings.Contains(words, "Timeout occurred")
}
