package ssh

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/testdata/sshd"
)

func TestDriver_UnknownHostNamesASimilarHostOfTheConfig(t *testing.T) {
	server := sshd.Start(t)
	dir := t.TempDir()
	included := filepath.Join(dir, "included")
	writeConfigFile(t, included, "Host = \"staging-bastion.invalid\" *.example\n\tUser me\n")
	config := filepath.Join(dir, "config")
	writeConfigFile(t, config, "Include "+included+"\nhost prod-bastion.invalid !other.invalid\n\tHostName missing.invalid\nHost jump.invalid\n\tUser me\n")
	meant := func(host string) string {
		return `did you mean "` + host + `", a Host of your ssh config? a host that differs from person to person belongs in .localport.local.toml`
	}
	for _, tt := range []struct{ host, jump, hint string }{
		{"stagin-bastion.invalid", "", meant("staging-bastion.invalid")},
		{"me@prod-basion.invalid", "", meant("prod-bastion.invalid")},
		{"ssh://me@prod-basion.invalid:22", "", meant("prod-bastion.invalid")},
		{"127.0.0.1", "me@jumpp.invalid:22", meant("jump.invalid")},
		{"elsewhere.invalid", "", unresolvedHint},
		{"othr.invalid", "", unresolvedHint},
		{"prod-bastion.invalid", "", unresolvedHint}, // its HostName is wrong
	} {
		svc := newService(server, "127.0.0.1:1")
		settings := svc.Connection.Settings
		settings["config_file"], settings["host"], settings["jump"] = config, tt.host, tt.jump
		delete(settings, "user")
		delete(settings, "port")
		f := openFailure(t, svc)
		if f.Class != forwarder.Transient || !strings.Contains(f.Reason, "Could not resolve hostname") || f.Hint != tt.hint {
			t.Errorf("%s, jump %q: %+v, want the hint %q", tt.host, tt.jump, f, tt.hint)
		}
	}
}

func TestDriver_MissingKeyFileHintsAtTheLocalConfig(t *testing.T) {
	server := sshd.Start(t)
	svc := newService(server, "127.0.0.1:1")
	keyless := filepath.Join(t.TempDir(), "config")
	writeConfigFile(t, keyless, strings.ReplaceAll(readFile(t, server.ConfigFile), "IdentityFile "+server.KeyFile+"\n", ""))
	svc.Connection.Settings["config_file"], svc.Connection.Settings["key_file"] = keyless, keyless+"-none"
	if f := openFailure(t, svc); !strings.Contains(f.Hint, "correct key_file") || !strings.HasSuffix(f.Hint, "; "+project.HintLocal("key file")) {
		t.Errorf("%+v", f)
	}
}

func writeConfigFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
