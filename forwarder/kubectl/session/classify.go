package session

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/kubectl/kubeconfig"
)

// classifyError makes a failure of an error: with a class, and a hint at the next step.
func classifyError(err error, server string, ref ResourceRef) *forwarder.Failure {
	if failure, ok := errors.AsType[*forwarder.Failure](err); ok {
		return failure
	}
	if status, ok := asStatus(err); ok {
		return classifyRefusal(status, ref)
	}
	if login, ok := errors.AsType[*kubeconfig.LoginError](err); ok {
		return classifyLogin(login, ref)
	}
	f := &forwarder.Failure{Reason: describeUnreachable(err, server), Hint: fmt.Sprintf("check the network or VPN, then test the server with %q", ref.Command("cluster-info"))}
	if text := err.Error(); strings.Contains(text, "x509: ") || strings.Contains(text, "tls: ") && strings.Contains(text, "certificate") {
		f.Class, f.MayPass = forwarder.NeedsUser, true
		f.Hint = fmt.Sprintf("the kubeconfig's certificates do not match the server; log in to the cluster again, then test it with %q", ref.Command("get namespaces"))
	}
	return f
}

// classifyLogin makes a failure of the login of the kubeconfig's auth provider. One that the network has caused is tried again by itself.
func classifyLogin(login *kubeconfig.LoginError, ref ResourceRef) *forwarder.Failure {
	f := &forwarder.Failure{
		Class: forwarder.NeedsUser, MayPass: true, Reason: login.Error(),
		Hint: fmt.Sprintf("log in to the cluster again; test it with %q", ref.Command("get namespaces")),
	}
	if network, ok := errors.AsType[net.Error](login); ok {
		f.Class, f.MayPass = forwarder.Transient, false
		f.Reason = fmt.Sprintf("user %q of %s has no valid ID token, and the identity provider cannot be reached: %v", login.User, login.File, network)
		f.Hint = "check the network or VPN; the identity provider is asked again by itself"
	}
	return f
}

// RecheckInterval is the time between looks for an object or a port that a cluster lacks: it may be deployed at any time.
const RecheckInterval = 30 * time.Second

func classifyRefusal(status *StatusError, ref ResourceRef) *forwarder.Failure {
	f := &forwarder.Failure{Reason: status.Error()}
	switch {
	case status.Code == http.StatusUnauthorized:
		f.Class, f.MayPass = forwarder.NeedsUser, true
		f.Hint = fmt.Sprintf("log in to the cluster again, or correct its user in the kubeconfig; test it with %q", ref.Command("get namespaces"))
	case status.Code == http.StatusForbidden:
		f.Class, f.MayPass = forwarder.NeedsUser, true
		f.Hint = ref.ListRightsHint()
	case status.Code == http.StatusNotFound && status.Details.Kind == "namespaces":
		f.Class, f.RecheckAfter, f.Hint = forwarder.Permanent, RecheckInterval, ref.Command("get namespaces")
	case status.Code == http.StatusNotFound:
		f.Class, f.RecheckAfter, f.Hint = forwarder.Permanent, RecheckInterval, ref.NamespacedCommand("get "+ref.PluralKind())
	case strings.Contains(status.Message, "error dialing backend"):
		f.Hint = fmt.Sprintf("the API server cannot reach the node's kubelet; check the node with %q", ref.Command("get nodes"))
	default:
		f.Hint = ref.Command("cluster-info")
	}
	return f
}

// describeUnreachable describes briefly why a request got no response.
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
