package process

import (
	"fmt"
	"strings"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/kubectl/session"
	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/project"
)

// classifyExit finds in its output why kubectl (1.27 to 1.33) ended; nil if it printed nothing.
func classifyExit(transcript *process.Transcript, ref session.ResourceRef) *forwarder.Failure {
	f := transcript.Classify(exitRules(ref))
	if f == nil {
		return nil
	}
	f.Reason = strings.TrimPrefix(f.Reason, "error: ")
	switch f.Class {
	case forwarder.Permanent:
		f.RecheckAfter = session.RecheckInterval
	case forwarder.NeedsUser:
		f.MayPass = true
	}
	return f
}

// What kubectl prints about a login helper: "Unable to connect to the server: getting credentials: exec: executable aws failed with exit
// code 1", after the same in log lines, and after what the helper itself printed. It runs the helper several times, and does so before it
// connects to the server.
const (
	gettingCredentials = "getting credentials: "
	withExitCode       = " failed with exit code "
)

// classifyLoginFailure finds in its output that a login helper failed for kubectl, and why; nil if none did. Another attempt might open a
// browser, so it is left to the user unless the network was the reason. running is how long kubectl has run.
func classifyLoginFailure(transcript *process.Transcript, ref session.ResourceRef, running time.Duration) *forwarder.Failure {
	line, isFailed := transcript.LastContaining(gettingCredentials)
	if !isFailed {
		return nil
	}
	_, reason, _ := strings.Cut(line, gettingCredentials)
	f := &forwarder.Failure{
		Class: forwarder.NeedsUser, Reason: "the login helper failed: " + strings.TrimPrefix(reason, "exec: "),
		Hint: fmt.Sprintf("run \"localport login\", or see its messages with %q", ref.Command("get namespaces")),
	}
	if !strings.Contains(reason, withExitCode) {
		return f
	}
	var helperLines []string
	runs := 0
	for _, line := range transcript.Lines() {
		if strings.Contains(line, gettingCredentials) {
			runs++
		} else {
			helperLines = append(helperLines, line)
		}
	}
	if n := len(helperLines); n > 0 {
		f.Reason += ": " + helperLines[n-1]
	}
	session.MarkNetworkError(f, helperLines, running/time.Duration(runs))
	return f
}

// missingContextPattern matches kubectl's messages about a context that the kubeconfig does not have.
var missingContextPattern = project.LazyRegexp(`context was not found|context ".*" does not exist`)

// exitRules returns the rules for kubectl's error messages. What only the user can fix comes first: it may be part of an "Unable to
// connect" message.
func exitRules(ref session.ResourceRef) []process.Rule {
	login := fmt.Sprintf("log in to the cluster, then test it with %q", ref.Command("get namespaces"))
	contexts := session.ResourceRef{Kubeconfig: ref.Kubeconfig}.Command("config get-contexts")
	describe := ref.NamespacedCommand("describe " + ref.Resource)
	pods := ref.NamespacedCommand("get pods")
	info := ref.Command("cluster-info")
	rights := ref.ForwardRightHint()
	return []process.Rule{
		{Text: "You must be logged in", Class: forwarder.NeedsUser, Hint: login},
		{Text: "(Unauthorized)", Class: forwarder.NeedsUser, Hint: login},
		{Text: "asked for the client to provide credentials", Class: forwarder.NeedsUser, Hint: login},
		{Text: "failed to refresh token", Class: forwarder.NeedsUser, Hint: login},
		{Text: "token has expired", Class: forwarder.NeedsUser, Hint: login},
		{Text: "x509: ", Class: forwarder.NeedsUser, Hint: login},
		{Text: "(Forbidden)", Class: forwarder.NeedsUser, Hint: rights},
		{Text: " is forbidden: ", Class: forwarder.NeedsUser, Hint: rights},

		{Text: "context was not found", Class: forwarder.Permanent, Hint: contexts},
		{Text: `" does not exist`, Class: forwarder.Permanent, Hint: contexts}, // context "x"
		{Text: `(NotFound): namespaces "`, Class: forwarder.Permanent, Hint: ref.Command("get namespaces")},
		{Text: "(NotFound)", Class: forwarder.Permanent, Hint: ref.NamespacedCommand("get " + ref.PluralKind())},
		{Text: "does not have a service port", Class: forwarder.Permanent, Hint: describe},
		{Text: "does not have a named port", Class: forwarder.Permanent, Hint: describe},
		{Text: "invalid service", Class: forwarder.Permanent, Hint: describe},
		{Text: "doesn't have a resource type", Class: forwarder.Permanent, Hint: ref.Command("api-resources")},
		{Text: "error loading config file", Class: forwarder.Permanent},
		{Text: "no such file or directory", Class: forwarder.Permanent},
		{Text: "unknown flag", Class: forwarder.Permanent},

		{Text: "an error occurred forwarding "},
		{Text: "Timeout occurred"},
		{Text: "pod is not running", Hint: pods},
		{Text: "timed out waiting for the condition", Hint: pods},
		{Text: "error upgrading connection"},
		{Text: " was refused", Hint: info},
		{Text: "Unable to connect to the server", Hint: info},
		{Text: "Error from server"},
		{Text: "lost connection to pod"},
		{Text: "error: "},
		{Text: "rror"},
		{Text: ""}, // any other message
	}
}
