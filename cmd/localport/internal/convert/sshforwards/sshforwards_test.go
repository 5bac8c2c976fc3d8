package sshforwards

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/localport-sh/localport/cmd/localport/internal/convert/converttest"
	"github.com/localport-sh/localport/cmd/localport/internal/convert/goldentest"
	"github.com/localport-sh/localport/forwarder/ssh"
	"github.com/localport-sh/localport/project/draft"
)

// TestConvert_WritesAServicePerForward asks the real ssh about testdata/ssh_config.
func TestConvert_WritesAServicePerForward(t *testing.T) {
	data, err := os.ReadFile("testdata/ssh_config")
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(config, data, 0o600); err != nil { // ssh reads no file that others could write
		t.Fatal(err)
	}
	names, err := ssh.ConfiguredHosts(config)
	if err != nil {
		t.Fatal(err)
	}
	var hosts []Host
	for _, name := range names {
		forwards, err := ssh.ConfiguredForwards(t.Context(), config, name)
		if err != nil {
			t.Fatal(err)
		}
		hosts = append(hosts, Host{name, forwards})
	}
	holder := func(_ string, port int) string { return map[int]string{8200: "another program of this machine"}[port] }
	result := Convert(hosts, "", &draft.LocalPorts{Holder: holder})
	goldentest.Compare(t, "testdata/forwards.toml", result.Text())
	converttest.Parse(t, result.Text(), nil)
}

func TestConvert_WritesValidConfigs(t *testing.T) {
	addresses := []string{"", "localhost", "127.0.0.1", "127.0.0.2", "::1", "*", "0.0.0.0", "10.0.0.1", "db.internal", "web"}
	kinds := []ssh.ForwardKind{ssh.LocalForward, ssh.RemoteForward, ssh.DynamicForward}
	rapid.Check(t, func(t *rapid.T) {
		var hosts []Host
		for _, name := range rapid.SliceOf(rapid.SampledFrom([]string{"bastion", "user@bastion", "10.0.0.9", "a.b.c", "supervisor"})).Draw(t, "hosts") {
			host := Host{Name: name}
			for range rapid.IntRange(0, 3).Draw(t, "forwards") {
				forward := ssh.ConfiguredForward{
					Kind: rapid.SampledFrom(kinds).Draw(t, "kind"), Text: "text",
					ListenHost: rapid.SampledFrom(addresses).Draw(t, "listen host"), ListenPort: rapid.SampledFrom([]int{22, 5432, 1080}).Draw(t, "listen port"),
					Host: rapid.SampledFrom(append(addresses[1:], "socks")).Draw(t, "host"), Port: rapid.SampledFrom([]int{1, 443, 5432}).Draw(t, "port"),
				}
				host.Forwards = append(host.Forwards, forward)
			}
			hosts = append(hosts, host)
		}
		text := Convert(hosts, "", &draft.LocalPorts{}).Text()
		if _, err := converttest.TryParse(text, nil); err != nil {
			t.Fatalf("invalid: %v\n%s", err, strings.TrimSpace(text))
		}
	})
}
