package native

import (
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/kubectl/session"
	"github.com/localport-sh/localport/forwarder/ssh"
	"github.com/localport-sh/localport/forwarder/tcp"
	"github.com/localport-sh/localport/project"
)

var (
	quotedPort       = regexp.MustCompile(`remote_port = (\d+|PORT)`)
	quotedTechnology = regexp.MustCompile(`technology = "\w+" and connection = \{[^}]*\}`)
)

// What the hint about a service without pods says to write is accepted as a config, and leads to the host that the service stands for.
func TestTarget_HintAboutAServiceWithoutPodsIsAConfig(t *testing.T) {
	technologies := []project.TechnologyType{ssh.Technology.TechnologyType, tcp.Technology.TechnologyType}
	for _, tt := range []struct{ service, port, host, wantPort string }{
		{`{"type": "ExternalName", "externalName": "db.example.com"}`, "5432", "db.example.com", ""},
		{`{"type": "ExternalName", "externalName": "db.example.com.", "ports": [{"name": "sql", "port": 5433}]}`, "sql", "db.example.com", "5433"},
		{`{"type": "ExternalName", "externalName": "10.0.0.7"}`, "sql", "10.0.0.7", "PORT"},
		{`{"type": "ExternalName", "externalName": "db.example.com", "ports": [{"port": 5432, "targetPort": 15432}]}`, "5432", "db.example.com", ""},
		{`{"ports": [{"name": "sql", "port": 5432}]}`, "sql", "ADDRESS", "5432"},
		{`{"ports": [{"name": "sql", "port": 5432, "targetPort": 5432}]}`, "5432", "ADDRESS", ""},
		{`{"ports": [{"name": "sql", "port": 80, "targetPort": 9376}]}`, "80", "ADDRESS", "9376"},
		{`{"ports": [{"port": 80, "targetPort": "sql"}]}`, "80", "ADDRESS", "PORT"},
	} {
		hint := checkOwnerHint(t, tt.service, tt.port)
		port := "remote_port = " + tt.port
		if quoted := quotedPort.FindStringSubmatch(hint); quoted != nil || tt.wantPort != "" {
			if quoted == nil || quoted[1] != tt.wantPort {
				t.Fatalf("the hint is %q, want port %s", hint, tt.wantPort)
			}
			port = strings.Replace(quoted[0], "PORT", "1", 1)
		}
		var found []string
		for _, lines := range quotedTechnology.FindAllString(hint, -1) {
			text := "[services.db]\nlocal_port = 15432\n" + port + "\n" + strings.Replace(lines, " and ", "\n", 1) + "\n"
			parsed, err := project.Parse(&project.Files{Root: "/shop", Path: "/shop/.localport.toml", Config: []byte(text)}, project.Options{Technologies: technologies})
			if err != nil {
				t.Errorf("the hint is %s\nthe config is %s\n%v", hint, text, err)
				continue
			}
			svc := parsed.Services[0]
			found = append(found, svc.Technology)
			if host := svc.Connection.Settings.Text("remote_host"); host != tt.host {
				t.Errorf("%s leads to %q", text, host)
			}
		}
		if !slices.Equal(found, []string{"tcp", "ssh"}) {
			t.Errorf("the hint %q names the technologies %q", hint, found)
		}
	}
	for _, host := range []string{"db.shop.svc.cluster.local", "db.shop.svc", "db.shop.svc.cluster.local."} {
		if hint := checkOwnerHint(t, `{"type": "ExternalName", "externalName": "`+host+`"}`, "5432"); hint != `set resource_name = "db" and namespace = "shop"` {
			t.Errorf("%s: the hint is %q", host, hint)
		}
	}
}

// checkOwnerHint is the hint about a service, whose spec is JSON.
func checkOwnerHint(t *testing.T, spec, port string) string {
	t.Helper()
	var o podOwner
	if err := json.Unmarshal([]byte(`{"spec": `+spec+`}`), &o); err != nil {
		t.Fatal(err)
	}
	err := Target{Type: "service", Name: "alias", Port: port}.checkOwner(&o, session.ResourceRef{Resource: "service/alias"})
	failure, ok := errors.AsType[*forwarder.Failure](err)
	if !ok {
		t.Fatalf("%s: %v", spec, err)
	}
	return failure.Hint
}

func TestTarget_SaysWhichPortsThereAre(t *testing.T) {
	pod := parsePods(t, `{"metadata": {"name": "p"}, "spec": {"containers": [{"ports": [{"name": "dns", "containerPort": 53, "protocol": "UDP"}]}]}}`)[0]
	for _, tt := range []struct {
		target Target
		ports  string // of the service
		want   string
	}{
		{Target{Type: "service", Name: "s", Port: "80"}, `[]`, "service s does not have a port 80; it has none"},
		{Target{Type: "service", Name: "s", Port: "80"}, `[{"port": 81}]`, "service s does not have a port 80; it has 81"},
		{Target{Type: "service", Name: "s", Port: "80"}, `[{"port": 80, "protocol": "UDP"}]`, "port 80 of service s is UDP; only TCP can be forwarded"},
		{Target{Type: "deployment", Name: "d", Port: "dns"}, `[]`, "port dns of pod p is UDP; only TCP can be forwarded"},
		{Target{Type: "deployment", Name: "d", Port: "web"}, `[]`, "pod p does not have a port named web; it names dns"},
	} {
		var o podOwner
		if err := json.Unmarshal([]byte(`{"spec": {"ports": `+tt.ports+`}}`), &o); err != nil {
			t.Fatal(err)
		}
		if _, err := tt.target.podPort(pod, &o); err == nil || err.Error() != tt.want {
			t.Errorf("%s, ports %s: %v, want %q", tt.target, tt.ports, err, tt.want)
		}
	}
}
