package ssh

import (
	"net"
	"slices"
	"strings"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/project"
)

var _ forwarder.TargetIdentifier = (*driver)(nil)

// TargetKey is what decides that two services share a master (see destinationFor), and where its channels lead. The project's root is part of it
// only if the config or ssh's files refer to it by a relative path. A reverse forward is not shared: the far side listens, and its connections
// lead to one local address. Nor is a service that is to have a connection of its own.
func (*driver) TargetKey(svc project.Service, run forwarder.Run) ([]string, bool) {
	s := newTunnelSpec(svc)
	if s.connection.isReverse || s.connection.isUnshared {
		return nil, false
	}
	key := append(s.baseArgv(), s.environmentKey(run.Env))
	if s.usesRelativePaths() {
		key = append(key, run.Dir)
	}
	if s.connection.isSOCKS {
		return append(key, "socks"), true
	}
	return append(key, net.JoinHostPort(s.connection.remoteHost, s.remotePort)), true
}

// pathOptions are the options, in lower case, whose value is the path of a file, or of several.
var pathOptions = []string{
	"certificatefile", "controlpath", "globalknownhostsfile", "identityagent", "identityfile", "pkcs11provider", "revokedhostkeys", "securitykeyprovider",
	"userknownhostsfile",
}

// usesRelativePaths reports whether ssh may read a file, or run a program, that it finds from its working directory, the project's root.
func (s *tunnelSpec) usesRelativePaths() bool {
	for name, value := range s.connection.options {
		isRelative := func(path string) bool { return path != "none" && !strings.ContainsRune("/~%$", rune(path[0])) }
		if slices.Contains(pathOptions, strings.ToLower(name)) && slices.ContainsFunc(strings.Fields(strings.Trim(value, `"`)), isRelative) {
			return true
		}
	}
	return mentionsRelativePath(s.configTexts())
}

// mentionsRelativePath reports whether a word of the text begins with ./ or ../.
func mentionsRelativePath(text string) bool {
	for {
		at := strings.Index(text, "./")
		if at < 0 {
			return false
		}
		before := strings.TrimSuffix(text[:at], ".")
		if before == "" || strings.ContainsRune(" \t\n\"'=", rune(before[len(before)-1])) {
			return true
		}
		text = text[at+len("./"):]
	}
}
