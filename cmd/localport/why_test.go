package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/eventlog"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/testdata/cluster"
	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/sshd"
)

// terminalWidth is that of the narrowest terminal for which "why" keeps to its limit of lines.
const terminalWidth = 80

// whyProject is a project whose services fail in known ways.
type whyProject struct {
	*testEnv
	root  string
	names []string // pairs of what differs from run to run, and its placeholder
}

// checkWhy compares what "why" prints of a service with the golden file of its failure class, and checks the limits of the text.
func (p *whyProject) checkWhy(class, service string) {
	p.t.Helper()
	var report whyReport
	if err := json.Unmarshal([]byte(p.mustRun(p.root, "why", service, "--json")), &report); err != nil {
		p.t.Fatal(err)
	}
	var shown, unwrapped bytes.Buffer
	report.print(&shown, terminalWidth)
	report.print(&unwrapped, 0)
	if n := strings.Count(shown.String(), "hint: "); n != 1 {
		p.t.Errorf("why %s: %d hints\n%s", service, n, shown.String())
	}
	if n := strings.Count(shown.String(), "\n"); n > whyLines {
		p.t.Errorf("why %s: %d lines\n%s", service, n, shown.String())
	}
	for line := range strings.Lines(shown.String()) {
		if len([]rune(strings.TrimSpace(line))) > terminalWidth && strings.Contains(strings.TrimSpace(line), " ") {
			p.t.Errorf("why %s: a line of %d columns: %s", service, len(line), line)
		}
	}
	checkGolden(p.t, "why/"+class+".txt", p.normalizeWhy(unwrapped.String()))
}

// healthCounts matches how often a check has had which result, which differs from run to run.
var (
	healthCounts = regexp.MustCompile(`(?m)  health .* ago: .*$`)
	count        = regexp.MustCompile(` \d+(,|$)`)
)

func (p *whyProject) normalizeWhy(text string) string {
	text = strings.NewReplacer(append(p.names, os.Getenv("PATH"), "/usr/bin:/bin", p.root, "/home/you/shop", filepath.Dir(p.root), "/home/you", p.home, "/home/you")...).Replace(text)
	for _, r := range []struct{ pattern, with string }{
		{`projects/[0-9a-f]{16}`, "projects/1"},
		{`\S+/fd/\d+`, "/dev/fd/1"},
		{`pid \d+`, "pid 4711"},
		{`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d`, "15:04:05"},
		{`\d\d:\d\d:\d\d`, "15:04:05"},
		{`\b(for|up|within) (?:\d+m)?\d+(?:\.\d+)?s`, "$1 4s"},
		{`\b\d+[smh] ago`, "4s ago"},
		{`\b\d+(\.\d+)?(ms|µs)\b`, "200µs"},
		{`\b\d+(\.\d+)?s, 4s ago`, "200µs, 4s ago"}, // a check that took less than 50 µs, or seconds
		{`SHA256:[\w+/]+`, "SHA256:abc"},
		{`(attempts by reason: \D+|restarts {2})\d+`, "${1}3"},
		{`\d+ connected, \d+ waiting, \d+ in total`, "0 connected, 1 waiting, 1 in total"},
		{`/tmp/\S+/(id_|user|ssh_config|known_hosts|config)`, "/home/you/.ssh/$1"},
		{`127\.0\.0\.1:(\d+): connect`, "127.0.0.1:5432: connect"},
		{`pod/(web|crashing|unready)-[a-z0-9]+-[a-z0-9]+`, "pod/$1-6b7f-x2x4"},
		{`(?m)^(  event| {11}) +4s ago, pod/(web|crashing|empty).*\n`, ""},                          // which of them there are by now differs
		{`(?m)^  history .*\n(?: {12}15:04:05 .*\n)*`, "  history   15:04:05 stopped → starting\n"}, // a state may have been passed over
		{`pod (web|crashing)-[a-z0-9]+-[a-z0-9]+`, "pod $1-6b7f-x2x4"},
		{`logs (web|crashing)-[a-z0-9]+-[a-z0-9]+`, "logs $1-6b7f-x2x4"},
	} {
		text = regexp.MustCompile(r.pattern).ReplaceAllString(text, r.with)
	}
	return healthCounts.ReplaceAllStringFunc(text, func(line string) string { return count.ReplaceAllString(line, " 3$1") })
}

// port reserves a port, whose number the golden files show as the placeholder.
func (p *whyProject) port(placeholder string) int {
	port := ports.FreePort(p.t)
	p.names = append(p.names, strconv.Itoa(port), placeholder)
	return port
}

// waitError waits until the error of a service contains a text.
func (p *whyProject) waitError(name, want string) {
	p.t.Helper()
	eventually(p.t, name+" fails with "+want, func() bool { return strings.Contains(p.service(p.root, name).LastError, want) })
}

// waitState waits until a service is in a state.
func (p *whyProject) waitState(name string, state forwarder.State) {
	p.t.Helper()
	eventually(p.t, fmt.Sprintf("%s is %s", name, state), func() bool { return p.service(p.root, name).State == state })
}

// commOf returns the content of /proc/PID/comm for a process of a program: the first 15 bytes of its name (proc_pid_comm(5)).
func commOf(program string) string {
	name := filepath.Base(program)
	return name[:min(len(name), 15)]
}

func TestGolden_Why(t *testing.T) {
	t.Parallel()
	p := &whyProject{testEnv: newTestEnv(t)}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	upstream := serve(t, "127.0.0.1:0")
	p.names = append(p.names, strconv.Itoa(upstream.port), "5432", strconv.Itoa(taken.Addr().(*net.TCPAddr).Port), "15439", commOf(p.exe), "program")
	service := func(name, technology, placeholder, rest string) string {
		return fmt.Sprintf("[services.%s]\ntechnology = %q\nlocal_port = %d\n%s\n", name, technology, p.port(placeholder), rest)
	}
	refusedPort := p.port("15440")
	config := service("healthy", "tcp", "15431", fmt.Sprintf(`remote_port = %d
connection.remote_host = "${DB_HOST}"
description = "the ${REGION:-eu} database"
health_check = { interval = "50ms", timeout = "2s" }`, upstream.port)) +
		service("idle", "tcp", "15432", fmt.Sprintf("remote_port = %d\nconnection.remote_host = \"127.0.0.1\"\nstart = \"on-demand\"", upstream.port)) +
		service("disabled", "tcp", "15433", fmt.Sprintf("remote_port = %d\nconnection.remote_host = \"127.0.0.1\"\nenabled = false", upstream.port)) +
		service("refused", "tcp", "15434", fmt.Sprintf("remote_port = %d\nconnection.remote_host = \"127.0.0.1\"", refusedPort)) +
		service("unresolved", "tcp", "15435", "remote_port = 5432\nconnection.remote_host = \"db.shop.invalid\"") +
		service("missing", "command", "15436", `command = ["no-such-tunnel", "{port}"]`) +
		service("exits", "command", "15437", `command = ["sh", "-c", "echo 'tunnel: certificate expired' >&2; exit 3", "{port}"]`) +
		service("silent", "command", "15438", "command = [\"sh\", \"-c\", \"exec sleep 1000\", \"{port}\"]\nconnect_timeout = \"1s\"") +
		service("login", "command", "15441", `command = ["sh", "-c", "echo 'ERROR: reauthentication needed; run: cloud auth login'; exit 1", "{port}"]
needs_login = "auth login"
login = ["true"]`) +
		service("unhealthy", "tcp", "15442", fmt.Sprintf(`remote_port = %d
connection.remote_host = "127.0.0.1"
health_check = { type = "command", command = ["sh", "-c", "echo no such database >&2; exit 1"], interval = "50ms", failure_threshold = 2 }`, upstream.port)) +
		fmt.Sprintf("[services.taken]\ntechnology = \"tcp\"\nlocal_port = %d\nremote_port = %d\nconnection.remote_host = \"127.0.0.1\"\n", taken.Addr().(*net.TCPAddr).Port, upstream.port) +
		service("waiting", "tcp", "15443", fmt.Sprintf("remote_port = %d\nconnection.remote_host = \"127.0.0.1\"\ndepends_on = [\"refused\"]", upstream.port)) +
		service("blocked", "tcp", "15444", fmt.Sprintf("remote_port = %d\nconnection.remote_host = \"127.0.0.1\"\ndepends_on = [\"missing\"]", upstream.port))
	config += service("idlemissing", "command", "15445", "command = [\"no-such-tunnel\", \"{port}\"]\nstart = \"on-demand\"") +
		service("nokey", "ssh", "15446", "remote_port = 5432\nenabled = false\nconnection = { host = \"bastion.invalid\", user = \"deploy\", key_file = \"none/key\" }") +
		service("nokubectx", "kubectl", "15447", "remote_port = 80\nenabled = false\nconnection = { resource_name = \"web\", context = \"stagin\", kubeconfig = \"kube.yaml\" }") +
		service("nohelper", "kubectl", "15448", "remote_port = 80\nstart = \"on-demand\"\nconnection = { resource_name = \"web\", context = \"prod\", kubeconfig = \"kube.yaml\" }")
	p.root = p.project(config)
	p.writeFile(p.root, "kube.yaml", `{apiVersion: v1, kind: Config, clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}], users: [{name: u, user: {token: t}}, `+
		`{name: h, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: no-such-helper, interactiveMode: IfAvailable}}}], `+
		`contexts: [{name: staging, context: {cluster: c, user: u}}, {name: prod, context: {cluster: c, user: h, namespace: shop}}]}`)
	p.writeFile(p.root, ".env", "DB_HOST=127.0.0.1\nDB_PASSWORD=hunter22\n")

	p.checkWhy("not-allowed", "healthy")
	p.mustRun(p.root, "allow")
	p.checkWhy("project-stopped", "refused")
	p.checkWhy("stopped-not-found", "missing")
	if o := p.localport(p.root, "why", "helthy"); o.code != 1 || !strings.Contains(o.stderr, `unknown service "helthy"`) || !strings.Contains(o.stderr, `"healthy"`) {
		t.Errorf("an unknown name: exit %d, %s", o.code, o.stderr)
	}
	p.mustRun(p.root, "start", "--no-wait")
	p.waitState("healthy", forwarder.Healthy)
	p.waitState("idle", forwarder.Idle)
	for name, want := range map[string]string{
		"refused": "connection refused", "unresolved": "no such host", "missing": "no-such-tunnel", "exits": "exit status 3",
		"login": "needs a login", "unhealthy": "no such database", "taken": "in use", "waiting": "refused", "blocked": "missing",
	} {
		p.waitError(name, want)
	}
	p.waitState("exits", forwarder.Restarting)
	p.waitError("silent", "")
	p.checkWhy("command-never-listens", "silent") // first: its attempt ends after half a minute
	for class, service := range map[string]string{
		"healthy": "healthy", "idle": "idle", "disabled": "disabled", "tcp-refused": "refused", "tcp-unresolved": "unresolved",
		"command-not-found": "missing", "command-exits": "exits", "needs-login": "login",
		"idle-not-found": "idlemissing", "stopped-no-key": "nokey", "stopped-no-context": "nokubectx", "idle-no-helper": "nohelper",
		"unhealthy": "unhealthy", "port-taken": "taken", "dependency-waiting": "waiting", "dependency-failed": "blocked",
	} {
		p.checkWhy(class, service)
	}
	if text := p.mustRun(p.root, "why", "--json", "healthy"); strings.Contains(text, "hunter22") {
		t.Errorf("a password is shown: %s", text)
	}
	if text := p.mustRun(p.root, "why", "taken"); !strings.HasPrefix(text, "taken: failed for ") || !strings.Contains(text, "\nhint: stop it") {
		t.Errorf("got\n%s", text)
	}
	p.mustRun(p.root, "stop", "healthy")
	eventually(t, "nothing of the stopped service is ending", func() bool { return !p.document(p.root).service("healthy").Ending })
	p.checkWhy("service-stopped", "healthy")
	p.stopSupervisor(p.root, p.waitKeeper(p.root))
	p.checkWhy("no-answer", "refused")
}

func TestGolden_WhySSH(t *testing.T) {
	t.Parallel()
	p := &whyProject{testEnv: newTestEnv(t)}
	remote := serve(t, "127.0.0.1:0")
	good, changed, forbidding, dead := sshd.Start(t), sshd.Start(t), sshd.Start(t, "AllowTcpForwarding no"), sshd.Start(t)
	changed.NewHostKey()
	dead.Kill()
	for i, host := range []*sshd.Server{good, changed, forbidding, dead} {
		p.names = append(p.names, strconv.Itoa(host.Port), strconv.Itoa(2201+i), filepath.Dir(host.KeyFile), "/home/you/.ssh", filepath.Dir(host.ConfigFile), "/home/you/.ssh")
		p.names = append(p.names, host.User+"@", "deploy@", strconv.Quote(host.User), `"deploy"`)
	}
	p.names = append(p.names, strconv.Itoa(remote.port), "5432", commOf(p.exe), "program")
	wrongKey := sshd.NewKey(t, filepath.Join(t.TempDir(), "id_wrong"), "")
	otherConfig := filepath.Join(filepath.Dir(wrongKey), "other_config")
	if err := os.WriteFile(otherConfig, []byte("UserKnownHostsFile "+good.KnownHosts+"\nGlobalKnownHostsFile /dev/null\nIdentityAgent none\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	unknownHosts := good.WriteClientConfig("UserKnownHostsFile /dev/null")
	p.names = append(p.names, filepath.Dir(wrongKey), "/home/you/.ssh", filepath.Dir(unknownHosts), "/home/you/.ssh")
	p.root = p.allowedProject(sshConfig("healthy", p.port("15431"), good, remote.port) +
		strings.NewReplacer("connection = {", fmt.Sprintf("connection = { key_file = %q,", wrongKey), good.ConfigFile, otherConfig).Replace(sshConfig("wrongkey", p.port("15432"), good, remote.port)) +
		sshConfig("changed", p.port("15433"), changed, remote.port) +
		sshConfig("forbidden", p.port("15434"), forbidding, remote.port) +
		sshConfig("unreachable", p.port("15435"), dead, remote.port) +
		strings.ReplaceAll(sshConfig("unknownhost", p.port("15436"), good, remote.port), good.ConfigFile, unknownHosts))
	p.mustRun(p.root, "start", "--no-wait")
	p.waitState("healthy", forwarder.Healthy)
	p.waitState("wrongkey", forwarder.NeedsAttention)
	p.waitState("changed", forwarder.Failed)
	p.waitError("unreachable", "refused")
	p.waitState("unknownhost", forwarder.NeedsAttention)
	eventually(t, "forwarding is known to be forbidden", func() bool {
		svc := p.service(p.root, "forbidden")
		return svc.State == forwarder.Unhealthy && strings.Contains(svc.LastError, "administratively prohibited") && strings.Contains(svc.Hint, "asked again")
	})
	for class, service := range map[string]string{
		"ssh-healthy": "healthy", "ssh-wrong-key": "wrongkey", "ssh-host-key-changed": "changed", "ssh-forwarding-forbidden": "forbidden",
		"ssh-unreachable": "unreachable", "ssh-unknown-host-key": "unknownhost",
	} {
		p.checkWhy(class, service)
	}
}

func TestGolden_WhyInACluster(t *testing.T) {
	c := cluster.Start(t)
	ns := c.Namespace(t)
	p := &whyProject{testEnv: newTestEnv(t)}
	c.Deploy(t, cluster.Deployment{Name: "web", Namespace: ns, Replicas: 1})
	c.Apply(t, cluster.Deployment{Name: "crashing", Namespace: ns, Args: []string{"-exit-after", "1ms"}}.YAML())
	c.Apply(t, cluster.Deployment{Name: "empty", Namespace: ns}.YAML())
	c.Kubectl(t, "scale", "deployment/empty", "-n", ns, "--replicas=0")
	c.Apply(t, fmt.Sprintf(`{apiVersion: v1, kind: Pod, metadata: {name: stuck, namespace: %s}, spec: {nodeSelector: {no: where}, containers: [{name: c, image: x}]}}`, ns))
	forbidden := c.User(t, "reader", ns)
	expired := c.KubeconfigFor(t, "expired", `{token: "expired-token-123"}`, c.Server())
	dead := c.KubeconfigFor(t, "dead", `{token: "x"}`, fmt.Sprintf("https://127.0.0.1:%d", p.port("6444")))
	p.env = append(p.env, "KUBECONFIG="+c.Kubeconfig())
	p.names = append(p.names, filepath.Dir(c.Kubeconfig()), "/home/you/.kube", ns, "shop", strings.TrimPrefix(c.Server(), "https://127.0.0.1:"), "6443", commOf(p.exe), "program")
	service := func(name, resource, placeholder, namespace, rest string) string {
		kind, object, _ := strings.Cut(resource, "/")
		return fmt.Sprintf("[services.%s]\ntechnology = \"kubectl\"\nlocal_port = %d\nremote_port = 7000\n"+
			"connection = { namespace = %q, resource_type = %q, resource_name = %q%s }\n", name, p.port(placeholder), namespace, kind, object, rest)
	}
	p.root = p.allowedProject(service("healthy", "service/web", "15431", ns, "") +
		service("nopod", "service/empty", "15432", ns, "") +
		service("crashing", "service/crashing", "15433", ns, "") +
		service("stuck", "pod/stuck", "15434", ns, "") +
		service("missing", "service/wbe", "15435", ns, "") +
		service("nonamespace", "service/web", "15436", "shpo", "") +
		service("forbidden", "service/web", "15437", ns, fmt.Sprintf(", kubeconfig = %q", forbidden)) +
		service("expired", "service/web", "15438", ns, fmt.Sprintf(", kubeconfig = %q", expired)) +
		service("unreachable", "service/web", "15439", ns, fmt.Sprintf(", kubeconfig = %q", dead)) +
		service("nocontext", "service/web", "15440", ns, `, context = "staging"`))
	p.mustRun(p.root, "start", "--no-wait")
	p.waitState("healthy", forwarder.Healthy)
	p.waitError("nopod", "has no pods")
	p.waitError("stuck", "Pending")
	p.waitError("missing", "not found")
	p.waitError("nonamespace", "not found")
	p.waitError("forbidden", "forbidden")
	p.waitError("expired", "logged in")
	p.waitError("unreachable", "refused")
	p.waitError("nocontext", "does not exist")
	eventually(t, "what the cluster says of the crashes is shown", func() bool {
		text := p.mustRun(p.root, "why", "crashing")
		return strings.Contains(text, "\n  event ") && strings.Contains(text, "BackOff: Back-off restarting failed container") && strings.Contains(text, "error     pod crashing-")
	})
	for class, service := range map[string]string{
		"kubectl-healthy": "healthy", "kubectl-no-pod": "nopod", "kubectl-pending": "stuck", "kubectl-service-not-found": "missing",
		"kubectl-namespace-not-found": "nonamespace", "kubectl-forbidden": "forbidden", "kubectl-expired-login": "expired",
		"kubectl-unreachable": "unreachable", "kubectl-no-context": "nocontext",
	} {
		p.checkWhy(class, service)
	}
}

func TestWhyReport_KeepsToItsLimitAndKeepsTheHint(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("word ", 100)
	report := whyReport{
		Project: "/home/you/shop", ProjectState: api.StateRunning, Allowed: true, Pending: long, Next: long,
		Service: api.ServiceStatus{
			Name: "db", State: forwarder.Unhealthy, Since: time.Now(), LastError: long, Target: long, Log: "/log", Restarts: 3,
			Health: api.Health{Check: "tcp"}, RestartReasons: map[string]uint64{"not_opened": 2}, Addresses: []string{"127.0.0.1:5432"},
		},
		Ports: []portHolder{{Address: "127.0.0.1:5432", Own: true}},
	}
	for i := range 10 {
		report.Settings = append(report.Settings, project.Setting{Key: fmt.Sprint("key", i), Value: strconv.Quote(long), Origin: project.Origin{Path: "/home/you/shop/.localport.toml", Line: i}})
		report.History = append(report.History, eventlog.Event{Time: time.Now(), Kind: eventlog.StateChanged, From: "healthy", To: "unhealthy", Reason: fmt.Sprint("reason ", i)})
		report.Facts = append(report.Facts, forwarder.Fact{Label: forwarder.EventFact, Text: long})
	}
	for _, width := range []int{40, 80, 200, 0} {
		var b bytes.Buffer
		report.print(&b, width)
		text := b.String()
		if n := strings.Count(text, "\n"); width >= terminalWidth && n > whyLines {
			t.Errorf("%d lines at %d columns:\n%s", n, width, text)
		}
		if hint := strings.Join(strings.Fields(text[strings.Index(text, "hint: "):]), " "); hint != "hint: "+strings.TrimSpace(long) {
			t.Errorf("the hint at %d columns is %q", width, hint)
		}
		if !strings.Contains(text, "error     word") {
			t.Errorf("no error at %d columns:\n%s", width, text)
		}
	}
	report.Service.LastError = "reason 9"
	if got := report.formatHistory(report.History[8]); !strings.HasSuffix(got, " healthy → unhealthy: reason 8") {
		t.Error(got)
	}
	if got := report.formatHistory(report.History[9]); !strings.HasSuffix(got, " healthy → unhealthy") {
		t.Error(got)
	}
}
