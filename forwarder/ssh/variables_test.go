package ssh

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/testdata/sshd"
)

func TestVariableUse_IsWhatSSHOrItsConfigMentions(t *testing.T) {
	config := filepath.Join(t.TempDir(), "config")
	included := config + ".d"
	svc := project.Service{Connection: project.Connection{Settings: project.Settings{
		"host": "bastion", "config_file": config, "options": map[string]string{"IdentityFile": "${KEYS}/id"},
	}}}
	for _, tt := range []struct {
		name, config     string
		uses, doesNotUse []string
	}{
		{"nothing", "Host *\nPort 22\n", []string{"SSH_AUTH_SOCK", "KEYS"}, []string{"PORT", "KEY", "KEYS2", "AWS_PROFILE", "HTTPS_PROXY", "LOG_LEVEL"}},
		{"an agent", "IdentityAgent $AGENT_SOCKET\n", []string{"AGENT_SOCKET"}, []string{"AGENT", "SOCKET"}},
		{"a program", "ProxyCommand aws ssm start-session --target %h --region ${REGION}\n", []string{"AWS_PROFILE", "HTTPS_PROXY", "REGION"}, []string{"LOG_LEVEL"}},
		{"an included file", "Include " + included + "\n", []string{"INCLUDED"}, []string{"LOG_LEVEL"}},
	} {
		for path, text := range map[string]string{config: tt.config, included: "Include " + config + "\nCertificateFile ${INCLUDED}\n"} {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		uses := variableUse(svc, "", nil)
		for _, name := range tt.uses {
			if !uses(name) {
				t.Errorf("%s: %s is not used", tt.name, name)
			}
		}
		for _, name := range tt.doesNotUse {
			if uses(name) {
				t.Errorf("%s: %s is used", tt.name, name)
			}
		}
	}
}

// A master is shared by the services that ssh would connect to the same place: not by those of another environment, as long as it matters.
func TestDestination_EnvironmentOfAnotherTargetUsesAnotherMaster(t *testing.T) {
	server := sshd.Start(t)
	svc := newService(server, startBackend(t))
	svc.Connection.Settings["config_file"] = server.WriteClientConfig("CertificateFile ${CERTIFICATES}/none")
	first := newRun(t)
	for i, tt := range []struct {
		env        []string
		wantLogins int
	}{{[]string{"CERTIFICATES=/a"}, 1}, {[]string{"CERTIFICATES=/a", "LOG_LEVEL=debug"}, 1}, {[]string{"CERTIFICATES=/b"}, 2}} {
		run := first
		run.Env = slices.Concat(first.Env, tt.env)
		requireWelcome(t, dialTunnel(t, openTunnel(t, svc, run)))
		if n := countLogins(server); n != tt.wantLogins {
			t.Errorf("%d logins after run %d", n, i)
		}
	}
}

// A restart logs in again, although another service still has a tunnel through the old master: the server's settings may have changed. The
// services that are restarted together share the new one.
func TestDestination_RestartLogsInAgainOnce(t *testing.T) {
	server := sshd.Start(t)
	svc := newService(server, startBackend(t))
	run := newRun(t)
	kept := dialTunnel(t, openTunnel(t, svc, run))
	requireWelcome(t, kept)
	run.RequestedAt = time.Now()
	run.RestartedAt = run.RequestedAt
	for range 2 {
		requireWelcome(t, dialTunnel(t, openTunnel(t, svc, run)))
	}
	if n := countLogins(server); n != 2 {
		t.Errorf("%d logins after a restart", n)
	}
	if _, err := kept.Write([]byte("x")); err != nil {
		t.Error(err)
	}
}

// A restart from a shell with another agent logs in with that one, although another service still has a tunnel through the old master.
func TestDestination_RestartWithAnotherAgentLogsInAgain(t *testing.T) {
	server := sshd.Start(t)
	svc := newService(server, startBackend(t))
	run := newRun(t)
	run.Env = append(slices.Clone(run.Env), "SSH_AUTH_SOCK=/old")
	kept := dialTunnel(t, openTunnel(t, svc, run))
	requireWelcome(t, kept)
	run.Env = append(slices.Clone(run.Env), "SSH_AUTH_SOCK=/new")
	requireWelcome(t, dialTunnel(t, openTunnel(t, svc, run)))
	if n := countLogins(server); n != 1 {
		t.Errorf("%d logins, although nobody asked for a restart", n)
	}
	run.RequestedAt = time.Now()
	requireWelcome(t, dialTunnel(t, openTunnel(t, svc, run)))
	if n := countLogins(server); n != 2 {
		t.Errorf("%d logins after a restart", n)
	}
	if _, err := kept.Write([]byte("x")); err != nil {
		t.Error(err)
	}
}
