package ssh

import (
	"fmt"
	"regexp"
	"strings"
	"sync"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/process"
)

// What ssh says of a host key that is not the one it knows.
var (
	changedFor  = lazily(`Host key for (\S+) has changed`)
	offendingIn = lazily(`^Offending .*key in (.+):\d+$`)
)

// lazily is an expression that is compiled when it is first used: what this package initialises is paid for by every
// start of the program, a prompt's too.
func lazily(expression string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
}

const (
	denied     = "Permission denied ("
	unverified = "Host key verification failed."
	changedKey = "REMOTE HOST IDENTIFICATION HAS CHANGED"
	noSocket   = "unix_listener: " // what it says when its socket cannot be made
	loginHint  = "localport login" // is how the user does what only the user can

	byProxy  = "UNKNOWN port 65535"         // is what ssh calls the far side of a ProxyCommand or a jump host
	exchange = "_exchange_identification: " // begins what ssh says when a connection ends before there is a server
)

// explain finds why ssh ended in what it said: its exit status is 255 whatever the reason.
func (s *speech) explain() *forwarder.Failure {
	f := s.said.Explain(rules())
	switch {
	case f == nil:
	case strings.Contains(f.Reason, "HAS CHANGED"):
		f.Reason, f.Hint = s.changed(f.Reason)
	case strings.Contains(f.Reason, denied):
		s.denied(f)
	case strings.Contains(f.Reason, byProxy):
		s.proxied(f)
	}
	return f
}

// rules begin with what makes all that is said after it pointless. After a jump host's own words come those of the
// ssh that waited for it.
func rules() []process.Rule {
	return []process.Rule{
		{Text: "Bad configuration option", Class: forwarder.Permanent},
		{Text: "command-line line 0", Class: forwarder.Permanent},
		{Text: "command-line: line 0", Class: forwarder.Permanent},
		{Text: "Can't open user config file", Class: forwarder.Permanent},
		{Text: "Bad owner or permissions on ", Class: forwarder.Permanent},
		{Text: "contains invalid characters", Class: forwarder.Permanent},
		{Text: "Invalid -J argument", Class: forwarder.Permanent},
		{Text: changedKey, Class: forwarder.Permanent},
		{Text: "Unable to negotiate with", Class: forwarder.Permanent},

		{Text: unverified, Class: forwarder.ByAttention, Hint: "to see the host's key and accept it: " + loginHint},
		{Text: "Too many authentication failures", Class: forwarder.ByAttention, Hint: "name the right key with key_file"},
		{Text: denied, Class: forwarder.ByAttention, Hint: "to log in with a password, a passphrase or a code: " + loginHint},

		{Text: noSocket}, // its directory may have been removed just then, or be full: another attempt makes a new one

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
func (s *speech) changed(line string) (reason, hint string) {
	hint = "ask whoever runs the host whether its key was changed"
	said, ok := s.said.Last("has changed and you have requested")
	host := changedFor().FindStringSubmatch(said)
	if !ok || host == nil {
		return line, hint
	}
	hint += fmt.Sprintf("; only if so: ssh-keygen -R '%s'", host[1])
	offending, _ := s.said.Last("Offending ")
	if file := offendingIn().FindStringSubmatch(offending); file != nil {
		hint += " -f " + file[1]
	}
	return "REMOTE HOST IDENTIFICATION HAS CHANGED: " + said, hint
}

// proxied puts the words of a ProxyCommand that failed before those of the ssh that waited for it.
func (s *speech) proxied(f *forwarder.Failure) {
	if line, ok := s.said.LastBut(byProxy, exchange); ok {
		f.Reason = line + "; " + f.Reason
		return
	}
	f.Reason = "the ProxyCommand or jump host gave up without a word; " + f.Reason
}

// denied adds to a denial what went wrong with the keys before it.
func (s *speech) denied(f *forwarder.Failure) {
	before := f.Reason
	for _, trouble := range []string{"agent refused operation", "Load key ", "not accessible: "} {
		if line, ok := s.said.Last(trouble); ok {
			f.Reason = line + "; " + f.Reason
		}
	}
	if _, ok := s.said.Last("UNPROTECTED PRIVATE KEY FILE"); ok {
		f.Hint = "let nobody else read the key: chmod 600 " + s.key
		return
	}
	if s.locked != "" && f.Reason == before {
		f.Reason += fmt.Sprintf(" (it would take %s, which has a passphrase or cannot be used)", s.locked)
		f.Hint = "ssh-add " + s.locked + ", then: localport restart; or for this time: " + loginHint
	}
}

// rejects reports whether ssh does not know an option.
func rejects(f *forwarder.Failure, option string) bool {
	return strings.Contains(strings.ToLower(f.Reason), "bad configuration option: "+strings.ToLower(option))
}
