package supervisor

import (
	"testing"

	"github.com/localport-sh/localport/project/environ"
	"github.com/localport-sh/localport/testdata/sshd"
)

func TestMergeShell_TakesAllButOurOwnPlacesAndADeadAgent(t *testing.T) {
	live := sshd.StartAgent(t)
	ours := environ.Env{
		"HOME": "/home/me", "XDG_STATE_HOME": "/state", "PATH": "/usr/bin:/opt/tool/bin", "SSH_AUTH_SOCK": live, "KUBECONFIG": "/old", "AWS_SESSION_TOKEN": "x",
	}
	shell := environ.Env{
		"HOME": "/elsewhere", "XDG_RUNTIME_DIR": "/run/other", "PATH": "/home/me/bin:/usr/bin", "SSH_AUTH_SOCK": "/gone", "KUBECONFIG": "/new", "TERM": "xterm",
	}
	want := environ.Env{
		"HOME": "/home/me", "XDG_STATE_HOME": "/state", "PATH": "/home/me/bin:/usr/bin:/opt/tool/bin", "SSH_AUTH_SOCK": live, "KUBECONFIG": "/new", "TERM": "xterm",
	}
	if names := changedNames(mergeShell(ours, shell), want); names != nil {
		t.Errorf("%v differ in %v", names, mergeShell(ours, shell))
	}
	shell["SSH_AUTH_SOCK"] = sshd.StartAgent(t)
	if got := mergeShell(ours, shell)["SSH_AUTH_SOCK"]; got != shell["SSH_AUTH_SOCK"] {
		t.Errorf("the shell's agent answers, and %s is used", got)
	}
	delete(shell, "SSH_AUTH_SOCK")
	if got := mergeShell(ours, shell)["SSH_AUTH_SOCK"]; got != live {
		t.Errorf("the shell has no agent, and %q is used", got)
	}
}
