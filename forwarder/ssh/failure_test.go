package ssh

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/testdata/sshd"
	"github.com/localport-sh/localport/testdata/tunneltest"
)

// writeProxy writes a program for a ProxyCommand.
func writeProxy(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "proxy")
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDriver_FailedLoginHasClassReasonAndHint(t *testing.T) {
	server := sshd.Start(t)
	dir := t.TempDir()
	wrong := sshd.NewKey(t, filepath.Join(dir, "wrong"), "")
	locked := sshd.NewKey(t, filepath.Join(dir, "locked"), "passphrase")
	server.Authorize(locked)
	bare := sshd.NewKey(t, filepath.Join(dir, "bare"), "")
	server.Authorize(bare)
	if err := os.Chmod(bare, 0o644); err != nil {
		t.Fatal(err)
	}
	gone := sshd.NewKey(t, filepath.Join(dir, "gone"), "")
	server.Authorize(gone)
	if err := os.Remove(gone); err != nil {
		t.Fatal(err)
	}
	damaged := sshd.NewKey(t, filepath.Join(dir, "damaged"), "")
	server.Authorize(damaged)
	if err := os.Truncate(damaged, 100); err != nil {
		t.Fatal(err)
	}
	keyless := filepath.Join(dir, "config")
	stripped := strings.ReplaceAll(readFile(t, server.ConfigFile), "IdentityFile "+server.KeyFile+"\n", "")
	if err := os.WriteFile(keyless, []byte(stripped), 0o600); err != nil {
		t.Fatal(err)
	}
	strict := server.StartAnother("MaxAuthTries 1")
	tests := []struct {
		name         string
		change       func(project.Settings)
		class        forwarder.Class
		reason, hint string
	}{
		{"wrong key", func(c project.Settings) { c["key_file"] = wrong }, forwarder.NeedsUser, "Permission denied (publickey)", "add its public key to authorized_keys on the server"},
		{"too many attempts", func(c project.Settings) { c["key_file"], c["port"] = wrong, strict.Port }, forwarder.NeedsUser, ": Too many authentication failures", "set key_file to the key that the server accepts"},
		{"passphrase", func(c project.Settings) { c["key_file"] = locked }, forwarder.NeedsUser, "it may have a passphrase", `to enter the passphrase, run "localport login"`},
		{"missing key", func(c project.Settings) { c["key_file"] = dir + "/none" }, forwarder.NeedsUser, dir + "/none not accessible: ", "correct key_file, or create the key: " + dir + "/none"},
		{"missing IdentityFile of an option", setOption("IdentityFile", dir+"/none"), forwarder.NeedsUser, dir + "/none not accessible: ", "correct IdentityFile in the ssh config, or create the key: " + dir + "/none"},
		{"missing IdentityFile of the config file", setConfigLine(t, "IdentityFile "+dir+"/none\nUserKnownHostsFile "+server.KnownHosts), forwarder.NeedsUser, dir + "/none not accessible: ", "correct IdentityFile in the ssh config, or create the key: " + dir + "/none"},
		{"key readable by others", func(c project.Settings) { c["key_file"] = bare }, forwarder.NeedsUser, "bad permissions", "chmod 600 " + bare},
		{"key of the ssh config readable by others", setConfigLine(t, "IdentityFile "+bare+"\nUserKnownHostsFile "+server.KnownHosts), forwarder.NeedsUser, "bad permissions", "chmod 600 " + bare},
		{"unreadable format", func(c project.Settings) { c["key_file"] = damaged }, forwarder.NeedsUser, `Load key "` + damaged + `": `, "ssh-keygen -y -f " + damaged},
		{"only the public key", setConfigLine(t, "IdentityFile "+gone+"\nUserKnownHostsFile "+server.KnownHosts), forwarder.NeedsUser, "key file " + gone + " not accessible: ", "restore the private key: " + gone},
		{"unknown host key", setKnownHosts("/dev/null"), forwarder.NeedsUser, "Host key verification failed.", `accept the host's key, run "localport login"`},
		{"bad option", setOption("NoSuchOption", "1"), forwarder.Permanent, "Bad configuration option: nosuchoption", ""},
		{"bad value", setOption("ServerAliveInterval", "often"), forwarder.Permanent, "option ServerAliveInterval: command-line line 0: invalid time value.", "connection.options"},
		{"mistake in the config file", setConfigLine(t, "ServerAliveInterval often"), forwarder.Permanent, "/config line 2: ServerAliveInterval: invalid time value.", `/config -G 127.0.0.1" tries it`},
		{"unknown option in the config file", setConfigLine(t, "NoSuchOption 1"), forwarder.Permanent, "/config: line 2: Bad configuration option: nosuchoption", `/config -G 127.0.0.1" tries it`},
		{"unsupported value in the config file", setConfigLine(t, "StrictHostKeyChecking=maybe"), forwarder.Permanent, `/config line 2: StrictHostKeyChecking: unsupported option "maybe".`, `/config -G 127.0.0.1" tries it`},
		{"mistake without a last word in the config file", setConfigLine(t, "PermitRemoteOpen x"), forwarder.Permanent, "/config line 2: bad port number in permitremoteopen", `/config -G 127.0.0.1" tries it`},
		{"unknown token in the config file", setConfigLine(t, "UserKnownHostsFile /x/%Z"), forwarder.Permanent, "/config line 2: UserKnownHostsFile: vdollar_percent_expand: unknown key %Z", `/config -G 127.0.0.1" shows it`},
		{"unknown token in an option", setOption("ProxyCommand", "nc %Z"), forwarder.Permanent, "option ProxyCommand: vdollar_percent_expand: unknown key %Z", `/config -G 127.0.0.1" shows it`},
		{"empty variable in the config file", setConfigLine(t, "UserKnownHostsFile ${NO_SUCH_VARIABLE}"), forwarder.Permanent, "env var ${NO_SUCH_VARIABLE} has no value", "localport restart"},
		{"warning in the config file", func(c project.Settings) {
			setConfigLine(t, "GSSAPIAuthentication no\nRhostsRSAAuthentication no\nUserKnownHostsFile "+server.KnownHosts)(c)
			c["key_file"], c["options"] = wrong, map[string]string{"IdentityAgent": "none"}
		}, forwarder.NeedsUser, "Permission denied", ""},
		{"config file that others may write", setSharedConfig(t), forwarder.Permanent, "Bad owner or permissions on ", "chmod go-w '"},
		{"address of another machine", setOption("BindAddress", "192.0.2.123"), forwarder.Transient, "bind 192.0.2.123: Cannot assign requested address; ssh: connect to host", ""},
		{"quotes in the config file", setConfigLine(t, `User "x`), forwarder.Permanent, "/config line 2: User: invalid quotes", `/config -G 127.0.0.1" tries it`},
		{"missing config file", func(c project.Settings) { c["config_file"] = dir + "/none" }, forwarder.Permanent, "Can't open user config file", "create the file, or correct config_file: " + dir + "/none; a config_file that differs"},
		{"option as host", func(c project.Settings) { c["host"] = "-oProxyCommand=touch " + dir + "/run" }, forwarder.Permanent, "hostname contains invalid characters", ""},
		{"invalid user", func(c project.Settings) { c["user"] = "a`b" }, forwarder.Permanent, "remote username contains invalid characters", ""},
		{"unknown host name", func(c project.Settings) { c["host"] = "no-such-host.invalid" }, forwarder.Transient, "Could not resolve hostname", ""},
		{"missing ProxyCommand", setOption("ProxyCommand", "no-such-proxy %h"), forwarder.Transient, "no-such-proxy: ", ""},
		{"ProxyCommand that is not executable", setOption("ProxyCommand", writeProxy(t, "#!/bin/sh\n", 0o644)), forwarder.Transient, ": it is not executable; ", "run: chmod +x /"},
		{"ProxyCommand without its interpreter", setOption("ProxyCommand", writeProxy(t, "#!/no/such/python\n", 0o755)), forwarder.Transient, ": the interpreter in its #! line, /no/such/python, does not exist; ", "install python, or "},
		{"ProxyCommand with error", setOption("ProxyCommand", "sh -c 'echo the token has expired >&2; exit 1'"), forwarder.Transient, "the token has expired; ", ""},
		{"ProxyCommand without error", setOption("ProxyCommand", "false"), forwarder.Transient, "the ProxyCommand or jump host ended without an error message", ""},
		{"jump host refuses", setJump(unusedAddr(t)), forwarder.Transient, "Connection refused", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			svc := newService(server, "127.0.0.1:1")
			svc.Connection.Settings["config_file"] = keyless
			if strings.Contains(tt.name, "IdentityFile") || strings.Contains(tt.name, "of the ssh config") || tt.name == "only the public key" {
				svc.Connection.Settings["key_file"] = ""
			}
			tt.change(svc.Connection.Settings)
			f := openFailure(t, svc)
			if f.Class != tt.class || !strings.Contains(f.Reason, tt.reason) || !strings.Contains(f.Hint, tt.hint) {
				t.Errorf("class %v\nreason %q, want %q\nhint %q, want %q", f.Class, f.Reason, tt.reason, f.Hint, tt.hint)
			}
		})
	}
	if _, err := os.Stat(dir + "/run"); err == nil {
		t.Error("the host was interpreted as an option")
	}
}

// ssh-add needs an agent.
func TestDriver_PassphraseHintNamesSSHAddOnlyWithAnAgent(t *testing.T) {
	server := sshd.Start(t)
	locked := sshd.NewKey(t, filepath.Join(t.TempDir(), "lo cked"), "passphrase")
	server.Authorize(locked)
	for _, tt := range []struct{ socket, hint string }{
		{sshd.StartAgent(t), `run "ssh-add '` + locked + `'", then "localport restart"; or, for one login, "localport login"`},
		{filepath.Join(t.TempDir(), "gone"), `to enter the passphrase, run "localport login"`},
	} {
		svc, r := newService(server, "127.0.0.1:1"), newRun(t)
		svc.Connection.Settings["key_file"], svc.Connection.Settings["config_file"] = locked, writeMinimalConfig(t, server)
		r.Env = append(r.Env, AgentVariable+"="+tt.socket)
		if f := openFailure(t, svc, r); f.Hint != tt.hint || !strings.Contains(f.Reason, "the server accepts "+locked+", but") {
			t.Errorf("got %+v, want the hint %q", f, tt.hint)
		}
	}
}

// startSpeaker starts a server that says the same to every client and then ends the connection.
func startSpeaker(t *testing.T, text string) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	servedCh := make(chan struct{})
	go func() {
		defer close(servedCh)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte(text))
			_ = conn.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, conn)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-servedCh })
	return l.Addr().String()
}

// What a server says before the key exchange is never a mistake in the user's configuration.
func TestDriver_GarbageInsteadOfABannerIsTransient(t *testing.T) {
	const hint = "what answers there is not an ssh server"
	for text, tt := range map[string]struct{ reason, hint string }{
		"SSH-garbage contains invalid characters\r\n":                              {"invalid format", hint},
		"SSH-hostname contains invalid characters\r\n":                             {"invalid format", hint},
		"SSH-/x: terminating, 1 bad configuration options\r\n":                     {"invalid format", hint},
		"SSH-Host key verification failed.\r\n":                                    {"invalid format", hint},
		"\x00\x01\x02 hostname\r\n":                                                {"invalid format", hint},
		"SSH-2.0-x\x00\r\n":                                                        {"invalid format", hint},
		"SSH-1.5-Bad configuration option\r\n":                                     {"could not read protocol version", hint},
		"HTTP/1.1 400 Bad Request\r\n\r\nhostname contains invalid characters\r\n": {"closed by", ""},
		"SSH-2.0-x\r\n" + strings.Repeat("x", 100):                                 {"", ""},
	} {
		svc := project.Service{RemotePort: "1"}
		host, port, _ := net.SplitHostPort(startSpeaker(t, text))
		svc.Connection.Settings = project.Settings{"host": host, "port": mustAtoi(t, port), "config_file": "none"}
		f := openFailure(t, svc)
		checkTransient(t, f, tt.reason)
		if !strings.Contains(f.Hint, tt.hint) {
			t.Errorf("%q: hint %q", text, f.Hint)
		}
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func setOption(name, value string) func(project.Settings) {
	return func(c project.Settings) { c["options"] = map[string]string{name: value} }
}

// setConfigLine makes a line the second one of the config file.
func setConfigLine(t *testing.T, line string) func(project.Settings) {
	path := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(path, []byte("Host *\n"+line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return func(c project.Settings) { c["config_file"] = path }
}

// setSharedConfig includes a file that everyone may write.
func setSharedConfig(t *testing.T) func(project.Settings) {
	path := filepath.Join(t.TempDir(), "shared")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o666); err != nil { //nolint:gosec // that is the mistake
		t.Fatal(err)
	}
	return setConfigLine(t, "Include "+path)
}

func setKnownHosts(file string) func(project.Settings) { return setOption("UserKnownHostsFile", file) }

func setJump(addr string) func(project.Settings) {
	return func(c project.Settings) { c["jump"] = addr }
}

func TestDriver_ChangedHostKeyIsPermanentWithHint(t *testing.T) {
	server := sshd.Start(t)
	server.NewHostKey()
	f := openFailure(t, newService(server, "127.0.0.1:1"))
	if f.Class != forwarder.Permanent || !strings.HasPrefix(f.Reason, "REMOTE HOST IDENTIFICATION HAS CHANGED: Host key for [") {
		t.Errorf("got %+v", f)
	}
	for _, part := range []string{"ask the host's administrator", "ssh-keygen -R '[" + server.Host, "-f " + server.KnownHosts} {
		if !strings.Contains(f.Hint, part) {
			t.Errorf("hint %q, want %q", f.Hint, part)
		}
	}
}

func TestDriver_UnreachableServerIsTransient(t *testing.T) {
	server := sshd.Start(t)
	server.Kill()
	checkTransient(t, openFailure(t, newService(server, "127.0.0.1:1")), "Connection refused")
	server.Restart()
	_ = openDirect(t, newService(server, "127.0.0.1:1")).Close()
}

// The directory may be removed while ssh logs in: by a logout, or a cleaner of old files. Here the ProxyCommand removes it.
func TestDriver_RemovedSocketDirectoryIsTransient(t *testing.T) {
	server, r := sshd.Start(t), newRun(t)
	dir := filepath.Dir(r.SocketDir)
	svc := newService(server, "127.0.0.1:1")
	setOption("ProxyCommand", "bash -c 'rm -rf "+dir+"/m*; exec 3<>/dev/tcp/%h/%p; cat <&3 & cat >&3'")(svc.Connection.Settings)
	checkTransient(t, openFailure(t, svc, r), "unix_listener: ")
	_ = openTunnel(t, newService(server, "127.0.0.1:1"), r).Close()
}

func TestTunnel_EndsWhenServerIsKilled(t *testing.T) {
	server := sshd.Start(t)
	tunnel := openDirect(t, newService(server, startBackend(t)))
	conn := dialTunnel(t, tunnel)
	requireWelcome(t, conn)
	server.Kill()
	checkLost(t, tunneltest.WaitFailure(t, tunnel))
}

// checkLost checks the failure of a tunnel whose server was killed.
func checkLost(t *testing.T, f *forwarder.Failure) {
	t.Helper()
	if strings.Contains(f.Reason, "send disconnect: Broken pipe") { // ssh has noticed it while it sent something
		checkTransient(t, f, "client_loop: ")
		return
	}
	checkTransient(t, f, "closed by remote host")
}

func TestTunnel_EndsWhenServerIsFrozen(t *testing.T) {
	server := sshd.Start(t)
	svc := newService(server, startBackend(t))
	svc.Connection.Settings["options"] = map[string]string{"ServerAliveInterval": "1", "ServerAliveCountMax": "1"}
	tunnel := openDirect(t, svc)
	server.Freeze()
	checkTransient(t, tunneltest.WaitFailure(t, tunnel), "Timeout, server 127.0.0.1 not responding")
}

func TestTunnel_EndsWhenSSHIsKilled(t *testing.T) {
	tunnel := openDirect(t, newService(sshd.Start(t), startBackend(t)))
	conn := dialTunnel(t, tunnel)
	requireWelcome(t, conn)
	if err := syscall.Kill(tunnel.master.child.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	checkTransient(t, tunneltest.WaitFailure(t, tunnel), "ssh exited: signal: killed")
}

func TestDriver_OpenFailsWithoutSocketDirectory(t *testing.T) {
	r := newRun(t)
	r.SocketDir += strings.Repeat("/none", 2)
	_, err := driverOf(t).Open(t.Context(), newService(sshd.Start(t), "127.0.0.1:1"), r)
	f, ok := err.(*forwarder.Failure) //nolint:errorlint // it is returned unwrapped
	if !ok || !strings.Contains(f.Reason, "no such file or directory") {
		t.Errorf("got %v", err)
	}
}

func TestDriver_MissingSSHFailureNamesPATH(t *testing.T) {
	r := newRun(t)
	r.Env = append(r.Env, "PATH=/no/where")
	_, err := driverOf(t).Open(t.Context(), project.Service{RemotePort: "1", Connection: project.Connection{Settings: project.Settings{"host": "h"}}}, r)
	f, ok := err.(*forwarder.Failure) //nolint:errorlint // it is returned unwrapped
	if !ok || f.Class != forwarder.NeedsUser || !strings.Contains(f.Reason, "/no/where") ||
		!strings.Contains(f.Hint, "openssh-client") {
		t.Errorf("got %v", err)
	}
}

// What a person changes outside, a key, an accepted host key or the config, is tried by itself, for all services of the destination.
func TestDriver_FailureEndsWhenItsFilesChange(t *testing.T) {
	server := sshd.Start(t)
	stripped := readFile(t, server.ConfigFile)
	for _, line := range []string{"IdentityFile " + server.KeyFile + "\n", "UserKnownHostsFile " + server.KnownHosts + "\n"} {
		if !strings.Contains(stripped, line) {
			t.Fatalf("the config has no line %q", line)
		}
		stripped = strings.ReplaceAll(stripped, line, "")
	}
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct{ name, missing, content string }{
		{"key file", "key", readFile(t, server.KeyFile)},
		{"known hosts", "known_hosts", readFile(t, server.KnownHosts)},
		{"config file", "config", stripped},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			write(filepath.Join(dir, "key"), readFile(t, server.KeyFile))
			write(filepath.Join(dir, "known_hosts"), readFile(t, server.KnownHosts))
			write(filepath.Join(dir, "config"), stripped)
			if err := os.Remove(filepath.Join(dir, tt.missing)); err != nil {
				t.Fatal(err)
			}
			svc := newService(server, "127.0.0.1:1")
			svc.Connection.Settings["key_file"], svc.Connection.Settings["config_file"] = filepath.Join(dir, "key"), filepath.Join(dir, "config")
			svc.Connection.Settings["options"] = map[string]string{"UserKnownHostsFile": filepath.Join(dir, "known_hosts")}
			run := newRun(t)
			failure := openFailure(t, svc, run)
			if failure.Class == forwarder.Transient || failure.AwaitChange == nil {
				t.Fatalf("without the file: %+v", failure)
			}
			if again := openFailure(t, svc, run); again.Reason != failure.Reason {
				t.Errorf("without a change: %+v", again)
			}
			write(filepath.Join(dir, tt.missing), tt.content)
			if !failure.AwaitChange(t.Context()) {
				t.Error("the change was not seen")
			}
			_ = openTunnel(t, svc, run).Close()
		})
	}
}

func TestDescribeMissingConfigFile_UnreadableFile(t *testing.T) {
	f := &forwarder.Failure{Reason: missingConfigFile + "/etc/my: config: Permission denied"}
	if describeMissingConfigFile(f); f.Hint != "make the file readable for you, or correct config_file: /etc/my: config" {
		t.Errorf("hint %q", f.Hint)
	}
}
