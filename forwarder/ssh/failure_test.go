package ssh

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/testdata/sshd"
)

func TestFailedLoginsSayWhatToDo(t *testing.T) {
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
	keyless := filepath.Join(dir, "config")
	stripped := strings.ReplaceAll(read(t, server.ConfigFile), "IdentityFile "+server.KeyFile+"\n", "")
	if err := os.WriteFile(keyless, []byte(stripped), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name         string
		change       func(project.Settings)
		class        forwarder.Class
		reason, hint string
	}{
		{"wrong key", func(c project.Settings) { c["key_file"] = wrong }, forwarder.ByAttention, "Permission denied (publickey)", "localport login"},
		{"passphrase", func(c project.Settings) { c["key_file"] = locked }, forwarder.ByAttention, "which has a passphrase", "ssh-add " + locked + ", then: localport restart; or for this time: localport login"},
		{"missing key", func(c project.Settings) { c["key_file"] = dir + "/none" }, forwarder.ByAttention, dir + "/none not accessible: ", ""},
		{"open key", func(c project.Settings) { c["key_file"] = bare }, forwarder.ByAttention, "bad permissions", "chmod 600 " + bare},
		{"unknown host", known("/dev/null"), forwarder.ByAttention, "Host key verification failed.", "accept it: localport login"},
		{"bad option", option("NoSuchOption", "1"), forwarder.Permanent, "Bad configuration option: nosuchoption", ""},
		{"bad value", option("ServerAliveInterval", "often"), forwarder.Permanent, "command-line line 0", ""},
		{"no config", func(c project.Settings) { c["config_file"] = dir + "/none" }, forwarder.Permanent, "Can't open user config file", ""},
		{"an option for a host", func(c project.Settings) { c["host"] = "-oProxyCommand=touch " + dir + "/run" }, forwarder.Permanent, "invalid characters", ""},
		{"unknown name", func(c project.Settings) { c["host"] = "no-such-host.invalid" }, forwarder.Transient, "Could not resolve hostname", ""},
		{"a way that is not there", option("ProxyCommand", "no-such-proxy %h"), forwarder.Transient, "no-such-proxy: ", ""},
		{"a way that says why", option("ProxyCommand", "sh -c 'echo the token has expired >&2; exit 1'"), forwarder.Transient, "the token has expired; ", ""},
		{"a way that says nothing", option("ProxyCommand", "false"), forwarder.Transient, "the ProxyCommand or jump host gave up without a word", ""},
		{"jump host refuses", jump(refusing(t)), forwarder.Transient, "Connection refused", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			svc := service(server, "127.0.0.1:1")
			svc.Connection.Settings["config_file"] = keyless
			tt.change(svc.Connection.Settings)
			f := fails(t, svc)
			if f.Class != tt.class || !strings.Contains(f.Reason, tt.reason) || !strings.Contains(f.Hint, tt.hint) {
				t.Errorf("class %v\nreason %q, want %q\nhint %q, want %q", f.Class, f.Reason, tt.reason, f.Hint, tt.hint)
			}
		})
	}
	if _, err := os.Stat(dir + "/run"); err == nil {
		t.Error("a host was taken for an option")
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func option(name, value string) func(project.Settings) {
	return func(c project.Settings) { c["options"] = map[string]string{name: value} }
}

func known(file string) func(project.Settings) { return option("UserKnownHostsFile", file) }

func jump(addr string) func(project.Settings) {
	return func(c project.Settings) { c["jump"] = addr }
}

func TestChangedHostKeyIsPermanentAndNamesTheWayOut(t *testing.T) {
	server := sshd.Start(t)
	server.NewHostKey()
	f := fails(t, service(server, "127.0.0.1:1"))
	if f.Class != forwarder.Permanent || !strings.HasPrefix(f.Reason, "REMOTE HOST IDENTIFICATION HAS CHANGED: Host key for [") {
		t.Errorf("got %+v", f)
	}
	for _, part := range []string{"ask whoever runs the host", "ssh-keygen -R '[" + server.Host, "-f " + server.KnownHosts} {
		if !strings.Contains(f.Hint, part) {
			t.Errorf("hint %q, want %q", f.Hint, part)
		}
	}
}

func TestServerThatIsNotThereIsTransient(t *testing.T) {
	server := sshd.Start(t)
	server.Kill()
	transient(t, fails(t, service(server, "127.0.0.1:1")), "Connection refused")
	server.Restart()
	_ = open(t, service(server, "127.0.0.1:1")).Close()
}

// The directory may be removed while ssh logs in: by a logout, or a cleaner of old files. The ProxyCommand is when.
func TestSocketsDirectoryThatVanishesIsTransient(t *testing.T) {
	server, r := sshd.Start(t), run(t)
	dir := filepath.Dir(r.Sockets)
	svc := service(server, "127.0.0.1:1")
	option("ProxyCommand", "bash -c 'rm -rf "+dir+"/m*; exec 3<>/dev/tcp/%h/%p; cat <&3 & cat >&3'")(svc.Connection.Settings)
	transient(t, fails(t, svc, r), "unix_listener: ")
	_ = openIn(t, service(server, "127.0.0.1:1"), r).Close()
}

func TestKilledServerEndsTheTunnel(t *testing.T) {
	server := sshd.Start(t)
	tunnel := open(t, service(server, backend(t)))
	conn := dial(t, tunnel)
	welcome(t, conn)
	server.Kill()
	transient(t, ended(t, tunnel), "closed by remote host")
}

func TestFrozenServerIsNoticed(t *testing.T) {
	server := sshd.Start(t)
	svc := service(server, backend(t))
	svc.Connection.Settings["options"] = map[string]string{"ServerAliveInterval": "1", "ServerAliveCountMax": "1"}
	tunnel := open(t, svc)
	server.Freeze()
	transient(t, ended(t, tunnel), "Timeout, server 127.0.0.1 not responding")
}

func TestKilledSSHEndsTheTunnel(t *testing.T) {
	tunnel := open(t, service(sshd.Start(t), backend(t)))
	conn := dial(t, tunnel)
	welcome(t, conn)
	if err := syscall.Kill(tunnel.master.child.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	transient(t, ended(t, tunnel), "ssh ended: signal: killed")
}

func TestSocketThatCannotBeMadeIsAnError(t *testing.T) {
	r := run(t)
	r.Sockets += strings.Repeat("/none", 2)
	_, err := driverOf(t).Open(t.Context(), service(sshd.Start(t), "127.0.0.1:1"), r)
	f, ok := err.(*forwarder.Failure) //nolint:errorlint // it is returned as it is
	if !ok || !strings.Contains(f.Reason, "no such file or directory") {
		t.Errorf("got %v", err)
	}
}

func TestMissingSSHNamesThePathSearched(t *testing.T) {
	r := run(t)
	r.Env = append(r.Env, "PATH=/no/where")
	_, err := driverOf(t).Open(t.Context(), project.Service{RemotePort: "1", Connection: project.Connection{Settings: project.Settings{"host": "h"}}}, r)
	f, ok := err.(*forwarder.Failure) //nolint:errorlint // it is returned as it is
	if !ok || f.Class != forwarder.ByAttention || !strings.Contains(f.Reason, "/no/where") ||
		!strings.Contains(f.Hint, "openssh-client") {
		t.Errorf("got %v", err)
	}
}
