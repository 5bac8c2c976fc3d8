package ssh

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/testdata/sshd"
)

// ssh's own words about such a file are "bad permissions" or "invalid format", or none.
func TestDriver_FileThatIsNoPrivateKeyIsNamed(t *testing.T) {
	server := sshd.Start(t)
	dir := t.TempDir()
	key, lone := sshd.NewKey(t, filepath.Join(dir, "id"), ""), sshd.NewKey(t, filepath.Join(dir, "lone"), "")
	server.Authorize(key)
	server.Authorize(lone)
	if out, err := exec.CommandContext(t.Context(), "ssh-keygen", "-q", "-s", lone, "-I", "me", "-n", server.User, key+".pub").CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
	if err := os.Remove(lone); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		writeConfigFile(t, path, text)
		return path
	}
	if err := os.Mkdir(filepath.Join(dir, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	inside := write("keys/id_ed25519", "")
	public := readFile(t, key+".pub")
	for _, tt := range []struct{ path, kind, hint string }{
		{key + ".pub", "a public key", `set key_file = "` + key + `", the private key next to it`},
		{lone + ".pub", "a public key", "set key_file to the private key that belongs to it; without that file, an agent must have the key"},
		{key + "-cert.pub", "a certificate", `set key_file = "` + key + `", the private key next to it; ssh finds the certificate`},
		{write("k.ppk", "PuTTY-User-Key-File-3: ssh-ed25519\n"), "a key of PuTTY", "puttygen " + dir + "/k.ppk -O private-openssh -o " + dir + "/k; then set key_file = \"" + dir + `/k"`},
		{write("empty", ""), "empty", "ssh-keygen -t ed25519 -f " + dir + "/empty"},
		{filepath.Dir(inside), "a directory", "set key_file to the private key in it: " + inside},
		{write("known_hosts", "# hosts\n[127.0.0.1]:22 "+public), "a list of keys, as known_hosts or authorized_keys", "UserKnownHostsFile"},
		{write("authorized_keys", "no-pty "+public), "a list of keys, as known_hosts or authorized_keys", "set key_file to a private key"},
		{write("cert.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n"), "an X.509 certificate, which ssh does not use", "set key_file to a private key"},
		{write("public.pem", "-----BEGIN RSA PUBLIC KEY-----\nMIIB\n"), "a public key", "set key_file to the private key"},
	} {
		for _, mode := range []os.FileMode{0o600, 0o644} {
			if filepath.Dir(inside) == tt.path {
				mode = 0o700
			}
			if err := os.Chmod(tt.path, mode); err != nil {
				t.Fatal(err)
			}
			svc := newService(server, "127.0.0.1:1")
			svc.Connection.Settings["config_file"], svc.Connection.Settings["key_file"] = writeMinimalConfig(t, server), tt.path
			f := openFailure(t, svc)
			if f.Class != forwarder.NeedsUser || !strings.HasPrefix(f.Reason, "key_file "+tt.path+" is "+tt.kind+"; ") || !strings.Contains(f.Reason, permissionDenied) || !strings.Contains(f.Hint, tt.hint) || strings.Contains(f.Hint, "chmod") {
				t.Errorf("%s, %v: %+v, want %s, hint %s", tt.path, mode, f, tt.kind, tt.hint)
			}
			isPublic := tt.kind == "a public key" || tt.kind == "a certificate" // an agent may have the private key
			if warning := newLogin(svc, "", nil).Warning; strings.Contains(warning, tt.path+" is "+tt.kind) == isPublic {
				t.Errorf("%s: the login warns %q", tt.path, warning)
			}
		}
	}
	svc := newService(server, "127.0.0.1:1")
	svc.Connection.Settings["config_file"], svc.Connection.Settings["key_file"] = writeMinimalConfig(t, server), ""
	setOption("IdentityFile", key+".pub")(svc.Connection.Settings)
	if f := openFailure(t, svc); !strings.HasPrefix(f.Reason, "IdentityFile "+key+".pub is a public key; ") || !strings.Contains(f.Hint, `set IdentityFile = "`+key+`"`) {
		t.Errorf("an option: %+v", f)
	}
}

// A public key as key_file selects that one of the agent's keys.
func TestDriver_PublicKeyOfAnAgentIsNoMistake(t *testing.T) {
	server := sshd.Start(t)
	key := sshd.NewKey(t, filepath.Join(t.TempDir(), "id"), "")
	svc, r := newService(server, "127.0.0.1:1"), newRun(t)
	svc.Connection.Settings["config_file"], svc.Connection.Settings["key_file"] = writeMinimalConfig(t, server), key+".pub"
	r.Env = append(r.Env, AgentVariable+"="+sshd.StartAgent(t, key))
	if f := openFailure(t, svc, r); strings.Contains(f.Reason, "public key;") {
		t.Errorf("not accepted: %+v", f)
	}
	server.Authorize(key)
	r.RequestedAt = time.Now()
	_ = openTunnel(t, svc, r).Close()
}
