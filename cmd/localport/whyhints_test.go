package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/testdata/cluster"
	"github.com/localport-sh/localport/testdata/executable"
	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/sshd"
)

// These tests do what the hint of "localport why" says and nothing else, for each class of failure, and expect that the service recovers.

// hint returns the next step that "why" prints for a service, which must contain a text.
func (p *whyProject) hint(service, want string) string {
	p.t.Helper()
	var report whyReport
	if err := json.Unmarshal([]byte(p.mustRun(p.root, "why", service, "--json")), &report); err != nil {
		p.t.Fatal(err)
	}
	if !strings.Contains(report.Next, want) {
		p.t.Errorf("why %s: the hint is %q, which lacks %q", service, report.Next, want)
	}
	return report.Next
}

var (
	hintedCommand = regexp.MustCompile(`"((?:localport|kubectl|ssh-keygen) [^"]*)"`)
	bareCommand   = regexp.MustCompile(`(?:^|run: )((?:localport|kubectl|ssh-keygen) .*)$`)
)

// runHint runs the command in the hint of a service and returns what it printed. It fails the test if the command fails.
func (p *whyProject) runHint(service, want string) string {
	p.t.Helper()
	hint := p.hint(service, want)
	m := hintedCommand.FindStringSubmatch(hint)
	if m == nil {
		m = bareCommand.FindStringSubmatch(hint)
	}
	if m == nil {
		p.t.Errorf("the hint of %s has no command: %s", service, hint)
		return ""
	}
	cmd := p.command(p.root)
	cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", fmt.Sprintf("localport() { '%s' \"$@\"; }\n%s", p.exe, m[1])}
	o := p.run(cmd)
	if o.code != 0 {
		p.t.Errorf("the hint of %s, %s: exit %d\n%s%s", service, m[1], o.code, o.stdout, o.stderr)
	}
	return o.stdout
}

// addProgram makes a program in the project's directory of programs, which is in PATH, that listens on its last argument.
func (p *whyProject) addProgram(name string) {
	p.t.Helper()
	p.addScript(name, fmt.Sprintf("for port; do :; done\nexec /usr/bin/env -u%s %s=1 '%s' \"$port\"", mainVariable, upstreamVariable, ownExecutable(p.t)))
}

func (p *whyProject) addScript(name, text string) {
	p.t.Helper()
	if err := executable.WriteFile(filepath.Join(p.home, "programs", name), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		p.t.Fatal(err)
	}
}

func newHintProject(t *testing.T) *whyProject {
	p := &whyProject{testEnv: newTestEnv(t)}
	dir := filepath.Join(p.home, "programs")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	p.env = append(p.env, "PATH="+dir+":"+os.Getenv("PATH"))
	return p
}

func TestWhy_FollowedHintsHeal(t *testing.T) {
	t.Parallel()
	p := newHintProject(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	takenPort, refusedPort, upstream := taken.Addr().(*net.TCPAddr).Port, ports.FreePort(t), serve(t, "127.0.0.1:0")
	tcp := func(name string, port, remotePort int, rest string) string {
		return fmt.Sprintf("[services.%s]\ntechnology = \"tcp\"\nlocal_port = %d\nremote_port = %d\nconnection.remote_host = \"127.0.0.1\"\n%s\n", name, port, remotePort, rest)
	}
	command := func(name, argv, rest string) string {
		return fmt.Sprintf("[services.%s]\ntechnology = \"command\"\nlocal_port = %d\ncommand = %s\n%s\n", name, ports.FreePort(t), argv, rest)
	}
	config := tcp("disabled", ports.FreePort(t), upstream.port, "enabled = false") +
		tcp("refused", ports.FreePort(t), refusedPort, "") +
		tcp("waiting", ports.FreePort(t), upstream.port, `depends_on = ["refused"]`) +
		tcp("taken", takenPort, upstream.port, "") +
		tcp("unhealthy", ports.FreePort(t), upstream.port, `health_check = { type = "command", command = ["sh", "-c", "echo no such database >&2; exit 1"], interval = "50ms", failure_threshold = 2 }`) +
		command("missing", `["no-such-tunnel", "{port}"]`, "") +
		tcp("blocked", ports.FreePort(t), upstream.port, `depends_on = ["missing"]`) +
		command("exits", `["sh", "-c", "echo 'tunnel: certificate expired' >&2; exit 3", "{port}"]`, "") +
		command("silent", `["sh", "-c", "echo waiting for the VPN; exec sleep 1000", "{port}"]`, `connect_timeout = "1s"`) +
		command("login", `["sh", "-c", "[ -e logged-in ] || { echo reauthentication needed; exit 1; }; exec any-tunnel \"$0\"", "{port}"]`, "needs_login = \"reauthentication needed\"\nlogin = [\"touch\", \"logged-in\"]") +
		command("idlemissing", `["no-such-idle-tunnel", "{port}"]`, `start = "on-demand"`) +
		fmt.Sprintf("[services.nohelper]\ntechnology = \"kubectl\"\nlocal_port = %d\nremote_port = 80\nstart = \"on-demand\"\n"+
			"connection = { resource_name = \"web\", context = \"prod\", kubeconfig = \"kube.yaml\" }\n", ports.FreePort(t))
	p.addProgram("any-tunnel")
	p.root = p.project(config)
	p.writeFile(p.root, "kube.yaml", `{apiVersion: v1, kind: Config, clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}], users: [`+
		`{name: h, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: no-such-helper, interactiveMode: IfAvailable}}}], contexts: [{name: prod, context: {cluster: c, user: h, namespace: shop}}]}`)
	p.runHint("refused", "localport allow")
	p.hint("refused", "localport start refused")
	p.mustRun(p.root, "start", "--no-wait")
	p.waitError("unhealthy", "no such database")

	p.waitState("disabled", forwarder.Stopped)
	p.runHint("disabled", "localport start disabled")
	p.waitState("disabled", forwarder.Healthy)

	p.waitError("waiting", "refused")
	if text := p.runHint("waiting", "localport why refused"); !strings.HasPrefix(text, "refused: ") {
		t.Errorf("localport why refused prints %s", text)
	}
	p.waitError("refused", "connection refused")
	p.hint("refused", fmt.Sprintf("start the server on 127.0.0.1:%d", refusedPort))
	serve(t, fmt.Sprintf("127.0.0.1:%d", refusedPort))
	p.waitState("refused", forwarder.Healthy)
	p.waitState("waiting", forwarder.Healthy)

	p.waitError("taken", "already in use")
	p.hint("taken", "stop it")
	taken.Close()
	p.waitState("taken", forwarder.Healthy)

	p.waitError("missing", "not found in PATH")
	p.hint("missing", "install it")
	p.hint("blocked", "missing: install it")
	p.hint("idlemissing", "install it")
	p.addProgram("no-such-tunnel")
	p.addProgram("no-such-idle-tunnel")
	p.waitState("missing", forwarder.Healthy)
	p.waitState("blocked", forwarder.Healthy)
	p.hint("idlemissing", "nothing to do")
	if got, err := ask(p.service(p.root, "idlemissing").Address, "you"); err != nil {
		t.Errorf("idlemissing: %q, %v", got, err)
	}

	p.hint("nohelper", "install no-such-helper")
	p.addScript("no-such-helper", "exit 1")
	p.hint("nohelper", "nothing to do")

	p.waitError("exits", "exit status 3")
	if text := p.runHint("exits", "localport logs exits"); !strings.Contains(text, "certificate expired") {
		t.Errorf("the log of exits: %s", text)
	}
	p.waitState("silent", forwarder.Restarting)
	if text := p.runHint("silent", "localport logs silent"); !strings.Contains(text, "waiting for the VPN") {
		t.Errorf("the log of silent: %s", text)
	}

	p.waitState("login", forwarder.NeedsAttention)
	p.runHint("login", "localport login login")
	p.waitState("login", forwarder.Healthy)

	p.hint("unhealthy", "correct the health_check of unhealthy")
	p.writeFile(p.root, ".localport.toml", strings.Replace(config, "echo no such database >&2; exit 1", "exit 0", 1))
	p.mustRun(p.root, "allow")
	p.waitState("unhealthy", forwarder.Healthy)

	p.mustRun(p.root, "stop", "refused")
	p.runHint("refused", "localport start refused")
	p.waitState("refused", forwarder.Healthy)
}

func TestWhySSH_FollowedHintsHeal(t *testing.T) {
	t.Parallel()
	p := newHintProject(t)
	remote := serve(t, "127.0.0.1:0")
	good, changed, forbidding, dead := sshd.Start(t), sshd.Start(t), sshd.Start(t, "AllowTcpForwarding no"), sshd.Start(t)
	changed.NewHostKey()
	dead.Kill()
	wrongKey := sshd.NewKey(t, filepath.Join(t.TempDir(), "id_wrong"), "")
	missingKey := filepath.Join(t.TempDir(), "id_missing")
	otherConfig := filepath.Join(t.TempDir(), "ssh_config")
	if err := os.WriteFile(otherConfig, []byte("UserKnownHostsFile "+good.KnownHosts+"\nGlobalKnownHostsFile /dev/null\nIdentityAgent none\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	withKey := func(name, key string) string {
		text := strings.ReplaceAll(sshConfig(name, ports.FreePort(t), good, remote.port), good.ConfigFile, otherConfig)
		return strings.Replace(text, "connection = {", fmt.Sprintf("connection = { key_file = %q,", key), 1)
	}
	p.root = p.allowedProject(withKey("wrongkey", wrongKey) + withKey("nokey", missingKey) +
		sshConfig("changed", ports.FreePort(t), changed, remote.port) +
		sshConfig("forbidden", ports.FreePort(t), forbidding, remote.port) +
		sshConfig("unreachable", ports.FreePort(t), dead, remote.port))
	p.mustRun(p.root, "start", "--no-wait")

	p.waitState("wrongkey", forwarder.NeedsAttention)
	p.hint("wrongkey", "add its public key to authorized_keys")
	good.Authorize(wrongKey)
	p.runHint("wrongkey", "localport restart wrongkey")
	p.waitState("wrongkey", forwarder.Healthy)

	p.waitError("nokey", missingKey)
	p.hint("nokey", "create the key")
	sshd.NewKey(t, missingKey, "")
	eventually(t, "the key is tried as soon as it exists", func() bool {
		return strings.Contains(p.service(p.root, "nokey").Hint, "add its public key to authorized_keys")
	})
	good.Authorize(missingKey)
	p.runHint("nokey", "localport restart nokey")
	p.waitState("nokey", forwarder.Healthy)

	p.waitError("unreachable", "refused")
	p.hint("unreachable", "start sshd")
	dead.Restart()
	p.waitState("unreachable", forwarder.Healthy)

	p.waitError("forbidden", "administratively prohibited")
	p.hint("forbidden", "AllowTcpForwarding yes")
	forbidding.Reconfigure("AllowTcpForwarding yes")
	p.runHint("forbidden", "localport restart forbidden")
	p.waitState("forbidden", forwarder.Healthy)

	p.waitState("changed", forwarder.Failed)
	p.runHint("changed", "ssh-keygen -R")
	p.waitState("changed", forwarder.NeedsAttention)
	p.hint("changed", `run "localport login"`)
	changed.TrustHostKey()
	p.waitState("changed", forwarder.Healthy)
}

// checkHeals connects to a service, as a user would after the fix, and waits until it is healthy.
func (p *whyProject) checkHeals(service string) {
	p.t.Helper()
	if got, err := ask(p.service(p.root, service).Address, "you"); err != nil {
		p.t.Errorf("%s: %q, %v; why:\n%s", service, got, err, p.mustRun(p.root, "why", service))
	}
	p.waitState(service, forwarder.Healthy)
}

func TestWhyCluster_FollowedHintsHeal(t *testing.T) {
	c := cluster.Start(t)
	ns := c.Namespace(t)
	p := newHintProject(t)
	c.Deploy(t, cluster.Deployment{Name: "web", Namespace: ns, Replicas: 1})
	c.Apply(t, cluster.Deployment{Name: "empty", Namespace: ns}.YAML())
	c.Kubectl(t, "scale", "deployment/empty", "-n", ns, "--replicas=0")
	c.Apply(t, fmt.Sprintf(`{apiVersion: v1, kind: Pod, metadata: {name: stuck, namespace: %s}, spec: {nodeSelector: {no: where}, containers: [{name: c, image: x}]}}`, ns))
	admin, err := os.ReadFile(c.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	// Copies, because other tests use the cluster's own files.
	kubeconfig := func(name, text string) string {
		p.writeFile(p.home, name, text)
		return filepath.Join(p.home, name)
	}
	read := func(path string) string {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	own := kubeconfig("own.kubeconfig", string(admin))
	forbidden := c.User(t, "newcomer", ns)
	expired := kubeconfig("expired.kubeconfig", read(c.KubeconfigFor(t, "expired-hint", `{token: "expired-token-123"}`, c.Server())))
	deadPort := ports.FreePort(t)
	dead := kubeconfig("dead.kubeconfig", strings.ReplaceAll(string(admin), c.Server(), "https://127.0.0.1:"+strconv.Itoa(deadPort)))
	p.env = append(p.env, "KUBECONFIG="+own)
	service := func(name, resource, namespace, rest string) string {
		kind, object, _ := strings.Cut(resource, "/")
		return fmt.Sprintf("[services.%s]\ntechnology = \"kubectl\"\nlocal_port = %d\nremote_port = 7000\n"+
			"connection = { namespace = %q, resource_type = %q, resource_name = %q%s }\n", name, ports.FreePort(t), namespace, kind, object, rest)
	}
	other := ns + "-later"
	p.root = p.allowedProject(service("nopod", "service/empty", ns, "") +
		service("stuck", "pod/stuck", ns, "") +
		service("missing", "service/wbe", ns, "") +
		service("nonamespace", "service/web", other, "") +
		service("forbidden", "service/web", ns, fmt.Sprintf(", kubeconfig = %q", forbidden)) +
		service("expired", "service/web", ns, fmt.Sprintf(", kubeconfig = %q", expired)) +
		service("unreachable", "service/web", ns, fmt.Sprintf(", kubeconfig = %q", dead)) +
		service("nocontext", "service/web", ns, `, context = "staging"`))
	p.mustRun(p.root, "start", "--no-wait")

	p.waitError("nopod", "has no pods")
	p.runHint("nopod", "kubectl get pods")
	c.Kubectl(t, "scale", "deployment/empty", "-n", ns, "--replicas=1")
	p.waitState("nopod", forwarder.Healthy)

	p.waitError("stuck", "Pending")
	if text := p.runHint("stuck", "kubectl describe pod/stuck"); !strings.Contains(text, "FailedScheduling") {
		t.Errorf("kubectl describe prints\n%s", text)
	}

	p.waitError("missing", "not found")
	if text := p.runHint("missing", "kubectl get services"); !strings.Contains(text, "web") {
		t.Errorf("kubectl get services prints\n%s", text)
	}
	c.Apply(t, strings.Replace(c.Kubectl(t, "create", "service", "clusterip", "wbe", "--tcp=7000:7000", "-n", ns, "--dry-run=client", "-o", "yaml"), "app: wbe", "app: web", 2))
	p.checkHeals("missing")

	p.waitError("nonamespace", "not found")
	p.runHint("nonamespace", "kubectl get namespaces")
	c.Kubectl(t, "create", "namespace", other)
	t.Cleanup(func() { c.Kubectl(t, "delete", "namespace", other, "--wait=false") })
	c.Deploy(t, cluster.Deployment{Name: "web", Namespace: other, Replicas: 1})
	p.checkHeals("nonamespace")

	p.waitError("forbidden", "forbidden")
	p.runHint("forbidden", "kubectl auth can-i --list")
	c.User(t, "newcomer", ns, `{apiGroups: [""], resources: [pods, services, endpoints], verbs: [get, list, watch]}`, `{apiGroups: [""], resources: [pods/portforward], verbs: [get, create]}`)
	p.waitState("forbidden", forwarder.Healthy)

	p.waitError("expired", "logged in")
	p.hint("expired", "log in to the cluster again, or correct its user in the kubeconfig")
	kubeconfig("expired.kubeconfig", string(admin))
	p.waitState("expired", forwarder.Healthy)

	p.waitError("unreachable", "refused")
	p.hint("unreachable", "kubectl cluster-info")
	kubeconfig("dead.kubeconfig", string(admin))
	p.waitState("unreachable", forwarder.Healthy)

	p.waitError("nocontext", "does not exist")
	p.hint("nocontext", "contexts: test")
	kubeconfig("own.kubeconfig", strings.Replace(string(admin), "contexts:\n", "contexts:\n- name: staging\n  context: {cluster: test, user: test}\n", 1))
	p.waitState("nocontext", forwarder.Healthy)
}
