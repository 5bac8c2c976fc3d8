package process

import (
	"strings"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/kubectl/session"
	"github.com/localport-sh/localport/forwarder/process"
)

var testRef = session.ResourceRef{Resource: "service/x", Location: session.Location{Context: "c", Namespace: "ns"}, Service: "db"}

// readTranscript is the transcript of a kubectl that has printed text.
func readTranscript(text string) *process.Transcript {
	var transcript process.Transcript
	for line := range strings.Lines(text) {
		transcript.Add(messageText(strings.TrimRight(line, "\n")))
	}
	return &transcript
}

// The output of kubectl 1.27 to 1.33.
func TestClassifyExit_EveryKnownMessage(t *testing.T) {
	tests := []struct {
		transcript string
		class      forwarder.Class
		reason     string // "": the line itself
		hint       string // part of it
	}{
		{`Error from server (NotFound): services "x" not found`, forwarder.Permanent, "", "get services -n ns --context c"},
		{`Error from server (NotFound): pods "x" not found`, forwarder.Permanent, "", "get services -n ns"},
		{`Error from server (NotFound): namespaces "x" not found`, forwarder.Permanent, "", "get namespaces --context c"},
		{
			`error: Service x does not have a service port 99`, forwarder.Permanent,
			"Service x does not have a service port 99", "describe service/x",
		},
		{
			`error: cannot attach to *v1.Service: invalid service 'x': Service is defined without a selector`,
			forwarder.Permanent,
			"cannot attach to *v1.Service: invalid service 'x': Service is defined without a selector", "describe",
		},
		{
			`Error in configuration: context was not found for specified context: c`, forwarder.Permanent,
			"", "kubectl config get-contexts",
		},
		{`error: context "nope" does not exist`, forwarder.Permanent, `context "nope" does not exist`, "get-contexts"},
		{`error: the server doesn't have a resource type "nosuch"`, forwarder.Permanent, `the server doesn't have a resource type "nosuch"`, "api-resources"},
		{
			`error: You must be logged in to the server (Unauthorized)`, forwarder.NeedsUser,
			"You must be logged in to the server (Unauthorized)", "log in to the cluster",
		},
		{
			`Error from server (Forbidden): pods "x" is forbidden: User "u" cannot create resource "pods/portforward"`,
			forwarder.NeedsUser, "", `ask the cluster's administrator for permission; test yours with "kubectl auth can-i create pods/portforward -n ns --context c"; once you have it, run "localport restart db"`,
		},
		{
			"Unable to connect to the server: tls: failed to verify certificate: x509: certificate has expired",
			forwarder.NeedsUser, "", "log in to the cluster",
		},
		{
			"error: unable to forward port because pod is not running. Current status=Pending", forwarder.Transient,
			"unable to forward port because pod is not running. Current status=Pending", "get pods",
		},
		{"error: timed out waiting for the condition", forwarder.Transient, "timed out waiting for the condition", "get pods"},
		{"error: lost connection to pod", forwarder.Transient, "lost connection to pod", ""},
		{"The connection to the server 127.0.0.1:1 was refused - did you specify the right host or port?", forwarder.Transient, "", "cluster-info"},
		{"Unable to connect to the server: dial tcp: lookup h: no such host", forwarder.Transient, "", "cluster-info"},
		{
			"error: error upgrading connection: error dialing backend: dial tcp 10.0.0.1:10250: i/o timeout",
			forwarder.Transient,
			"error upgrading connection: error dialing backend: dial tcp 10.0.0.1:10250: i/o timeout", "",
		},
		{
			"Handling this and that\nE1123 00:54:40.940754   23675 memcache.go:265] \"Unhandled Error\" err=\"couldn't get " +
				"current server API group list: Get \\\"https://h/api\\\": dial tcp: connection refused\"\n" +
				"The connection to the server h was refused - did you specify the right host or port?",
			forwarder.Transient, "The connection to the server h was refused - did you specify the right host or port?", "",
		},
		{
			"E1123 00:54:41.07   23687 portforward.go:409] an error occurred forwarding 1 -> 2: error forwarding port 2 to " +
				"pod p, uid : exit status 1: Connection refused\nerror: lost connection to pod",
			forwarder.Transient,
			"an error occurred forwarding 1 -> 2: error forwarding port 2 to pod p, uid : exit status 1: Connection refused", "",
		},
		{"error: what nobody has seen\nsome explanation", forwarder.Transient, "what nobody has seen", ""},
		{"just words", forwarder.Transient, "", ""},
	}
	for _, tt := range tests {
		got := classifyExit(readTranscript(tt.transcript), testRef)
		if f := classifyLoginFailure(readTranscript(tt.transcript), testRef, 0); f != nil {
			t.Errorf("%s\nfor a login helper: %+v", tt.transcript, f)
		}
		if tt.reason == "" {
			tt.reason = tt.transcript
		}
		if got.Class != tt.class || got.Reason != tt.reason {
			t.Errorf("%s\ngot class %v, %q", tt.transcript, got.Class, got.Reason)
		}
		if !strings.Contains(got.Hint, tt.hint) {
			t.Errorf("%s\nhint %q, want %q", tt.transcript, got.Hint, tt.hint)
		}
	}
}

// kubectl runs a login helper up to six times, whose lines come before each of its own. "Unable to connect to the server" is not true: it
// has not tried to.
func TestClassifyLoginFailure_TellsNetworkErrorsFromOthers(t *testing.T) {
	const last = "Unable to connect to the server: getting credentials: exec: executable /bin/aws failed with exit code 255"
	log := `E1123 00:54:40.940754   23675 memcache.go:265] "Unhandled Error" err="couldn't get current server API group list: Get \"https://h/api?timeout=32s\": ` +
		`getting credentials: exec: executable /bin/aws failed with exit code 255"` + "\n"
	run := func(words string) string { return words + "\n" + log + words + "\n" + log + words + "\n" + last }
	const failed = "the login helper failed: executable /bin/aws failed with exit code 255"
	for _, tt := range []struct {
		transcript string
		running    time.Duration
		class      forwarder.Class
		reason     string
	}{
		{last, 0, forwarder.NeedsUser, failed},
		{run("Token has expired and refresh failed"), 0, forwarder.NeedsUser, failed + ": Token has expired and refresh failed"},
		{run(`Could not connect to the endpoint URL: "https://sts.amazonaws.com/"`), time.Second, forwarder.Transient, failed + `: Could not connect to the endpoint URL: "https://sts.amazonaws.com/"`},
		{run("Get https://sso: dial tcp: lookup sso: no such host\nusage: aws [options]"), 25 * time.Second, forwarder.Transient, failed + ": usage: aws [options]"},
		{run("dial tcp 10.0.0.1:443: i/o timeout"), 31 * time.Second, forwarder.NeedsUser, failed + ": dial tcp 10.0.0.1:443: i/o timeout"}, // it may have asked a person
		{
			"E1123 00:54:41.075130   23687 memcache.go:265] \"Unhandled Error\" err=<\n\tgetting credentials: exec: x\n\t\n >\n" +
				"Unable to connect to the server: getting credentials: exec: executable x not found\n\nIt looks like you are " +
				"trying to use a client-go credential plugin that is not installed.",
			0, forwarder.NeedsUser, "the login helper failed: executable x not found",
		},
		{"Unable to connect to the server: getting credentials: exec plugin didn't return a token or cert/key pair", 0, forwarder.NeedsUser, "the login helper failed: exec plugin didn't return a token or cert/key pair"},
		{"Unable to connect to the server: getting credentials: decoding stdout: couldn't get version/kind", 0, forwarder.NeedsUser, "the login helper failed: decoding stdout: couldn't get version/kind"},
	} {
		f := classifyLoginFailure(readTranscript(tt.transcript), testRef, tt.running)
		if f == nil || f.Class != tt.class || f.Reason != tt.reason || f.MayPass {
			t.Errorf("%s\ngot %+v", tt.transcript, f)
			continue
		}
		if hint := map[forwarder.Class]string{forwarder.Transient: "check the network or VPN", forwarder.NeedsUser: "localport login"}[f.Class]; !strings.Contains(f.Hint, hint) {
			t.Errorf("%s\nhint %q", tt.transcript, f.Hint)
		}
	}
}

func TestParseRefusal_OnlyFailedConnectsMayBeReplayed(t *testing.T) {
	const head = "an error occurred forwarding 40000 -> 5432: error forwarding port 5432 to pod 8d1f, uid : "
	tests := []struct {
		text             string
		refused, connect bool
	}{
		{head + "exit status 1: 2024/01/01 socat[7] E connect(5, AF=2 127.0.0.1:80, 16): Connection refused", true, true},
		{head + "failed to connect to localhost:5432 inside namespace, IPv4: dial tcp4 127.0.0.1:5432: connect: connection refused", true, true},
		{head + `network namespace for sandbox "4f5e" is closed`, true, true},
		{head + `failed to find sandbox "4f5e" in store: not found`, true, true},
		{head + "read tcp4 127.0.0.1:1->127.0.0.1:2: read: connection reset by peer", true, false},
		{head + "write tcp4 127.0.0.1:1->127.0.0.1:2: write: broken pipe", true, false},
		{head + "read tcp4 127.0.0.1:1->127.0.0.1:2: read: connection refused", true, false},
		{head + "something new", true, false},
		{"error copying from remote stream to local connection: read tcp: connection reset by peer", false, false},
		{"error creating error stream for port 1 -> 2: Timeout occurred", false, false},
		{"The connection to the server h was refused", false, false},
	}
	for _, tt := range tests {
		got, ok := parseRefusal(tt.text)
		if ok != tt.refused || got.IsConnectFailure != tt.connect {
			t.Errorf("%s\ngot %v, connect %v", tt.text, ok, got.IsConnectFailure)
		}
	}
}
