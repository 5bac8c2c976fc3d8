package ssh

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/testdata/sshd"
)

// A file that only the ssh config names heals a service like one that the service's own config names.
func TestDriver_FailureEndsWhenAFileOfTheSSHConfigChanges(t *testing.T) {
	server := sshd.Start(t)
	jump := server.StartAnother()
	key := readFile(t, server.KeyFile)
	base := "Host *\nGlobalKnownHostsFile /dev/null\nIdentityAgent none\nIdentitiesOnly yes\n"
	hosts := "UserKnownHostsFile " + server.KnownHosts + "\n"
	write := func(path, text string) func(*testing.T) {
		return func(t *testing.T) {
			t.Helper()
			writeConfigFile(t, path, text)
		}
	}
	for name, tt := range map[string]struct {
		config string // DIR is the directory of the files
		setUp  map[string]string
		change func(dir string) func(*testing.T)
	}{
		"a missing key": {
			hosts + "IdentityFile DIR/key", nil,
			func(dir string) func(*testing.T) { return write(dir+"/key", key) },
		},
		"a quoted path": {
			hosts + "IdentityFile=\"DIR/my key\"", nil,
			func(dir string) func(*testing.T) { return write(dir+"/my key", key) },
		},
		"a key named after the host": {
			hosts + "IdentityFile DIR/%h.key", nil,
			func(dir string) func(*testing.T) { return write(dir+"/127.0.0.1.key", key) },
		},
		"a key that others can read": {
			hosts + "IdentityFile DIR/key",
			map[string]string{"key": key},
			func(dir string) func(*testing.T) {
				return func(t *testing.T) {
					t.Helper()
					if err := os.Chmod(dir+"/key", 0o600); err != nil {
						t.Fatal(err)
					}
				}
			},
		},
		"known hosts": {
			"UserKnownHostsFile DIR/hosts\nIdentityFile " + server.KeyFile, nil,
			func(dir string) func(*testing.T) { return write(dir+"/hosts", readFile(t, server.KnownHosts)) },
		},
		"a missing included file": {
			hosts + "Include DIR/more", nil,
			func(dir string) func(*testing.T) { return write(dir+"/more", "IdentityFile "+server.KeyFile) },
		},
		"another included file": {
			hosts + "Include DIR/*.conf",
			map[string]string{"a.conf": "Compression yes\n"},
			func(dir string) func(*testing.T) { return write(dir+"/b.conf", "IdentityFile "+server.KeyFile) },
		},
		"a mistake in an included file of an included file": {
			hosts + "Include DIR/a.conf",
			map[string]string{"a.conf": "Include DIR/b.conf", "b.conf": "Compression perhaps\n"},
			func(dir string) func(*testing.T) { return write(dir+"/b.conf", "IdentityFile "+server.KeyFile) },
		},
		"a ProxyCommand that fails": { // a failure that is retried anyway, but later
			hosts + "IdentityFile " + server.KeyFile + "\nInclude DIR/proxy",
			map[string]string{"proxy": "ProxyCommand false\n"},
			func(dir string) func(*testing.T) { return write(dir+"/proxy", "ProxyCommand none\n") },
		},
		"the jump host's key": {
			hosts + fmt.Sprintf("Host 127.0.0.1\nIdentityFile %s\nProxyJump hop\nHost hop\nHostName localhost\nHostKeyAlias [127.0.0.1]:%d\nPort %[2]d\nUser %s\nIdentityFile DIR/hop", server.KeyFile, jump.Port, jump.User), nil,
			func(dir string) func(*testing.T) { return write(dir+"/hop", key) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := shortDir(t)
			for file, text := range tt.setUp {
				writeConfigFile(t, filepath.Join(dir, file), strings.ReplaceAll(text, "DIR", dir))
				if text == key {
					if err := os.Chmod(filepath.Join(dir, file), 0o644); err != nil {
						t.Fatal(err)
					}
				}
			}
			writeConfigFile(t, filepath.Join(dir, "config"), base+strings.ReplaceAll(tt.config, "DIR", dir)+"\n")
			svc := newService(server, startBackend(t))
			svc.Connection.Settings["config_file"], svc.Connection.Settings["key_file"] = filepath.Join(dir, "config"), ""
			run := newRun(t)
			failure := openFailure(t, svc, run)
			if (failure.Class == forwarder.Transient) != strings.Contains(name, "ProxyCommand") || failure.AwaitChange == nil {
				t.Fatalf("before the change: %+v", failure)
			}
			if again := openFailure(t, svc, run); again.Class != failure.Class || failure.Class != forwarder.Transient && again.Reason != failure.Reason {
				t.Errorf("without a change: %+v", again)
			}
			tt.change(dir)(t)
			if !failure.AwaitChange(t.Context()) {
				t.Error("the change was not seen")
			}
			requireWelcome(t, dialTunnel(t, openTunnel(t, svc, run)))
		})
	}
}

func TestSplitConfigLine(t *testing.T) {
	for line, want := range map[string][]string{
		"":                            nil,
		"  # Include a":               nil,
		"\tIdentityFile ~/a # mine":   {"IdentityFile", "~/a"},
		"IdentityFile=~/a":            {"IdentityFile", "~/a"},
		"identityfile = \"my = key\"": {"identityfile", "my = key"},
		"Include 'a b' c=d\t\"e\"":    {"Include", "a b", "c=d", "e"},
		"Include \"a":                 {"Include"},
		"Include":                     {"Include"},
		`User ""`:                     {"User", ""},
	} {
		if got := splitConfigLine(line); !slices.Equal(got, want) {
			t.Errorf("%q: got %q, want %q", line, got, want)
		}
	}
}

func TestDestination_StampsFilesOfOptionsAndTokens(t *testing.T) {
	dir := t.TempDir()
	run := forwarder.Run{Dir: dir, Env: []string{"KEYS=" + dir}}
	for option, file := range map[string]string{
		"IdentityFile=${KEYS}/a":                 "a",
		"identityfile=b":                         "b-cert.pub",
		"CertificateFile=" + dir + "/100%%":      "100%",
		"UserKnownHostsFile=none " + dir + "/%k": "host[1]",
		"RevokedHostKeys=" + dir + "/[x]%n":      "[x]y",
	} {
		name, value, _ := strings.Cut(option, "=")
		d := &destination{configFile: "none", options: map[string]string{name: value}}
		stamps, _ := d.findInputs(run)
		writeConfigFile(t, filepath.Join(dir, file), "")
		if !stamps.HaveChanged() {
			t.Errorf("%s: %s is not watched", option, file)
		}
	}
}
