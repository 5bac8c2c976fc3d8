package project_test

import (
	"strings"
	"testing"

	"github.com/localport-sh/localport/forwarder/command"
	"github.com/localport-sh/localport/forwarder/kubectl"
	"github.com/localport-sh/localport/forwarder/ssh"
	"github.com/localport-sh/localport/forwarder/tcp"
	"github.com/localport-sh/localport/probe/builtin"
	"github.com/localport-sh/localport/project"
)

// The tests of package project cannot import packages that import it.
func init() {
	project.BuiltIn = []project.TechnologyType{
		kubectl.Technology.TechnologyType, ssh.Technology.TechnologyType, tcp.Technology.TechnologyType, command.Technology.TechnologyType,
	}
	project.BuiltInChecks = builtin.Types()
}

func TestTechnologyType_FileKeysAreCoveredByTrust(t *testing.T) {
	for _, technology := range project.BuiltIn {
		for _, key := range technology.Keys {
			covered := strings.HasSuffix(key.Name, "_file") || key.Name == "kubeconfig" // which is looked for in a config that nobody has allowed yet
			if key.Type == project.TypeFile && !covered {
				t.Errorf("%s: %s", technology.Name, key.Name)
			}
		}
	}
}
