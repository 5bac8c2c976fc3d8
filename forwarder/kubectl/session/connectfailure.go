package session

import "strings"

// IsConnectFailure reports whether a node's message about a forwarded connection says that the connect in the pod failed, so that none
// of the client's bytes have been sent. The messages are those of container runtimes. One about a read or a write comes after
// the connect, and may quote "connection refused" from elsewhere.
func IsConnectFailure(message string) bool {
	message = strings.ToLower(message)
	contains := func(text string) bool { return strings.Contains(message, text) }
	if contains("read tcp") || contains("write tcp") || contains("error copying") {
		return false
	}
	return contains("connection refused") || contains("failed to find sandbox") || contains("failed to connect to localhost") ||
		contains("network namespace for sandbox") && contains("is closed") || contains("sandbox container") && contains("is not running")
}
