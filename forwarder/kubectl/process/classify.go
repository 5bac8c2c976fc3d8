package process

import (
	"fmt"
	"strings"

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
	switch {
	case f.Class == forwarder.Permanent:
		f.RecheckAfter = session.RecheckInterval
	case f.Class == forwarder.NeedsUser && !strings.Contains(f.Reason, loginHelperFailed): // a helper may open a browser each time
		f.MayPass = true
	}
	return f
}

// loginHelperFailed is in kubectl's message about a login helper.
const loginHelperFailed = "getting credentials: exec"

// missingContextPattern matches kubectl's messages about a context that the kubeconfig does not have.
var missingContextPattern = project.LazyRegexp(`context was not found|context ".*" does not exist`)

// exitRules returns the rules for kubectl's error messages. What only the user can fix comes first: it may be part of an "Unable to
// connect" message.
func exitRules(ref session.ResourceRef) []process.Rule {
	login := fmt.Sprintf("log in to the cluster, then test it with %q", ref.Command("get namespaces"))
	plugin := fmt.Sprintf("the login helper asks for input: run %q and answer it", ref.Command("get namespaces"))
	contexts := session.ResourceRef{Kubeconfig: ref.Kubeconfig}.Command("config get-contexts")
	describe := ref.NamespacedCommand("describe " + ref.Resource)
	pods := ref.NamespacedCommand("get pods")
	info := ref.Command("cluster-info")
	rights := ref.NamespacedCommand("auth can-i create pods/portforward")
	return []process.Rule{
		{Text: loginHelperFailed, Class: forwarder.NeedsUser, Hint: plugin},
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
