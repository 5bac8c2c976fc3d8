package ssh

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/localport-sh/localport/testdata/sshd"
)

func TestUseDefaults_LoseAgainstEveryOtherSource(t *testing.T) {
	if _, err := exec.LookPath("ssh"); err != nil {
		t.Skip("ssh is missing (Debian: openssh-client)")
	}
	for name, tt := range map[string]struct {
		config  string // of the config file; "-" is for none
		options map[string]string
		want    []string
	}{
		"nothing is set":     {"", nil, []string{"serveraliveinterval 15", "serveralivecountmax 3", "connecttimeout 30"}},
		"no config file":     {"-", nil, []string{"serveraliveinterval 15", "serveralivecountmax 3", "connecttimeout 30"}},
		"a config file":      {"Host h\n ServerAliveInterval 60\n ConnectTimeout 7\n", nil, []string{"serveraliveinterval 60", "serveralivecountmax 3", "connecttimeout 7"}},
		"switched off":       {"ServerAliveInterval 0\n", nil, []string{"serveraliveinterval 0"}},
		"of another host":    {"Host other\n ServerAliveInterval 60\n", nil, []string{"serveraliveinterval 15"}},
		"the last block":     {"Host *\n ServerAliveCountMax 9\n", nil, []string{"serveraliveinterval 15", "serveralivecountmax 9"}},
		"the service":        {"ServerAliveInterval 60\n", map[string]string{"ServerAliveInterval": "5"}, []string{"serveraliveinterval 5"}},
		"the service's none": {"", map[string]string{"ConnectTimeout": "none"}, []string{"connecttimeout none"}},
	} {
		for _, dirName := range []string{"plain", `it's "my" $HOME %d é`} {
			t.Run(name+" in "+dirName, func(t *testing.T) {
				configDir, runDir := filepath.Join(t.TempDir(), dirName), shortDir(t)
				if err := os.Mkdir(configDir, 0o700); err != nil {
					t.Fatal(err)
				}
				svc := newService(&sshd.Server{Host: "h"}, "localhost:1")
				switch file := filepath.Join(configDir, "config"); tt.config {
				case "-":
					svc.Connection.Settings["config_file"] = "none"
				default:
					if err := os.WriteFile(file, []byte(tt.config), 0o600); err != nil {
						t.Fatal(err)
					}
					svc.Connection.Settings["config_file"] = file
				}
				svc.Connection.Settings["options"] = tt.options
				argv, _, err := useDefaults(newTunnelSpec(svc).baseArgv(), runDir, defaultOptions(30*time.Second))
				if err != nil {
					t.Fatal(err)
				}
				out, err := exec.CommandContext(t.Context(), "ssh", slices.Insert(argv[1:], 0, "-G")...).CombinedOutput()
				if err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				for _, line := range tt.want {
					if !slices.Contains(strings.Split(string(out), "\n"), line) {
						t.Errorf("%q is missing in the output of %q:\n%s", line, argv, out)
					}
				}
			})
		}
	}
}

// shortDir returns a directory whose path needs no quoting.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lp") //nolint:usetesting // the test's name must not be part of it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// ssh itself says what is wrong with a config file that is not included.
func TestUseDefaults_LeavesABadConfigFileToSSH(t *testing.T) {
	svc := newService(&sshd.Server{Host: "h"}, "localhost:1")
	svc.Connection.Settings["config_file"] = "/no/such/file"
	argv, _, err := useDefaults(newTunnelSpec(svc).baseArgv(), shortDir(t), defaultOptions(10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if i := slices.Index(argv, "-F"); argv[i+1] != "/no/such/file" || !slices.Contains(argv, "ConnectTimeout=10") || argv[len(argv)-1] != "h" {
		t.Errorf("got %q", argv)
	}
}

// A file of a repository may be writable by a group: ssh accepts that of a file that -F names, but not of one that another includes.
func TestUseDefaults_AcceptsAConfigFileThatAGroupCanWrite(t *testing.T) {
	server := sshd.Start(t)
	svc := newService(server, startBackend(t))
	if err := os.Chmod(server.ConfigFile, 0o664); err != nil {
		t.Fatal(err)
	}
	requireWelcome(t, dialTunnel(t, openDirect(t, svc)))
}

func TestCanBeIncluded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[os.FileMode]bool{0o600: true, 0o644: true, 0o444: true, 0o620: false, 0o602: false} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := canBeIncluded(info); got != want {
			t.Errorf("mode %o: got %t, want %t", mode, got, want)
		}
	}
	if os.Getuid() == 0 {
		if err := os.Chown(path, 65534, 0); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || canBeIncluded(info) {
			t.Errorf("a file of another user: %v", err)
		}
	}
}

func TestIncludedFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "b1", "b2"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config := filepath.Join(dir, "config")
	text := strings.ReplaceAll("Host x\n\tinclude = \"DIR/b*\"\n# Include DIR/c\nInclude DIR/a DIR/missing\nIncluded DIR/a\nInclude localport-test-missing\n", "DIR", dir)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	want := []string{filepath.Join(dir, "b1"), filepath.Join(dir, "b2"), filepath.Join(dir, "a")}
	if got := includedFiles(config); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestDestination_WaitsLongerForASlowProxyCommand(t *testing.T) {
	server := sshd.Start(t)
	host, port, _ := net.SplitHostPort(server.Addr())
	svc := newService(server, startBackend(t))
	svc.Connection.Settings["config_file"] = server.WriteClientConfig(
		"Host *", fmt.Sprintf("ProxyCommand sh -c 'sleep 2.2; exec ssh -F %s -i %s -p %s -W %s:%s %s@%s'", server.ConfigFile, server.KeyFile, port, host, port, server.User, host))
	r := newRun(t)
	d := driverOf(t).destinationFor(newTunnelSpec(svc), r)
	d.nextLogin.connectTimeout = 2 * time.Second
	checkTransient(t, openFailure(t, svc, r), "timed out during banner exchange")
	r.RequestedAt = time.Now()
	requireWelcome(t, dialTunnel(t, openTunnel(t, svc, r)))
}
