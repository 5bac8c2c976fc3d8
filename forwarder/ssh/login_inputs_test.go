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
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/testdata/executable"
	"github.com/localport-sh/localport/testdata/sshd"
)

// runSSHAdd runs ssh-add for the agent at a socket.
func runSSHAdd(t *testing.T, socket, arg string) {
	t.Helper()
	add := exec.CommandContext(t.Context(), "ssh-add", "-q", arg)
	add.Env = append(os.Environ(), AgentVariable+"="+socket)
	if out, err := add.CombinedOutput(); err != nil {
		t.Fatalf("ssh-add %s: %v: %s", arg, err, out)
	}
}

// requireChange returns when what a failure rests on has changed, as it must within 30 s.
func requireChange(t *testing.T, f *forwarder.Failure) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if f.Class != forwarder.NeedsUser || !f.AwaitChange(ctx) {
		t.Fatalf("no change was noticed after %+v", f)
	}
}

// writeProxyConfig writes an ssh_config whose ProxyCommand runs a command during each login, and returns its path.
func writeProxyConfig(t *testing.T, server *sshd.Server, command, options string) string {
	t.Helper()
	host, port, _ := net.SplitHostPort(server.Addr())
	proxy := writeProxy(t, fmt.Sprintf("#!/bin/sh\n%s\nexec ssh -F %s -i %s -p %s -W %s:%s %s@%s\n",
		command, server.ConfigFile, server.KeyFile, port, host, port, server.User, host), 0o755)
	path := filepath.Join(t.TempDir(), "config")
	text := fmt.Sprintf("UserKnownHostsFile %s\nGlobalKnownHostsFile /dev/null\nProxyCommand %s\n%s\n", server.KnownHosts, proxy, options)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A key is away while ssh logs in, and is there before and after: what LocalPort sees is the same at both times.
func TestLoginInputs_KeyThatIsAwayDuringALoginJustifiesAnother(t *testing.T) {
	server := sshd.Start(t)
	dir := t.TempDir()
	key := sshd.NewKey(t, filepath.Join(dir, "key"), "")
	server.Authorize(key)
	agent := sshd.StartAgent(t, key)
	rename := func(from, to string) {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name, remove, keyFile string
		restore               func()
	}{
		{"key of the agent", "ssh-add -q -D", "", func() { runSSHAdd(t, agent, key) }},
		{"agent", "mv " + agent + " " + agent + ".away", "", func() { rename(agent+".away", agent) }},
		{"key file", "mv " + key + " " + key + ".away", key, func() { rename(key+".away", key) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			svc, r := newService(server, startBackend(t)), newRun(t)
			command := "mkdir " + filepath.Join(t.TempDir(), "removed") + " && " + tt.remove // once
			svc.Connection.Settings["config_file"], svc.Connection.Settings["key_file"] = writeProxyConfig(t, server, command, ""), tt.keyFile
			if tt.keyFile == "" {
				r.Env = append(r.Env, AgentVariable+"="+agent)
			}
			f := openFailure(t, svc, r)
			tt.restore()
			requireChange(t, f)
			requireWelcome(t, dialTunnel(t, openTunnel(t, svc, r)))
		})
	}
}

// A command in the config that writes one of the files at each login must not make the server refuse one login after the other.
func TestLoginInputs_FileThatEachLoginWritesAllowsTwoImmediateRetries(t *testing.T) {
	server := sshd.Start(t)
	key := sshd.NewKey(t, filepath.Join(t.TempDir(), "key"), "")
	written := filepath.Join(t.TempDir(), "certificate")
	svc, r := newService(server, startBackend(t)), newRun(t)
	svc.Connection.Settings["key_file"] = key
	svc.Connection.Settings["config_file"] = writeProxyConfig(t, server, "echo >>"+written, "CertificateFile "+written)
	for range immediateRetries {
		requireChange(t, openFailure(t, svc, r))
	}
	f := openFailure(t, svc, r)
	d := driverOf(t).destinationFor(newTunnelSpec(svc), r)
	if _, isJustified := d.readInputs(r); isJustified {
		t.Error("one more login is justified at once")
	}
	if delay := time.Until(d.inputs.retryAt); delay < repeatedChangeDelay.First/2 || delay > repeatedChangeDelay.First {
		t.Errorf("it is justified in %v", delay)
	}
	server.Authorize(key)
	if err := os.WriteFile(key+"-cert.pub", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	requireChange(t, f)
	requireWelcome(t, dialTunnel(t, openTunnel(t, svc, r)))
}

// An agent that a config names counts like that of the environment.
func TestLoginInputs_WatchTheAgentThatTheConfigNames(t *testing.T) {
	for _, form := range []string{"%s", "$OTHER_AGENT"} {
		server := sshd.Start(t)
		key := sshd.NewKey(t, filepath.Join(t.TempDir(), "key"), "")
		server.Authorize(key)
		agent := sshd.StartAgent(t)
		value := strings.ReplaceAll(form, "%s", agent)
		svc, r := newService(server, startBackend(t)), newRun(t)
		svc.Connection.Settings["key_file"] = ""
		svc.Connection.Settings["config_file"] = writeProxyConfig(t, server, ":", "IdentityAgent "+value)
		r.Env = append(r.Env, "OTHER_AGENT="+agent)
		f := openFailure(t, svc, r)
		runSSHAdd(t, agent, key)
		requireChange(t, f)
		requireWelcome(t, dialTunnel(t, openTunnel(t, svc, r)))
	}
}

// What one service of a destination has shown is seen by the others: the server accepts the key by now.
func TestLoginInputs_LoginOfOneServiceEndsTheFailureOfAnother(t *testing.T) {
	server := sshd.Start(t)
	key := sshd.NewKey(t, filepath.Join(t.TempDir(), "key"), "")
	first, second, r := named(newService(server, startBackend(t)), "first"), named(newService(server, startBackend(t)), "second"), newRun(t)
	config := writeMinimalConfig(t, server)
	for _, svc := range []project.Service{first, second} {
		svc.Connection.Settings["config_file"], svc.Connection.Settings["key_file"] = config, key
	}
	_, f := openFailure(t, first, r), openFailure(t, second, r)
	server.Authorize(key)
	requested := r
	requested.RequestedAt = time.Now()
	requireWelcome(t, dialTunnel(t, openTunnel(t, first, requested)))
	requireChange(t, f)
	requireWelcome(t, dialTunnel(t, openTunnel(t, second, r)))
}

// A master is replaced while it logs in, by a restart for example: its failure says nothing about the attempt that is under way.
func TestLoginInputs_FailureOfAReplacedMasterKeepsThoseOfTheAttempt(t *testing.T) {
	d := &destination{configFile: "none"}
	replaced, current := &master{destination: d}, &master{destination: d}
	d.master, d.inputs = current, loginInputs{agents: []agentKeys{{socket: "current"}}}
	d.recordFailure(replaced, &forwarder.Failure{Class: forwarder.NeedsUser})
	if d.lastFailure != nil || len(d.inputs.agents) != 1 || !d.inputs.retryAt.IsZero() {
		t.Errorf("the failure %+v, the inputs %+v", d.lastFailure, d.inputs)
	}
	d.recordFailure(current, &forwarder.Failure{Class: forwarder.NeedsUser})
	if d.lastFailure == nil || d.inputs.retryAt.IsZero() {
		t.Errorf("after its own failure: %+v, the inputs %+v", d.lastFailure, d.inputs)
	}
}

// An ssh that is known to be old is tried without its missing option. When that is forgotten, an attempt takes two, which must not return the
// failure of the last one instead.
func TestLoginInputs_RecheckWithAnOldSSHAsksTheServer(t *testing.T) {
	real, err := exec.LookPath("ssh")
	if err != nil {
		t.Skip("ssh is missing (Debian: openssh-client)")
	}
	path := filepath.Join(t.TempDir(), "ssh")
	if err := executable.WriteFile(path, []byte(strings.ReplaceAll(oldSSHScript, "REAL", real)), 0o700); err != nil {
		t.Fatal(err)
	}
	server := sshd.Start(t)
	key := sshd.NewKey(t, filepath.Join(t.TempDir(), "key"), "")
	svc, r := newService(server, startBackend(t)), newRun(t)
	r.Env = append(r.Env, "PATH="+filepath.Dir(path)+":"+os.Getenv("PATH"))
	svc.Connection.Settings["config_file"], svc.Connection.Settings["key_file"] = writeMinimalConfig(t, server), key
	_ = openFailure(t, svc, r)
	server.Authorize(key)
	d := driverOf(t).destinationFor(newTunnelSpec(svc), r)
	d.oldSSHFoundAt, d.lastAttemptAt = time.Now().Add(-recheckInterval), time.Now().Add(-recheckInterval)
	r.ChangedAt = time.Now()
	requireWelcome(t, dialTunnel(t, openTunnel(t, svc, r)))
}
