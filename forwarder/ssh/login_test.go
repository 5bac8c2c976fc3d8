package ssh

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/ssh/askpass"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/testdata/sshd"
	"github.com/localport-sh/localport/testdata/syncbuf"
)

// startAnswers answers questions with the given answers in turn; asked returns the questions so far.
func startAnswers(t *testing.T, answers ...string) (socket string, asked func() []string) {
	t.Helper()
	var mu sync.Mutex
	var questions []string
	l, err := askpass.Listen(t.Context(), filepath.Dir(newRun(t).SocketDir), func(_ context.Context, q askpass.Question) (string, bool) {
		mu.Lock()
		defer mu.Unlock()
		questions = append(questions, q.Text)
		if len(questions) > len(answers) {
			return "", false
		}
		return answers[len(questions)-1], true
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Socket(), func() []string {
		mu.Lock()
		defer mu.Unlock()
		return questions
	}
}

var errWrongAnswer = errors.New("wrong")

// requirePasswordAndCode configures a server that asks for a password and then a code.
func requirePasswordAndCode(config *ssh.ServerConfig) {
	code := func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
		answers, err := ask("", "", []string{"Code from your \x1b[5mtoken: "}, []bool{true})
		if err != nil || !slices.Equal(answers, []string{"123456"}) {
			return nil, errWrongAnswer
		}
		return nil, nil
	}
	config.NoClientAuth = false
	config.PasswordCallback = func(_ ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
		if string(password) != "open sesame" {
			return nil, errWrongAnswer
		}
		return nil, &ssh.PartialSuccessError{Next: ssh.ServerAuthCallbacks{KeyboardInteractiveCallback: code}}
	}
}

func TestLogin_AsksForPasswordAndCode(t *testing.T) {
	svc := project.Service{RemotePort: "1", Connection: startOneChannelServer(t, requirePasswordAndCode)}
	r := newRun(t)
	if f := openFailure(t, svc, r); f.Class != forwarder.NeedsUser || !strings.Contains(f.Hint, "localport login") {
		t.Fatalf("got %+v", f)
	}
	var asked func() []string
	r.AskSocket, asked = startAnswers(t, "a guess", "open sesame", "123456")
	requireWelcome(t, dialTunnel(t, openTunnel(t, svc, r)))
	questions := asked()
	if len(questions) != 3 || !strings.Contains(questions[1], "password") || !strings.Contains(questions[2], "Code from your") {
		t.Fatalf("asked %q", questions)
	}
	if strings.Contains(questions[2], "\x1b") {
		t.Errorf("the question holds an escape sequence of the server: %q", questions[2])
	}
	for _, secret := range []string{"a guess", "open sesame", "123456"} {
		if log := r.Log.(*syncbuf.Buffer).String(); strings.Contains(log, secret) {
			t.Errorf("the log has %q:\n%s", secret, log)
		}
	}
}

// writeMinimalConfig writes an ssh config that names the server's known hosts and no key.
func writeMinimalConfig(t *testing.T, server *sshd.Server) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config")
	text := "UserKnownHostsFile " + server.KnownHosts + "\nGlobalKnownHostsFile /dev/null\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLogin_UsesAgentKey(t *testing.T) {
	server := sshd.Start(t)
	key := sshd.NewKey(t, filepath.Join(t.TempDir(), "key"), "")
	server.Authorize(key)
	svc := newService(server, startBackend(t))
	svc.Connection.Settings["key_file"], svc.Connection.Settings["config_file"] = "", writeMinimalConfig(t, server)
	r := newRun(t)
	r.Env = append(r.Env, "SSH_AUTH_SOCK="+sshd.StartAgent(t, key))
	requireWelcome(t, dialTunnel(t, openTunnel(t, svc, r)))
}

func TestLogin_UsesCertificate(t *testing.T) {
	dir := t.TempDir()
	authority := sshd.NewKey(t, filepath.Join(dir, "ca"), "")
	server := sshd.Start(t, "TrustedUserCAKeys "+authority+".pub")
	key := sshd.NewKey(t, filepath.Join(dir, "key"), "")
	sign := exec.CommandContext(t.Context(), "ssh-keygen", "-q", "-s", authority, "-I", "test", "-n", server.User, key+".pub")
	if out, err := sign.CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
	svc := newService(server, startBackend(t))
	svc.Connection.Settings["key_file"], svc.Connection.Settings["config_file"] = key, writeMinimalConfig(t, server)
	requireWelcome(t, dialTunnel(t, openDirect(t, svc)))
}

func TestLogin_AsksQuestionsOfJumpHost(t *testing.T) {
	last := sshd.Start(t)
	first := last.StartAnother()
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
	svc := newService(last, startBackend(t))
	svc.Connection.Settings["config_file"], svc.Connection.Settings["jump"] = config, "jump"
	r := newRun(t)
	if f := openFailure(t, svc, r); f.Class != forwarder.NeedsUser || f.Reason != "jump host jump: Host key verification failed." {
		t.Fatalf("got %+v", f)
	}
	var asked func() []string
	r.AskSocket, asked = startAnswers(t, "yes", "a passphrase")
	requireWelcome(t, dialTunnel(t, openTunnel(t, svc, r)))
	if questions := asked(); len(questions) != 2 || !strings.Contains(questions[0], first.Addr()[len(host)+1:]) || !strings.Contains(questions[1], locked) {
		t.Errorf("asked %q", questions)
	}
}

func TestLogin_AsksUserAndOtherServicesShareIt(t *testing.T) {
	server := sshd.Start(t)
	dir := t.TempDir()
	locked := sshd.NewKey(t, filepath.Join(dir, "locked"), "a passphrase")
	server.Authorize(locked)
	hosts := filepath.Join(dir, "known_hosts")
	svc := newService(server, startBackend(t))
	svc.Connection.Settings["key_file"] = locked
	svc.Connection.Settings["config_file"] = filepath.Join(dir, "config")
	stripped := strings.ReplaceAll(readFile(t, server.ConfigFile), "IdentityFile "+server.KeyFile+"\n", "")
	stripped = strings.ReplaceAll(stripped, server.KnownHosts, hosts)
	if err := os.WriteFile(svc.Connection.Settings.Text("config_file"), []byte(stripped), 0o600); err != nil {
		t.Fatal(err)
	}
	r := newRun(t)
	if f := openFailure(t, svc, r); f.Class != forwarder.NeedsUser || f.Reason != "Host key verification failed." {
		t.Fatalf("got %+v", f)
	}
	var asked func() []string
	r.AskSocket, asked = startAnswers(t, "yes", "a passphrase")
	requireWelcome(t, dialTunnel(t, openTunnel(t, svc, r)))
	questions := asked()
	if len(questions) != 2 || !strings.Contains(questions[0], "key fingerprint is SHA256:") ||
		!strings.Contains(questions[1], "Enter passphrase for key '"+locked+"'") {
		t.Errorf("asked %q", questions)
	}
	if !strings.Contains(readFile(t, hosts), "ssh-ed25519") {
		t.Error("the host's key was not saved")
	}
	r.AskSocket = ""
	requireWelcome(t, dialTunnel(t, openTunnel(t, svc, r))) // another service of the same login
	if log := r.Log.(*syncbuf.Buffer).String(); strings.Contains(log, "a passphrase") {
		t.Errorf("the log has the passphrase:\n%s", log)
	}
}

func TestLogin_UnansweredQuestionIsNotRepeated(t *testing.T) {
	server := sshd.Start(t)
	svc := newService(server, startBackend(t))
	svc.Connection.Settings["options"] = map[string]string{"UserKnownHostsFile": "/dev/null"}
	r := newRun(t)
	var asked func() []string
	r.AskSocket, asked = startAnswers(t)
	if f := openFailure(t, svc, r); f.Class != forwarder.NeedsUser {
		t.Errorf("got %+v", f)
	}
	r.RequestedAt = time.Now() // another service of the same login
	if f := openFailure(t, svc, r); f.Class != forwarder.NeedsUser {
		t.Errorf("got %+v", f)
	}
	if n := len(asked()); n != 1 {
		t.Errorf("asked %d times", n)
	}
	r.AskSocket, asked = startAnswers(t, "yes") // another login
	requireWelcome(t, dialTunnel(t, openTunnel(t, svc, r)))
	if n := len(asked()); n != 1 {
		t.Errorf("asked %d times", n)
	}
}
