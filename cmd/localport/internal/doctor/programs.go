package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/project"
)

// kubectlVariable names a kubectl that is used instead of the built-in client.
const kubectlVariable = "LOCALPORT_KUBECTL"

func checkKubectl(ctx context.Context, s *Subject) []Finding {
	isNeeded := s.Env[kubectlVariable] != "" || s.uses(func(svc project.Service) bool {
		return svc.Technology == "kubectl" && svc.Connection.Settings.Text("engine") == "kubectl"
	})
	program := s.Env[kubectlVariable]
	if program == "" {
		program = "kubectl"
	}
	path, err := process.LookPath(program, s.Env.List(), "/")
	switch {
	case err != nil && isNeeded:
		return fail(err.Error(), `install kubectl, or remove engine = "kubectl" and `+kubectlVariable+": LocalPort has a client of its own")
	case err != nil:
		return skip("not installed, and not needed: LocalPort has a client of its own")
	}
	out, err := s.output(ctx, path, "version", "--client", "-o", "json")
	var version struct {
		ClientVersion struct {
			GitVersion string `json:"gitVersion"`
		} `json:"clientVersion"`
	}
	if err == nil {
		err = json.Unmarshal(out, &version)
	}
	if err != nil && !isNeeded {
		return skip(path + " does not print its version; it is not needed")
	}
	if err != nil {
		return warn(path+" does not print its version: "+err.Error(), path+" version --client")
	}
	return ok(path + ", " + version.ClientVersion.GitVersion)
}

func checkSSH(ctx context.Context, s *Subject) []Finding {
	isNeeded := s.uses(func(svc project.Service) bool { return svc.Technology == "ssh" })
	path, err := process.LookPath("ssh", s.Env.List(), "/")
	switch {
	case err != nil && isNeeded:
		return fail(err.Error(), "install the OpenSSH client (Debian: sudo apt-get install openssh-client)")
	case err != nil:
		return skip("not installed, and not needed here")
	}
	out, err := s.output(ctx, path, "-V")
	if err != nil {
		return warn(path+" does not print its version: "+err.Error(), path+" -V")
	}
	version, _, _ := strings.Cut(strings.TrimSpace(string(out)), ",")
	if !strings.HasPrefix(version, "OpenSSH") && isNeeded {
		return warn(path+" is not OpenSSH: "+version, "put OpenSSH's ssh first in PATH")
	}
	return ok(path + ", " + version)
}

// uses reports whether a service of the project is like this.
func (s *Subject) uses(is func(project.Service) bool) bool {
	return s.Config != nil && slices.ContainsFunc(s.Config.Services, is)
}

// output runs a program and returns what it prints on both outputs.
func (s *Subject) output(ctx context.Context, path string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, path, args...)
	var out bytes.Buffer
	cmd.Dir, cmd.Env, cmd.WaitDelay = "/", s.Env.List(), time.Second
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.Bytes(), err
}
