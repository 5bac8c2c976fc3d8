package process

import (
	"strings"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/kubectl/session"
	"github.com/localport-sh/localport/forwarder/process"
)

// explain finds why kubectl ended in what it said, as of 1.27 to 1.33.
func explain(said *process.Said, at session.Words) *forwarder.Failure {
	f := said.Explain(rules(at))
	if f == nil {
		return nil
	}
	f.Reason = strings.TrimPrefix(f.Reason, "error: ")
	return f
}

// rules begin with what only the user can mend: it may be said inside an "Unable to connect".
func rules(c session.Words) []process.Rule {
	login := "log in to the cluster as you usually do; to try: " + c.Kubectl("get namespaces")
	plugin := "the cluster's login helper wants you; to see what: " + c.Kubectl("get namespaces")
	contexts := session.Words{Kubeconfig: c.Kubeconfig}.Kubectl("config get-contexts")
	describe := c.Namespaced("describe " + c.Resource)
	pods := c.Namespaced("get pods")
	info := c.Kubectl("cluster-info")
	rights := c.Namespaced("auth can-i create pods/portforward")
	return []process.Rule{
		{Text: "getting credentials: exec", Class: forwarder.ByAttention, Hint: plugin},
		{Text: "You must be logged in", Class: forwarder.ByAttention, Hint: login},
		{Text: "(Unauthorized)", Class: forwarder.ByAttention, Hint: login},
		{Text: "asked for the client to provide credentials", Class: forwarder.ByAttention, Hint: login},
		{Text: "failed to refresh token", Class: forwarder.ByAttention, Hint: login},
		{Text: "token has expired", Class: forwarder.ByAttention, Hint: login},
		{Text: "x509: ", Class: forwarder.ByAttention, Hint: login},
		{Text: "(Forbidden)", Class: forwarder.ByAttention, Hint: rights},
		{Text: " is forbidden: ", Class: forwarder.ByAttention, Hint: rights},

		{Text: "context was not found", Class: forwarder.Permanent, Hint: contexts},
		{Text: `" does not exist`, Class: forwarder.Permanent, Hint: contexts}, // context "x"
		{Text: `(NotFound): namespaces "`, Class: forwarder.Permanent, Hint: c.Kubectl("get namespaces")},
		{Text: "(NotFound)", Class: forwarder.Permanent, Hint: c.Namespaced("get " + c.Kind())},
		{Text: "does not have a service port", Class: forwarder.Permanent, Hint: describe},
		{Text: "does not have a named port", Class: forwarder.Permanent, Hint: describe},
		{Text: "invalid service", Class: forwarder.Permanent, Hint: describe},
		{Text: "doesn't have a resource type", Class: forwarder.Permanent, Hint: c.Kubectl("api-resources")},
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
		{Text: ""}, // whatever it was
	}
}
