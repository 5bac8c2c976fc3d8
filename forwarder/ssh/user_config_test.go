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
	"github.com/localport-sh/localport/testdata/executable"
	"github.com/localport-sh/localport/testdata/sshd"
	"github.com/localport-sh/localport/testdata/syncbuf"
)

func TestDriver_OpenWorksWithAnyUserConfig(t *testing.T) {
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
		{"ControlMaster", []string{"ControlMaster auto", "ControlPath " + dir + "/m", "ControlPersist yes"}},
		{"RemoteCommand", []string{"RemoteCommand false", "RequestTTY force"}},
		{"session options", []string{"SessionType default", "ForkAfterAuthentication yes", "StdinNull yes"}},
		{"quiet log", []string{"LogLevel QUIET"}},
		{"verbose log", []string{"LogLevel DEBUG3", "LogVerbose *:*:*", "VisualHostKey yes"}},
		{"LocalCommand", []string{"PermitLocalCommand yes", "LocalCommand echo out; echo err >&2"}},
		{"Match exec", []string{`Match exec "echo out; echo err >&2"`, "Compression yes"}},
		{"canonical names", []string{"CanonicalizeHostname always", "CanonicalDomains example.com", "Match canonical", "Compression yes", "Match final", "RekeyLimit 1M"}},
		{"ProxyCommand", []string{"ProxyCommand bash -c 'exec 3<>/dev/tcp/%h/%p; cat <&3 & cat >&3'"}},
		{"other forwards", []string{"RemoteForward 0 127.0.0.1:1", "DynamicForward 127.0.0.1:1", "ForwardX11 yes", "ForwardAgent yes"}},
		{"ClearAllForwardings", []string{"ClearAllForwardings yes"}},
		{"forward of a port in use", []string{fmt.Sprintf("LocalForward %s localhost:1", busy.Addr()), "ExitOnForwardFailure yes"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			svc := newService(server, startBackend(t))
			svc.Connection.Settings["config_file"] = server.WriteClientConfig(tt.lines...)
			tunnel := openDirect(t, svc)
			requireWelcome(t, dialTunnel(t, tunnel))
			_ = tunnel.Close()
			if err := tunnel.Err(); err != nil {
				t.Errorf("closed with %v", err)
			}
		})
	}
	if left, _ := filepath.Glob(dir + "/*"); len(left) > 0 {
		t.Errorf("control sockets are left: %q", left)
	}
}

func TestDriver_DoesNotUseTheUsersMaster(t *testing.T) {
	server := sshd.Start(t)
	config := server.WriteClientConfig("ControlPath "+filepath.Join(filepath.Dir(newRun(t).Dir), "mine"), "ControlMaster auto")
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
	svc := newService(server, startBackend(t))
	svc.Connection.Settings["config_file"] = config
	tunnel := openDirect(t, svc)
	cancel() // the user's master ends; the tunnel stays
	_ = master.Wait()
	requireWelcome(t, dialTunnel(t, tunnel))
}

func TestDriver_DoesNotOpenTheUsersForwards(t *testing.T) {
	server := sshd.Start(t)
	userAddr := unusedAddr(t)
	svc := newService(server, startBackend(t))
	svc.Connection.Settings["config_file"] = server.WriteClientConfig(fmt.Sprintf("LocalForward %s %s", userAddr, startBackend(t)))
	requireWelcome(t, dialTunnel(t, openDirect(t, svc)))
	if conn, err := net.Dial("tcp4", userAddr); err == nil {
		_ = conn.Close()
		t.Error("a forward of the user's own was opened")
	}
}

func TestDriver_ConnectsThroughJumpHost(t *testing.T) {
	last := sshd.Start(t)
	first := last.StartAnother()
	svc := newService(last, startBackend(t))
	svc.Connection.Settings["jump"] = fmt.Sprintf("%s@%s", first.User, first.Addr())
	for _, config := range []string{svc.Connection.Settings.Text("config_file"), last.WriteClientConfig("LogLevel DEBUG3")} { // applies to the ssh to the jump host too
		svc.Connection.Settings["config_file"] = config
		r := newRun(t)
		requireWelcome(t, dialTunnel(t, openTunnel(t, svc, r)))
		if log := r.Log.(*syncbuf.Buffer).String(); strings.Contains(log, "debug") {
			t.Errorf("the log has debug lines:\n%s", log)
		}
	}
	if !strings.Contains(first.Log(), "Accepted publickey") {
		t.Errorf("the jump host was not used:\n%s", first.Log())
	}
	first.Kill()
	checkTransient(t, openFailure(t, svc), "Connection refused")
}

func TestDriver_ConfigFilePathMayHoldShellCharacters(t *testing.T) {
	last := sshd.Start(t)
	first := last.StartAnother()
	dir := filepath.Join(t.TempDir(), `it's "my" $(touch run) %d é`)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	svc := newService(last, startBackend(t))
	svc.Connection.Settings["jump"] = fmt.Sprintf("%s@%s", first.User, first.Addr())
	svc.Connection.Settings["config_file"] = filepath.Join(dir, "config")
	if f := openFailure(t, svc); f.Class != forwarder.Permanent || !strings.Contains(f.Reason, "Can't open user config file "+svc.Connection.Settings.Text("config_file")) {
		t.Errorf("missing config file: %+v", f)
	}
	if err := os.WriteFile(svc.Connection.Settings.Text("config_file"), []byte(readFile(t, last.ConfigFile)), 0o600); err != nil {
		t.Fatal(err)
	}
	r := newRun(t)
	requireWelcome(t, dialTunnel(t, openTunnel(t, svc, r)))
	if _, err := os.Stat(filepath.Join(r.Dir, "run")); err == nil {
		t.Error("the path was executed as a command")
	}
}

func TestBuildArgv_OrdersOptions(t *testing.T) {
	svc := newService(&sshd.Server{Host: "h", KeyFile: "/k"}, "localhost:1")
	svc.Connection.Settings["options"] = map[string]string{"BatchMode": "no", "IdentitiesOnly": "no"}
	argv := strings.Join(buildArgv(newTunnelSpec(svc).baseArgv(), "/s:%/m", false, false), " ")
	for _, order := range [][2]string{
		{"IdentitiesOnly=no", "IdentitiesOnly=yes"},
		{"BatchMode=yes", "BatchMode=no"},
	} {
		if first, second := strings.Index(argv, order[0]), strings.Index(argv, order[1]); first < 0 || second < first {
			t.Errorf("%s must come before %s in %q", order[0], order[1], argv)
		}
	}
	if !strings.HasPrefix(argv, "ssh -E /dev/fd/1 -S /s:%%/m ") || !strings.HasSuffix(argv, " -i /k -- h") {
		t.Errorf("got %q", argv)
	}
}

// oldSSHScript behaves like OpenSSH before 8.7, as far as it rejects one option.
const oldSSHScript = `#!/bin/sh
case "$*" in *ForkAfterAuthentication*)
  echo 'command-line: line 0: Bad configuration option: forkafterauthentication' >&2; exit 255;;
esac
exec REAL "$@"
`

func TestDriver_WorksWithSSHOlderThan8_7(t *testing.T) {
	real, err := exec.LookPath("ssh")
	if err != nil {
		t.Skip("ssh is missing (Debian: openssh-client)")
	}
	dir := t.TempDir()
	script := strings.ReplaceAll(oldSSHScript, "REAL", real)
	if err := executable.WriteFile(filepath.Join(dir, "ssh"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	r := newRun(t)
	r.Env = append(r.Env, "PATH="+dir+":"+os.Getenv("PATH"))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tunnel, err := driverOf(t).Open(ctx, newService(sshd.Start(t), startBackend(t)), r)
	if err != nil {
		t.Fatal(err)
	}
	requireWelcome(t, dialTunnel(t, tunnel))
	_ = tunnel.Close()
}

func TestDestination_UpgradedSSHIsNoticed(t *testing.T) {
	real, err := exec.LookPath("ssh")
	if err != nil {
		t.Skip("ssh is missing (Debian: openssh-client)")
	}
	path := filepath.Join(t.TempDir(), "ssh")
	r := newRun(t)
	r.Env = append(r.Env, "PATH="+filepath.Dir(path)+":"+os.Getenv("PATH"))
	svc := newService(sshd.Start(t), startBackend(t))
	// open reports whether ssh was started with the option that old ones reject.
	open := func(script string) bool {
		t.Helper()
		if script != "" {
			text := "#!/bin/sh\necho \"$*\" >>" + path + ".log\n" + strings.TrimPrefix(strings.ReplaceAll(script, "REAL", real), "#!/bin/sh\n")
			if err := executable.WriteFile(path+".next", []byte(text), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(path+".next", path); err != nil {
				t.Fatal(err)
			}
		}
		tunnel := openTunnel(t, svc, r)
		_ = tunnel.Close()
		<-tunnel.(*directTunnel).master.doneCh
		runs := strings.Split(strings.TrimSpace(readFile(t, path+".log")), "\n")
		return strings.Contains(runs[len(runs)-1], forkOption)
	}
	if open(oldSSHScript) || open("") {
		t.Error("an old ssh gets an option that it rejects")
	}
	if n := strings.Count(readFile(t, path+".log"), forkOption); n != 1 {
		t.Errorf("the option was tried %d times", n)
	}
	if !open("exec REAL \"$@\"\n") {
		t.Error("an upgraded ssh does not get the option")
	}
	if open(oldSSHScript) {
		t.Error("an old ssh gets an option that it rejects")
	}
	d := driverOf(t).destinationFor(newTunnelSpec(svc), r)
	d.oldSSHFoundAt = time.Now().Add(-recheckInterval)
	if open("") || strings.Count(readFile(t, path+".log"), forkOption) != 4 {
		t.Errorf("the option is not tried again:\n%s", readFile(t, path+".log"))
	}
}
