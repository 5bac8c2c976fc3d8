package session

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/localport-sh/localport/forwarder"
)

// classifyError gives a failure its class and the next step.
func classifyError(err error, server string, words ResourceRef) *forwarder.Failure {
	if failure, ok := errors.AsType[*forwarder.Failure](err); ok {
		return failure
	}
	if status, ok := asStatus(err); ok {
		return classifyRefusal(status, words)
	}
	f := &forwarder.Failure{Reason: describeUnreachable(err, server), Hint: "is the cluster up, and the network or VPN? To try: " + words.Command("cluster-info")}
	if text := err.Error(); strings.Contains(text, "x509: ") || strings.Contains(text, "tls: ") && strings.Contains(text, "certificate") {
		f.Class = forwarder.ByAttention
		f.Hint = "the certificates of the kubeconfig do not fit the server; log in to the cluster as you usually do; to try: " + words.Command("get namespaces")
	}
	return f
}

func classifyRefusal(status *StatusError, words ResourceRef) *forwarder.Failure {
	f := &forwarder.Failure{Reason: status.Error()}
	switch {
	case status.Code == http.StatusUnauthorized:
		f.Class = forwarder.ByAttention
		f.Hint = "log in to the cluster as you usually do, or with: localport login; to try: " + words.Command("get namespaces")
	case status.Code == http.StatusForbidden:
		f.Class = forwarder.ByAttention
		f.Hint = "ask for the right; to see what you may do: " + words.NamespacedCommand("auth can-i --list")
	case status.Code == http.StatusNotFound && status.Details.Kind == "namespaces":
		f.Class, f.Hint = forwarder.Permanent, words.Command("get namespaces")
	case status.Code == http.StatusNotFound:
		f.Class, f.Hint = forwarder.Permanent, words.NamespacedCommand("get "+words.PluralKind())
	case strings.Contains(status.Message, "error dialing backend"):
		f.Hint = "the node's kubelet cannot be reached; see: " + words.Command("get nodes")
	default:
		f.Hint = words.Command("cluster-info")
	}
	return f
}

// describeUnreachable says in few words why a server could not be asked.
func describeUnreachable(err error, server string) string {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return fmt.Sprintf("the API server %s cannot be resolved: %s: %s", server, dns.Name, dns.Err)
	}
	var timeout interface{ Timeout() bool }
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		return fmt.Sprintf("the API server %s does not answer", server)
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return fmt.Sprintf("the API server %s cannot be reached: %v", server, op.Err)
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	return fmt.Sprintf("the API server %s: %v", server, err)
}
