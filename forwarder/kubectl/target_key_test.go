package kubectl

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/project"
)

// targetKubeconfig has two contexts. The names of its first one are of no importance.
const targetKubeconfig = `
current-context: NAME
clusters:
- {name: NAME, cluster: {server: "https://one.example:6443", certificate-authority-data: Y2E=}}
- {name: other, cluster: {server: "https://two.example:6443", certificate-authority-data: Y2E=}}
users:
- {name: NAME, user: {token: t1}}
- {name: other-user, user: {token: t2}}
- {name: helper, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: /bin/true, interactiveMode: Never}}}
- {name: guessable, user: {username: u, password: p}}
contexts:
- {name: NAME, context: {cluster: NAME, user: NAME, namespace: shop}}
- {name: other, context: {cluster: other, user: NAME, namespace: shop}}
- {name: other-user, context: {cluster: NAME, user: other-user, namespace: shop}}
- {name: helper, context: {cluster: NAME, user: helper, namespace: shop}}
- {name: guessable, context: {cluster: NAME, user: guessable, namespace: shop}}
- {name: default-namespace, context: {cluster: NAME, user: NAME}}
`

func TestTargetKey_IsWhatChoosesTheServerTheIdentityAndTheResource(t *testing.T) {
	dir := t.TempDir()
	one := writeFile(t, filepath.Join(dir, "one"), strings.ReplaceAll(targetKubeconfig, "NAME", "staging"))
	copied := writeFile(t, filepath.Join(dir, "copied"), strings.ReplaceAll(targetKubeconfig, "NAME", "as-somebody-else-calls-it"))
	key := func(kubeconfig, context string, change func(*project.Service), env ...string) []string {
		t.Helper()
		svc := project.Service{Name: "db", RemotePort: "5432", Connection: project.Connection{Settings: project.Settings{"resource_name": "postgres", "context": context}}}
		if change != nil {
			change(&svc)
		}
		run := forwarder.Run{Dir: t.TempDir(), Env: append([]string{"KUBECONFIG=" + kubeconfig, "PATH=/bin"}, env...)}
		key, ok := newDriver(t).(forwarder.TargetIdentifier).TargetKey(svc, run)
		if ok != (len(key) > 0) {
			t.Errorf("%q, %v", key, ok)
		}
		return key
	}
	base := key(one, "", nil)
	helper := key(one, "helper", nil, "AWS_PROFILE=a")
	for _, tt := range []struct {
		name   string
		key    []string
		isSame bool
	}{
		{"same", key(one, "", nil), true},
		{"other file, other names", key(copied, "", nil), true},
		{"context named", key(one, "staging", nil), true},
		{"other name of the service", key(one, "", func(svc *project.Service) { svc.Name = "postgres" }), true},
		{"other server", key(one, "other", nil), false},
		{"other user", key(one, "other-user", nil), false},
		{"other namespace", key(one, "default-namespace", nil), false},
		{"other resource", key(one, "", func(svc *project.Service) { svc.Connection.Settings["resource_name"] = "redis" }), false},
		{"other port", key(one, "", func(svc *project.Service) { svc.RemotePort = "5433" }), false},
		{"other engine", key(one, "", func(svc *project.Service) { svc.Connection.Settings["engine"] = "kubectl" }), false},
		{"a proxy", key(one, "", nil, "HTTPS_PROXY=http://proxy.example:3128"), false},
	} {
		if slices.Equal(tt.key, base) != tt.isSame || len(tt.key) == 0 {
			t.Errorf("%s: %q", tt.name, tt.key)
		}
	}
	if !slices.Equal(helper, key(copied, "helper", nil, "AWS_PROFILE=a")) || slices.Equal(helper, key(one, "helper", nil, "AWS_PROFILE=b")) {
		t.Error("the profile of a login helper does not decide")
	}
	if got := key(one, "guessable", nil); got != nil {
		t.Errorf("the key of a password is %q", got)
	}
	if got := key(filepath.Join(dir, "missing"), "", nil); got != nil {
		t.Errorf("without a kubeconfig: %q", got)
	}
}

// A service that is shared first and has a tunnel of its own later does not move to another context meanwhile; a restart uses the current one.
func TestTargetKey_FixesTheContextAsOpenDoes(t *testing.T) {
	config := filepath.Join(t.TempDir(), "config")
	use := func(context string) {
		writeFile(t, config, strings.Replace(strings.ReplaceAll(targetKubeconfig, "NAME", "staging"), "current-context: staging", "current-context: "+context, 1))
	}
	use("staging")
	d := newDriver(t).(*driver)
	svc := project.Service{Name: "db", RemotePort: "5432", Connection: project.Connection{Settings: project.Settings{"resource_name": "postgres"}}}
	run := forwarder.Run{Dir: t.TempDir(), Env: []string{"KUBECONFIG=" + config}}
	opened, restarted := run, run
	opened.RequestedAt, restarted.RequestedAt = time.Now(), time.Now().Add(time.Second)
	before, _ := d.TargetKey(svc, opened)
	use("other")
	for name, r := range map[string]forwarder.Run{"that the service has": run, "that is opened later": opened} {
		if now, ok := d.TargetKey(svc, r); !ok || !slices.Equal(now, before) {
			t.Errorf("the key of the tunnel %s is another one now: %q", name, now)
		}
	}
	if location := d.serviceFor(svc).resolveLocation(opened); location.Context != "staging" { // as Open does
		t.Errorf("the tunnel is opened to %v", location)
	}
	if anew, ok := d.TargetKey(svc, restarted); !ok || slices.Equal(anew, before) {
		t.Error("a restart does not use the current context")
	}
}
