package ssh

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/testdata/sshd"
)

func TestUsersOwnConfigurationDoesNotBreakTheTunnel(t *testing.T) {
	server := sshd.Start(t)
	busy, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	dir := t.TempDir()
	for _, tt := range []struct {
		name  string
		lines []string
	}{
		{"master", []string{"ControlMaster auto", "ControlPath " + dir + "/m", "ControlPersist yes"}},
		{"command", []string{"RemoteCommand false", "RequestTTY force"}},
		{"session", []string{"SessionType default", "ForkAfterAuthentication yes", "StdinNull yes"}},
		{"quiet", []string{"LogLevel QUIET"}},
		{"talkative", []string{"LogLevel DEBUG3", "LogVerbose *:*:*", "VisualHostKey yes"}},
		{"its own words", []string{"PermitLocalCommand yes", "LocalCommand echo out; echo err >&2"}},
		{"rules that run programs", []string{`Match exec "echo out; echo err >&2"`, "Compression yes"}},
		{"names made canonical", []string{"CanonicalizeHostname always", "CanonicalDomains example.com", "Match canonical", "Compression yes", "Match final", "RekeyLimit 1M"}},
		{"a way of its own", []string{"ProxyCommand bash -c 'exec 3<>/dev/tcp/%h/%p; cat <&3 & cat >&3'"}},
		{"other forwards", []string{"RemoteForward 0 127.0.0.1:1", "DynamicForward 127.0.0.1:1", "ForwardX11 yes", "ForwardAgent yes"}},
		{"cleared", []string{"ClearAllForwardings yes"}},
		{"busy", []string{fmt.Sprintf("LocalForward %s localhost:1", busy.Addr()), "ExitOnForwardFailure yes"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			svc := service(server, backend(t))
			svc.Connection.Settings["config_file"] = server.Config(tt.lines...)
			tunnel := open(t, svc)
			welcome(t, dial(t, tunnel))
			_ = tunnel.Close()
			if err := tunnel.Err(); err != nil {
				t.Errorf("closed, and yet %v", err)
			}
		})
	}
	if left, _ := filepath.Glob(dir + "/*"); len(left) > 0 {
		t.Errorf("a master was left behind: %q", left)
	}
}

func TestRunningMasterOfTheUsersIsNotUsed(t *testing.T) {
	server := sshd.Start(t)
	config := server.Config("ControlPath "+filepath.Join(filepath.Dir(run(t).Dir), "mine"), "ControlMaster auto")
	ctx, cancel := context.WithCancel(t.Context())
	master := exec.CommandContext(ctx, "ssh", "-F", config, "-N", "-o", "PermitLocalCommand=yes",
		"-o", "LocalCommand=echo ready", "-p", fmt.Sprint(server.Port), "-l", server.User, server.Host)
	out, err := master.StdoutPipe()
	if err == nil {
		err = master.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { cancel(); _ = master.Wait() }()
	if _, err := out.Read(make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	svc := service(server, backend(t))
	svc.Connection.Settings["config_file"] = config
	tunnel := open(t, svc)
	cancel() // the master ends, and the tunnel stays
	_ = master.Wait()
	welcome(t, dial(t, tunnel))
}

func TestForwardsOfTheUsersOwnAreNotOpened(t *testing.T) {
	server := sshd.Start(t)
	own := refusing(t)
	svc := service(server, backend(t))
	svc.Connection.Settings["config_file"] = server.Config(fmt.Sprintf("LocalForward %s %s", own, backend(t)))
	welcome(t, dial(t, open(t, svc)))
	if conn, err := net.Dial("tcp4", own); err == nil {
		_ = conn.Close()
		t.Error("a port of the user's own was opened")
	}
}

func TestJumpHostIsUsed(t *testing.T) {
	last := sshd.Start(t)
	first := last.Another()
	svc := service(last, backend(t))
	svc.Connection.Settings["jump"] = fmt.Sprintf("%s@%s", first.User, first.Addr())
	for _, config := range []string{svc.Connection.Settings.Text("config_file"), last.Config("LogLevel DEBUG3")} { // for the jump host's ssh too
		svc.Connection.Settings["config_file"] = config
		r := run(t)
		welcome(t, dial(t, openIn(t, svc, r)))
		if log := r.Log.(*logged).String(); strings.Contains(log, "debug") {
			t.Errorf("the log has debug lines:\n%s", log)
		}
	}
	if !strings.Contains(first.Log(), "Accepted publickey") {
		t.Errorf("the jump host was passed by:\n%s", first.Log())
	}
	first.Kill()
	transient(t, fails(t, svc), "Connection refused")
}

func TestAnyPathWillDoForTheUsersFiles(t *testing.T) {
	last := sshd.Start(t)
	first := last.Another()
	dir := filepath.Join(t.TempDir(), `it's "my" $(touch run) %d é`)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	svc := service(last, backend(t))
	svc.Connection.Settings["jump"] = fmt.Sprintf("%s@%s", first.User, first.Addr())
	svc.Connection.Settings["config_file"] = filepath.Join(dir, "config")
	if f := fails(t, svc); f.Class != forwarder.Permanent || !strings.Contains(f.Reason, "Can't open user config file "+svc.Connection.Settings.Text("config_file")) {
		t.Errorf("a file that is not there: %+v", f)
	}
	if err := os.WriteFile(svc.Connection.Settings.Text("config_file"), []byte(read(t, last.ConfigFile)), 0o600); err != nil {
		t.Fatal(err)
	}
	r := run(t)
	welcome(t, dial(t, openIn(t, svc, r)))
	if _, err := os.Stat(filepath.Join(r.Dir, "run")); err == nil {
		t.Error("a path was taken for a command")
	}
}

func TestOptionsOfTheConfigGoBeforeOurDefaults(t *testing.T) {
	svc := service(&sshd.Server{Host: "h", KeyFile: "/k"}, "localhost:1")
	svc.Connection.Settings["options"] = map[string]string{"ConnectTimeout": "3", "BatchMode": "no", "IdentitiesOnly": "no"}
	argv := strings.Join(command(specOf(svc).argv(), "/s:%/m", false, false), " ")
	for _, order := range [][2]string{
		{"ConnectTimeout=3", "ConnectTimeout=10"},
		{"IdentitiesOnly=no", "IdentitiesOnly=yes"},
		{"BatchMode=yes", "BatchMode=no"},
	} {
		if first, second := strings.Index(argv, order[0]), strings.Index(argv, order[1]); first < 0 || second < first {
			t.Errorf("%s must come before %s in %q", order[0], order[1], argv)
		}
	}
	if !strings.HasPrefix(argv, "ssh -S /s:%%/m ") || !strings.HasSuffix(argv, " -i /k -- h") {
		t.Errorf("got %q", argv)
	}
}

// oldSSH is an ssh from before 8.7, in so far as it does not know one option.
const oldSSH = `#!/bin/sh
case "$*" in *ForkAfterAuthentication*)
  echo 'command-line: line 0: Bad configuration option: forkafterauthentication' >&2; exit 255;;
esac
exec REAL "$@"
`

func TestOldSSHIsSpokenToInItsOwnWords(t *testing.T) {
	real, err := exec.LookPath("ssh")
	if err != nil {
		t.Skip("ssh is missing (Debian: openssh-client)")
	}
	dir := t.TempDir()
	script := strings.ReplaceAll(oldSSH, "REAL", real)
	if err := os.WriteFile(filepath.Join(dir, "ssh"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	r := run(t)
	r.Env = append(r.Env, "PATH="+dir+":"+os.Getenv("PATH"))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tunnel, err := driverOf(t).Open(ctx, service(sshd.Start(t), backend(t)), r)
	if err != nil {
		t.Fatal(err)
	}
	welcome(t, dial(t, tunnel))
	_ = tunnel.Close()
}
