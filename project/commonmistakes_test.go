package project

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/localport-sh/localport/testdata/mistakes"
)

// The parser finds the mistakes itself, with the words that validate prints.
func TestParse_FindsWhatPeopleGetWrong(t *testing.T) {
	options := builtInOptions()
	options.Getenv = func(name string) (string, bool) { return "/home/you", name == "HOME" || name == "PATH" }
	for _, m := range mistakes.All() {
		options.CheckPath = func(use PathUse) error {
			for _, missing := range []string{"nosuchprog", "tunnel.sh", "nowhere", "ca.pem"} {
				if strings.Contains(use.Path, missing) {
					return fmt.Errorf("missing: %s", missing)
				}
			}
			return nil
		}
		p, err := Parse(&Files{Root: "/p", Path: "/p/" + ConfigName, Config: []byte(m.Config), Local: []byte(m.Files[LocalName]), DotEnv: []byte(m.Files[EnvName])}, options)
		var found []Diagnostic
		if invalid, ok := errors.AsType[*InvalidError](err); ok {
			found = invalid.Diagnostics
		}
		if m.Files["config.toml"] == "" && isAccepted(m) != (err == nil) {
			t.Errorf("%s: %v", m.Name, err)
			continue
		}
		if p != nil {
			found = p.Advice
		}
		for _, d := range found {
			_, why, _ := strings.Cut(d.Message, "missing: ")
			if !strings.Contains(m.Output, d.Message) && why == "" {
				t.Errorf("%s: %s\nand validate says\n%s", m.Name, d.Message, m.Output)
			}
		}
	}
}

func TestParse_OnlyAdvisesAboutMissingFilesOfDisabledServices(t *testing.T) {
	options := builtInOptions()
	options.CheckPath = func(use PathUse) error { return fmt.Errorf("%s %v", use.Path, use.IsProgram) }
	p, err := Parse(&Files{Root: "/p", Path: "/p/" + ConfigName, Config: []byte(`[defaults]
connection = { key_file = "id" }
[services.a]
technology = "ssh"
enabled = false
local_port = 8001
remote_port = 2
connection = { host = "h" }
health_check = { type = "command", command = ["prog", "{port}"] }
`)}, options)
	if err != nil || len(p.Advice) != 2 || !strings.Contains(p.Advice[0].Message, "/p/id false") || !strings.Contains(p.Advice[1].Message, "prog true") {
		t.Errorf("%v %+v", err, p)
	}
}
