package paste_test

import (
	"github.com/localport-sh/localport/forwarder/command"
	"github.com/localport-sh/localport/forwarder/kubectl"
	"github.com/localport-sh/localport/forwarder/ssh"
	"github.com/localport-sh/localport/forwarder/tcp"
	"github.com/localport-sh/localport/probe/builtin"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/draft"
	"github.com/localport-sh/localport/project/paste"
)

// parseConfig parses the text of a config with what was pasted, as localport does.
func parseConfig(result paste.Result) (*project.Project, error) {
	files := &project.Files{Root: "/project", Path: "/project/.localport.toml", Config: []byte(render(result))}
	return project.Parse(files, project.Options{
		Getenv:       func(name string) (string, bool) { return "value-of-" + name, true },
		Checks:       builtin.Types(),
		Technologies: []project.TechnologyType{kubectl.Technology.TechnologyType, ssh.Technology.TechnologyType, tcp.Technology.TechnologyType, command.Technology.TechnologyType},
	})
}

// render returns the text of the config with what was pasted.
func render(result paste.Result) string {
	return draft.Config{Services: result.Services, Env: result.Env}.Tables()
}
