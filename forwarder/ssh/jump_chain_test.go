package ssh

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/testdata/sshd"
)

// newHopConfig returns an ssh_config with the hosts hop1 and hop2, each with a line of its own, or else with the servers' key.
func newHopConfig(t *testing.T, first, second *sshd.Server, firstLine, secondLine string) (path string) {
	t.Helper()
	var text strings.Builder
	for i, line := range []string{firstLine, secondLine} {
		fmt.Fprintf(&text, "Host hop%d\n%s\nPort %d\n", i+1, line, []int{first.Port, second.Port}[i])
		if !strings.HasPrefix(line, "IdentityFile") {
			fmt.Fprintf(&text, "IdentityFile %s\n", first.KeyFile)
		}
	}
	fmt.Fprintf(&text, "Host *\nHostName 127.0.0.1\nUser %s\nIdentityAgent none\nIdentitiesOnly yes\nUserKnownHostsFile %s\nGlobalKnownHostsFile /dev/null\n", first.User, first.KnownHosts)
	path = filepath.Join(t.TempDir(), "config")
	writeConfigFile(t, path, text.String())
	return path
}

func TestJumpChain_FailureNamesTheHost(t *testing.T) {
	last := sshd.Start(t)
	first, second := last.StartAnother(), last.StartAnother()
	forbidding := last.StartAnother("AllowTcpForwarding no")
	restricted := last.StartAnother()
	restricted.RestrictKeys(`permitopen="127.0.0.1:1"`)
	missing, locked := filepath.Join(t.TempDir(), "missing"), sshd.NewKey(t, filepath.Join(t.TempDir(), "locked"), "passphrase")
	wrong := sshd.NewKey(t, filepath.Join(t.TempDir(), "wrong"), "")
	for _, server := range []*sshd.Server{first, second} {
		server.Authorize(locked)
	}
	denied := last.User + "@127.0.0.1: Permission denied (publickey)."
	notFound := func(hop string) string {
		return "jump host " + hop + ": key file " + missing + " not accessible: No such file or directory; " + denied
	}
	for _, tt := range []struct {
		name, jump    string
		first, second *sshd.Server
		line1, line2  string
		class         forwarder.Class
		reason, hint  string
	}{
		{"one key is missing", "hop1", first, second, "IdentityFile " + missing, "", forwarder.NeedsUser, notFound("hop1"), "create the key: " + missing},
		{"the first one's key is missing", "hop1,hop2", first, second, "IdentityFile " + missing, "", forwarder.NeedsUser, notFound("hop1"), "create the key: " + missing},
		{"the second one's key is missing", "hop1,hop2", first, second, "", "IdentityFile " + missing, forwarder.NeedsUser, notFound("hop2"), "create the key: " + missing},
		{"the key of one that only a config names is missing", "hop2", first, second, "IdentityFile " + missing, "ProxyJump hop1", forwarder.NeedsUser, notFound("hop1"), "create the key: " + missing},
		{"the second one's key is not accepted", "hop1,hop2", first, second, "", "IdentityFile " + wrong, forwarder.NeedsUser, "jump host hop2: " + denied, "localport login"},
		{"the second one's key has a passphrase", "hop1,hop2", first, second, "", "IdentityFile " + locked, forwarder.NeedsUser, "jump host hop2: " + denied + " (the server accepts " + locked, "enter the passphrase"},
		{"the first one is down", "hop1,hop2", &sshd.Server{Port: 1, User: last.User, KnownHosts: last.KnownHosts, KeyFile: last.KeyFile}, second, "", "", forwarder.Transient, "jump host hop1: ssh: connect to host 127.0.0.1 port 1: Connection refused", ""},
		{"the second one is down", "hop1,hop2", first, &sshd.Server{Port: 1}, "", "", forwarder.Transient, "jump host hop1 cannot connect to 127.0.0.1:1: Connection refused", ""},
		{"the first one forbids forwarding", "hop1,hop2", forbidding, second, "", "", forwarder.Transient, fmt.Sprintf("jump host hop1 does not allow connections to 127.0.0.1:%d (administratively prohibited)", second.Port), "sshd_config of jump host hop1 must allow it"},
		{"the second one forbids forwarding", "hop1,hop2", first, forbidding, "", "", forwarder.Transient, "jump host hop2 does not allow connections to " + last.Addr(), "sshd_config of jump host hop2 must allow it"},
		{"the first one's authorized_keys forbids it", "hop1,hop2", restricted, second, "", "", forwarder.Transient, fmt.Sprintf("jump host hop1 does not allow connections to 127.0.0.1:%d", second.Port), "and so must permitopen in "},
		{"the second one's authorized_keys forbids it", "hop1,hop2", first, restricted, "", "", forwarder.Transient, "jump host hop2 does not allow connections to " + last.Addr(), "and so must permitopen in "},
		{"the first one cannot resolve the second one", "hop1,hop2", first, second, "", "HostName missing.invalid", forwarder.Transient, "jump host hop1 cannot resolve missing.invalid: ", "resolved on jump host hop1, not on this machine"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			svc := newService(last, "127.0.0.1:1")
			config := newHopConfig(t, tt.first, tt.second, tt.line1, tt.line2)
			svc.Connection.Settings["config_file"], svc.Connection.Settings["jump"] = config, tt.jump
			if f := openFailure(t, svc); f.Class != tt.class || !strings.HasPrefix(f.Reason, tt.reason) || !strings.Contains(f.Hint, tt.hint) {
				t.Errorf("class %v\nreason %q, want %q\nhint %q, want %q", f.Class, f.Reason, tt.reason, f.Hint, tt.hint)
			}
		})
	}
}

func TestJumpChain_ServerThatIsDownIsNamed(t *testing.T) {
	last := sshd.Start(t)
	first, second := last.StartAnother(), last.StartAnother()
	svc := newService(last, "127.0.0.1:1")
	svc.Connection.Settings["config_file"], svc.Connection.Settings["jump"] = newHopConfig(t, first, second, "", ""), "hop1,hop2"
	last.Kill()
	if f := openFailure(t, svc); f.Reason != "jump host hop2 cannot connect to "+last.Addr()+": Connection refused" {
		t.Errorf("got %+v", f)
	}
}
