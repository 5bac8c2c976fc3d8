package ssh

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"slices"
	"strings"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/project"
)

// ownVariables are the variables that ssh itself reads for a login without a terminal. Its askpass is this program's.
var ownVariables = []string{AgentVariable, "SSH_SK_HELPER", "SSH_SK_PROVIDER", "SSH_PKCS11_HELPER"}

// variableUse says which variables an ssh process uses: those of ssh itself, those that the service's options or a config file of ssh mention as
// $NAME or ${NAME}, and, if a config file runs a program, such as a ProxyCommand, those by which programs choose a target: "aws ssm start-session"
// mentions no AWS_PROFILE. Any other variable is in the environment of ssh too, but does not decide where it connects: SendEnv sends none without
// a session.
func variableUse(svc project.Service, _ string, _ []string) func(string) bool {
	return newTunnelSpec(svc).variableUse()
}

func (s *tunnelSpec) variableUse() func(string) bool {
	text := s.configTexts()
	runsProgram := slices.ContainsFunc(programOptions, func(option string) bool { return strings.Contains(strings.ToLower(text), option) })
	return func(name string) bool {
		return slices.Contains(ownVariables, name) || mentionsVariable(text, name) || runsProgram && forwarder.ChoosesTarget(name)
	}
}

// programOptions are the keywords, in lower case, after which ssh_config names a program or a library.
var programOptions = []string{"proxycommand", "knownhostscommand", "localcommand", "exec", "pkcs11provider", "securitykeyprovider"}

// maxConfigFiles limits the files that configTexts reads.
const maxConfigFiles = 64

// configTexts returns the service's options and the texts of all config files that ssh may read, whatever the Host or Match block.
func (s *tunnelSpec) configTexts() string {
	var b strings.Builder
	for name, value := range s.connection.options {
		b.WriteString(name + "=" + value + "\n")
	}
	files := []string{s.connection.configFile}
	if s.connection.configFile == "" {
		files = []string{userConfigFile(), systemConfigFile}
	}
	for i := 0; i < len(files) && i < maxConfigFiles; i++ {
		if info, err := os.Stat(files[i]); err != nil || !info.Mode().IsRegular() {
			continue
		}
		data, _ := os.ReadFile(files[i])
		b.Write(data)
		b.WriteByte('\n')
		for _, included := range includedFiles(files[i]) {
			if !slices.Contains(files, included) {
				files = append(files, included)
			}
		}
	}
	return b.String()
}

// mentionsVariable reports whether text has $name or ${name}.
func mentionsVariable(text, name string) bool {
	for {
		at := strings.Index(text, name)
		if at < 0 || name == "" {
			return false
		}
		before := strings.TrimSuffix(text[:at], "{")
		text = text[at+len(name):]
		if strings.HasSuffix(before, "$") && (text == "" || !isNameByte(text[0])) {
			return true
		}
	}
}

func isNameByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}

// environmentKey distinguishes destinations whose ssh would connect to another place, or as somebody else, because of its environment. It is a
// digest: values may be secret. The agent is not part of it: a master that has logged in needs none, see master.hasOtherAgent.
func (s *tunnelSpec) environmentKey(env []string) string {
	uses := s.variableUse()
	var used []string
	for _, entry := range env {
		if name, _, _ := strings.Cut(entry, "="); !slices.Contains(ownVariables, name) && uses(name) {
			used = append(used, entry)
		}
	}
	if used == nil {
		return ""
	}
	slices.Sort(used)
	sum := sha256.Sum256([]byte(strings.Join(used, "\x00")))
	return hex.EncodeToString(sum[:])
}
