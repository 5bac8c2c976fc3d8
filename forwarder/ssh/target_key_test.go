package ssh

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/project"
)

func TestTargetKey_IsWhatDecidesThatTwoServicesShareAMaster(t *testing.T) {
	config := filepath.Join(t.TempDir(), "config")
	writeConfig := func(text string) {
		t.Helper()
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	writeConfig("Host bastion\n  ProxyCommand nc ${VIA} %p\n  HostName 10.0.0.1\n")
	key := func(dir string, env []string, change func(*project.Service)) []string {
		t.Helper()
		svc := project.Service{Name: "db", RemotePort: "5432", Connection: project.Connection{Settings: project.Settings{
			"host": "bastion", "remote_host": "localhost", "config_file": config, "options": map[string]string{"Compression": "yes"},
		}}}
		if change != nil {
			change(&svc)
		}
		d := newDriver(t.Context())
		defer d.Close()
		key, ok := d.TargetKey(svc, forwarder.Run{Dir: dir, Env: env})
		if ok != (len(key) > 0) {
			t.Errorf("%q, %v", key, ok)
		}
		return key
	}
	set := func(name string, value any) func(*project.Service) {
		return func(svc *project.Service) { svc.Connection.Settings[name] = value }
	}
	option := func(name, value string) func(*project.Service) { return set("options", map[string]string{name: value}) }
	base := key("/a", nil, nil)
	for _, tt := range []struct {
		name   string
		key    []string
		isSame bool
	}{
		{"another project and name", key("/b", nil, func(svc *project.Service) { svc.Name = "postgres" }), true},
		{"another variable that nothing mentions", key("/b", []string{"EDITOR=vi"}, nil), true},
		{"another agent", key("/b", []string{"SSH_AUTH_SOCK=/s"}, nil), true},
		{"another variable that the config mentions", key("/b", []string{"VIA=10.0.0.2"}, nil), false},
		{"another user", key("/b", nil, set("user", "root")), false},
		{"another key", key("/b", nil, set("key_file", "/k")), false},
		{"another remote host", key("/b", nil, set("remote_host", "db.internal")), false},
		{"another remote port", key("/b", nil, func(svc *project.Service) { svc.RemotePort = "5433" }), false},
		{"SOCKS", key("/b", nil, set("socks", true)), false},
	} {
		if slices.Equal(tt.key, base) != tt.isSame || tt.key == nil {
			t.Errorf("%s: %q", tt.name, tt.key)
		}
	}
	if !slices.Equal(key("/a", nil, set("socks", true)), key("/b", nil, set("socks", true))) {
		t.Error("a SOCKS proxy through the same destination is not shared")
	}
	for name, change := range map[string]func(*project.Service){
		"reverse": func(svc *project.Service) { svc.Reverse = true }, "a connection of its own": set("multiplex", false),
	} {
		if got := key("/a", nil, change); got != nil {
			t.Errorf("%s: %q", name, got)
		}
	}

	// A file or program that ssh finds from the project's root is another one in another project.
	for name, change := range map[string]func(*project.Service){
		"key": option("IdentityFile", "keys/id"), "proxy": option("ProxyCommand", "./connect %h"), "parent": option("ProxyCommand", "sh ../connect"),
	} {
		if slices.Equal(key("/a", nil, change), key("/b", nil, change)) {
			t.Errorf("%s: shared by projects in which it is another file", name)
		}
	}
	for name, change := range map[string]func(*project.Service){
		"key": option("IdentityFile", "~/.ssh/id"), "known hosts": option("UserKnownHostsFile", "/dev/null"), "agent": option("IdentityAgent", "none"),
	} {
		if !slices.Equal(key("/a", nil, change), key("/b", nil, change)) {
			t.Errorf("%s: not shared", name)
		}
	}
	writeConfig("Host bastion\n  IdentityFile=./id\n")
	if slices.Equal(key("/a", nil, nil), key("/b", nil, nil)) {
		t.Error("shared by projects in which the config file of ssh names another file")
	}
}
