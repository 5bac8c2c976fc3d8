package ssh

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/testdata/sshd"
)

var errWrong = errors.New("wrong")

// suspicious is a server that wants a password and then a code.
func suspicious(config *ssh.ServerConfig) {
	code := func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
		answers, err := ask("", "", []string{"Code from your \x1b[5mtoken: "}, []bool{true})
		if err != nil || !slices.Equal(answers, []string{"123456"}) {
			return nil, errWrong
		}
		return nil, nil
	}
	config.NoClientAuth = false
	config.PasswordCallback = func(_ ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
		if string(password) != "open sesame" {
			return nil, errWrong
		}
		return nil, &ssh.PartialSuccessError{Next: ssh.ServerAuthCallbacks{KeyboardInteractiveCallback: code}}
	}
}

func TestAPasswordAndACodeAreAskedForWhenTheUserIsThere(t *testing.T) {
	svc := project.Service{RemotePort: "1", Connection: stingy(t, suspicious)}
	r := run(t)
	if f := fails(t, svc, r); f.Class != forwarder.ByAttention || !strings.Contains(f.Hint, "localport login") {
		t.Fatalf("got %+v", f)
	}
	var asked func() []string
	r.Ask, asked = answering(t, "a guess", "open sesame", "123456")
	welcome(t, dial(t, openIn(t, svc, r)))
	questions := asked()
	if len(questions) != 3 || !strings.Contains(questions[1], "password") || !strings.Contains(questions[2], "Code from your") {
		t.Fatalf("asked %q", questions)
	}
	if strings.Contains(questions[2], "\x1b") {
		t.Errorf("the server speaks to the terminal: %q", questions[2])
	}
	for _, secret := range []string{"a guess", "open sesame", "123456"} {
		if log := r.Log.(*logged).String(); strings.Contains(log, secret) {
			t.Errorf("the log has %q:\n%s", secret, log)
		}
	}
}

// agent is an ssh-agent that holds keys.
func agent(t *testing.T, keys ...string) (socket string) {
	t.Helper()
	for _, program := range []string{"ssh-agent", "ssh-add"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is missing (Debian: openssh-client)", program)
		}
	}
	socket = filepath.Join(t.TempDir(), "agent")
	up := make(chan struct{}, 1)
	c, err := process.Start(process.Command{
		Argv: []string{"ssh-agent", "-D", "-a", socket}, Env: os.Environ(),
		OnLine: func(process.Stream, string) {
			select {
			case up <- struct{}{}: // it says where it listens
			default:
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Stop(process.DefaultGracePeriod) })
	<-up
	for _, key := range keys {
		add := exec.CommandContext(t.Context(), "ssh-add", "-q", key)
		add.Env = append(os.Environ(), "SSH_AUTH_SOCK="+socket)
		if out, err := add.CombinedOutput(); err != nil {
			t.Fatalf("ssh-add: %v: %s", err, out)
		}
	}
	return socket
}

// ownConfig is one that names known hosts and nothing else of the server's.
func ownConfig(t *testing.T, server *sshd.Server) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config")
	text := "UserKnownHostsFile " + server.KnownHosts + "\nGlobalKnownHostsFile /dev/null\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAKeyInAnAgentIsUsed(t *testing.T) {
	server := sshd.Start(t)
	key := sshd.NewKey(t, filepath.Join(t.TempDir(), "key"), "")
	server.Authorize(key)
	svc := service(server, backend(t))
	svc.Connection.Settings["key_file"], svc.Connection.Settings["config_file"] = "", ownConfig(t, server)
	r := run(t)
	r.Env = append(r.Env, "SSH_AUTH_SOCK="+agent(t, key))
	welcome(t, dial(t, openIn(t, svc, r)))
}

func TestACertificateBesideItsKeyIsUsed(t *testing.T) {
	dir := t.TempDir()
	authority := sshd.NewKey(t, filepath.Join(dir, "ca"), "")
	server := sshd.Start(t, "TrustedUserCAKeys "+authority+".pub")
	key := sshd.NewKey(t, filepath.Join(dir, "key"), "")
	sign := exec.CommandContext(t.Context(), "ssh-keygen", "-q", "-s", authority, "-I", "test", "-n", server.User, key+".pub")
	if out, err := sign.CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
	svc := service(server, backend(t))
	svc.Connection.Settings["key_file"], svc.Connection.Settings["config_file"] = key, ownConfig(t, server)
	welcome(t, dial(t, open(t, svc)))
}

func TestAJumpHostsQuestionsAreAskedToo(t *testing.T) {
	last := sshd.Start(t)
	first := last.Another()
	dir := t.TempDir()
	locked := sshd.NewKey(t, filepath.Join(dir, "locked"), "a passphrase")
	first.Authorize(locked)
	host, port, _ := net.SplitHostPort(first.Addr())
	config := filepath.Join(dir, "config")
	text := "Host jump\nHostName " + host + "\nPort " + port + "\nUser " + first.User + "\nIdentityFile " + locked +
		"\nUserKnownHostsFile " + dir + "/hosts\nGlobalKnownHostsFile /dev/null\nIdentityAgent none\nIdentitiesOnly yes\n" +
		"Host *\nUserKnownHostsFile " + last.KnownHosts + "\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	svc := service(last, backend(t))
	svc.Connection.Settings["config_file"], svc.Connection.Settings["jump"] = config, "jump"
	r := run(t)
	if f := fails(t, svc, r); f.Class != forwarder.ByAttention || f.Reason != "Host key verification failed." {
		t.Fatalf("got %+v", f)
	}
	var asked func() []string
	r.Ask, asked = answering(t, "yes", "a passphrase")
	welcome(t, dial(t, openIn(t, svc, r)))
	if questions := asked(); len(questions) != 2 || !strings.Contains(questions[0], first.Addr()[len(host)+1:]) || !strings.Contains(questions[1], locked) {
		t.Errorf("asked %q", questions)
	}
}
