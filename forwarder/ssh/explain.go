package ssh

import (
	"fmt"
	"strings"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/child"
)

// What ssh says of a host key that is not the one it knows.
var (
	changedFor  = lazily(`Host key for (\S+) has changed`)
	offendingIn = lazily(`^Offending .*key in (.+):\d+$`)
)

const (
	denied     = "Permission denied ("
	unverified = "Host key verification failed."
)

// explain finds why ssh ended in what it said: its exit status is 255 whatever the reason.
func (t *tunnel) explain() *forwarder.Failure {
	f := t.said.Explain(t.technology.rules())
	switch {
	case f == nil:
	case strings.Contains(f.Reason, "HAS CHANGED"):
		f.Reason, f.Hint = t.changed(f.Reason)
	case strings.Contains(f.Reason, denied):
		t.denied(f)
	}
	return f
}

// rules begin with what makes all that is said after it pointless. After a jump host's own words come those of the
// ssh that waited for it.
func (t *technology) rules() []child.Rule {
	login := t.command()
	return []child.Rule{
		{Text: "Bad configuration option", Class: forwarder.Permanent},
		{Text: "command-line line 0", Class: forwarder.Permanent},
		{Text: "command-line: line 0", Class: forwarder.Permanent},
		{Text: "Bad local forwarding specification", Class: forwarder.Permanent},
		{Text: "Can't open user config file", Class: forwarder.Permanent},
		{Text: "Bad owner or permissions on ", Class: forwarder.Permanent},
		{Text: "contains invalid characters", Class: forwarder.Permanent},
		{Text: "Invalid -J argument", Class: forwarder.Permanent},
		{Text: "REMOTE HOST IDENTIFICATION HAS CHANGED", Class: forwarder.Permanent},
		{Text: "Unable to negotiate with", Class: forwarder.Permanent},

		{Text: unverified, Class: forwarder.ByAttention, Hint: "log in once, to see the host's key and accept it: " + login},
		{Text: "Too many authentication failures", Class: forwarder.ByAttention, Hint: "name the right key with key_file"},
		{Text: denied, Class: forwarder.ByAttention, Hint: "to see what it wants: " + login},

		{Text: "unix_listener: ", Class: forwarder.Permanent},
		{Text: "Could not request local forwarding", Class: forwarder.Permanent},

		{Text: "Could not resolve hostname"},
		{Text: "ssh: connect to host"},
		{Text: "open failed: "}, // a jump host cannot reach the next
		{Text: "timed out"},
		{Text: "Timeout, server"},
		{Text: "Received disconnect"},
		{Text: "closed by"},
		{Text: "Connection reset"},
		{Text: "Broken pipe"},
		{Text: ""}, // whatever it was
	}
}

// changed is the reason and the hint for a host key that is not the one known.
func (t *tunnel) changed(line string) (reason, hint string) {
	hint = "ask whoever runs the host whether its key was changed"
	said, ok := t.said.Last("has changed and you have requested")
	host := changedFor().FindStringSubmatch(said)
	if !ok || host == nil {
		return line, hint
	}
	hint += fmt.Sprintf("; only if so: ssh-keygen -R '%s'", host[1])
	offending, _ := t.said.Last("Offending ")
	if file := offendingIn().FindStringSubmatch(offending); file != nil {
		hint += " -f " + file[1]
	}
	return "REMOTE HOST IDENTIFICATION HAS CHANGED: " + said, hint
}

// denied adds to a denial what went wrong with the keys before it.
func (t *tunnel) denied(f *forwarder.Failure) {
	before := f.Reason
	for _, trouble := range []string{"agent refused operation", "Load key ", "not accessible: "} {
		if line, ok := t.said.Last(trouble); ok {
			f.Reason = line + "; " + f.Reason
		}
	}
	if _, ok := t.said.Last("UNPROTECTED PRIVATE KEY FILE"); ok {
		f.Hint = "let nobody else read the key: chmod 600 " + t.technology.to.KeyFile
		return
	}
	if t.locked != "" && f.Reason == before {
		f.Reason += fmt.Sprintf(" (it would take %s, which has a passphrase or cannot be used)", t.locked)
		f.Hint = "ssh-add " + t.locked
	}
}

// rejects reports whether ssh does not know an option.
func rejects(f *forwarder.Failure, option string) bool {
	return strings.Contains(strings.ToLower(f.Reason), "bad configuration option: "+strings.ToLower(option))
}

// command is the login as the user would type it.
func (t *technology) command() string {
	words := append([]string{"ssh"}, t.login()...)
	return strings.Join(append(words, t.to.Host), " ")
}
