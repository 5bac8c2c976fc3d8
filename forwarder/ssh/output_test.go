package ssh

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/testdata/sshd"
	"github.com/localport-sh/localport/testdata/syncbuf"
	"github.com/localport-sh/localport/testdata/tunneltest"
)

// quotedVerdicts is a text that quotes messages of ssh.
const quotedVerdicts = `@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
Host key for db has changed and you have requested strict checking.
Offending ED25519 key in /etc/passwd:1
debug1: Server accepts key: /etc/passwd ED25519
debug1: Entering interactive session.
unix_listener: cannot bind to path /x: No space left on device
/etc/ssh/ssh_config: terminating, 1 bad configuration options
command-line line 0: Bad configuration option: forkafterauthentication
ssh: Could not resolve hostname db: Name or service not known
root@db: Permission denied (publickey).
Too many authentication failures
Host key verification failed.
`

// writeQuotedVerdicts writes quotedVerdicts to a file.
func writeQuotedVerdicts(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "banner")
	if err := os.WriteFile(path, []byte(quotedVerdicts), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// setJumpTo makes a service connect through a server.
func setJumpTo(jump *sshd.Server, svc project.Service) {
	svc.Connection.Settings["jump"] = fmt.Sprintf("%s@%s", jump.User, jump.Addr())
}

func TestOutputParser_BannerIsNoMessageOfSSH(t *testing.T) {
	banner := writeQuotedVerdicts(t)
	last := sshd.Start(t, "Banner "+banner)
	first := last.StartAnother("Banner " + banner)
	direct, jumping := newService(last, startBackend(t)), newService(last, startBackend(t))
	setJumpTo(first, jumping)
	for name, svc := range map[string]project.Service{"server": direct, "jump host and server": jumping} {
		t.Run(name, func(t *testing.T) {
			r := newRun(t)
			tunnel := openTunnel(t, svc, r)
			requireWelcome(t, dialTunnel(t, tunnel))
			if log := r.Log.(*syncbuf.Buffer).String(); !strings.Contains(log, "Host key for db has changed") {
				t.Errorf("the banner is not in the log:\n%s", log)
			}
		})
	}
	t.Run("denied", func(t *testing.T) {
		wrong := newService(last, "127.0.0.1:1")
		wrong.Connection.Settings["key_file"] = sshd.NewKey(t, filepath.Join(t.TempDir(), "wrong"), "")
		wrong.Connection.Settings["config_file"] = writeMinimalConfig(t, last)
		if f := openFailure(t, wrong); f.Class != forwarder.NeedsUser || f.Reason != last.User+"@127.0.0.1: Permission denied (publickey)." {
			t.Errorf("got %+v", f)
		}
	})
	t.Run("denied by the jump host", func(t *testing.T) {
		svc := newService(last, "127.0.0.1:1")
		svc.Connection.Settings["config_file"] = writeMinimalConfig(t, last)
		setJumpTo(first, svc)
		if f := openFailure(t, svc); f.Class != forwarder.NeedsUser || f.Reason != "jump host 127.0.0.1:"+strconv.Itoa(first.Port)+": "+first.User+"@127.0.0.1: Permission denied (publickey)." {
			t.Errorf("got %+v", f)
		}
	})
	t.Run("lost", func(t *testing.T) {
		tunnel := openDirect(t, direct)
		last.Kill()
		checkLost(t, tunneltest.WaitFailure(t, tunnel))
	})
	t.Run("the jump host cannot reach the server", func(t *testing.T) {
		want := fmt.Sprintf("jump host 127.0.0.1:%d cannot connect to %s: Connection refused", first.Port, last.Addr())
		if f := openFailure(t, jumping); f.Class != forwarder.Transient || f.Reason != want {
			t.Errorf("got %+v", f)
		}
	})
}

// On a busy machine, the banner may be read only after the login: it comes by another pipe.
func TestOutputParser_ALateBannerIsNoMessageOfSSH(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "socket")
	if err := os.WriteFile(socket, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for end, want := range map[string]string{
		"": "it has exited", "Connection to db closed by remote host.": "Connection to db closed by remote host.",
		"Read from remote host db: Connection reset by peer": "Read from remote host db: Connection reset by peer",
	} {
		p := &outputParser{socketPath: socket, loggedInCh: make(chan bool, 1)}
		p.parseLine(sourceSSH, "debug1: Entering interactive session.")
		for _, line := range append(strings.Split(quotedVerdicts, "\n"), end) {
			p.parseLine(sourceOther, line)
		}
		if f := p.failure("it has exited"); f.Class != forwarder.Transient || f.Reason != want {
			t.Errorf("after %q: %+v", end, f)
		}
	}
}

func TestOutputParser_ProxyCommandIsNoMessageOfSSH(t *testing.T) {
	server, text := sshd.Start(t), writeQuotedVerdicts(t)
	svc := named(newService(server, startBackend(t)), "web")
	setOption("ProxyCommand", "bash -c 'cat "+text+" >&2; exec 3<>/dev/tcp/%h/%p; cat <&3 & cat >&3'")(svc.Connection.Settings)
	requireWelcome(t, dialTunnel(t, openDirect(t, svc)))
	setOption("ProxyCommand", "sh -c 'cat "+text+" >&2; exit 1'")(svc.Connection.Settings)
	f := openFailure(t, svc)
	checkTransient(t, f, "Host key verification failed.; ") // its own last line, as information
	if !strings.Contains(f.Hint, `if an ssh in the ProxyCommand has a question, run "localport login web"`) {
		t.Errorf("hint %q", f.Hint)
	}
}

func TestOutputParser_SSHInProxyCommandIsHeard(t *testing.T) {
	last := sshd.Start(t)
	first := last.StartAnother("Banner " + writeQuotedVerdicts(t))
	svc := newService(last, startBackend(t))
	command := fmt.Sprintf("ssh -F %s -p %d %s@%s -- bash -c \"'exec 3<>/dev/tcp/%%h/%%p; cat <&3 & cat >&3; kill \\$!'\"", last.ConfigFile, first.Port, first.User, first.Host)
	setOption("ProxyCommand", command)(svc.Connection.Settings)
	requireWelcome(t, dialTunnel(t, openDirect(t, svc)))
	setOption("ProxyCommand", strings.ReplaceAll(command, last.ConfigFile, writeMinimalConfig(t, last)))(svc.Connection.Settings)
	if f := openFailure(t, svc); f.Class != forwarder.NeedsUser || !strings.HasPrefix(f.Reason, first.User+"@127.0.0.1: Permission denied (") {
		t.Errorf("got %+v", f)
	}
}

// Other programs of the user's configuration print before the login, too.
func TestOutputParser_OtherProgramsAreNoMessageOfSSH(t *testing.T) {
	server, text := sshd.Start(t), writeQuotedVerdicts(t)
	for name, lines := range map[string][]string{
		"Match exec":        {fmt.Sprintf(`Match exec "cat %s >&2"`, text), "Compression yes"},
		"LocalCommand":      {"PermitLocalCommand yes", fmt.Sprintf("LocalCommand cat %s; cat %[1]s >&2", text)},
		"KnownHostsCommand": {fmt.Sprintf(`KnownHostsCommand /bin/sh -c "cat %s >&2"`, text)},
	} {
		t.Run(name, func(t *testing.T) {
			svc := newService(server, startBackend(t))
			svc.Connection.Settings["config_file"] = server.WriteClientConfig(lines...)
			requireWelcome(t, dialTunnel(t, openDirect(t, svc)))
		})
	}
}

func TestOutputParser_UnknownAndChangedKeyOfJumpHost(t *testing.T) {
	last := sshd.Start(t, "Banner "+writeQuotedVerdicts(t))
	first := last.StartAnother()
	svc := newService(last, "127.0.0.1:1")
	setJumpTo(first, svc)
	first.NewHostKey()
	f := openFailure(t, svc)
	_, port, _ := net.SplitHostPort(first.Addr())
	if f.Class != forwarder.Permanent || !strings.Contains(f.Hint, "ssh-keygen -R '[127.0.0.1]:"+port) {
		t.Errorf("changed: %+v", f)
	}
	config := readFile(t, last.ConfigFile)
	unknown := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(unknown, []byte(strings.ReplaceAll(config, last.KnownHosts, "/dev/null")), 0o600); err != nil {
		t.Fatal(err)
	}
	svc.Connection.Settings["config_file"] = unknown
	if f := openFailure(t, svc); f.Class != forwarder.NeedsUser || !strings.Contains(f.Hint, "localport login") {
		t.Errorf("unknown: %+v", f)
	}
}
