package sshd

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/localport-sh/localport/forwarder/process"
)

// StartAgent starts an ssh-agent that holds keys and returns its socket.
func StartAgent(t testing.TB, keys ...string) (socket string) {
	t.Helper()
	for _, program := range []string{"ssh-agent", "ssh-add"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is missing (Debian: openssh-client)", program)
		}
	}
	socket = filepath.Join(t.TempDir(), "agent")
	readyCh := make(chan struct{}, 1)
	c, err := process.Start(process.Command{
		Argv: []string{"ssh-agent", "-D", "-a", socket}, Env: os.Environ(),
		OnLine: func(process.Stream, string) {
			select {
			case readyCh <- struct{}{}: // it has printed where it listens
			default:
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Stop(process.DefaultGracePeriod) })
	<-readyCh
	for _, key := range keys {
		add := exec.CommandContext(t.Context(), "ssh-add", "-q", key)
		add.Env = append(os.Environ(), "SSH_AUTH_SOCK="+socket)
		if out, err := add.CombinedOutput(); err != nil {
			t.Fatalf("ssh-add: %v: %s", err, out)
		}
	}
	return socket
}
