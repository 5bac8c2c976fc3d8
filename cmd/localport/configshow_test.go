package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/localport-sh/localport/project"
)

const shownTestConfig = `linger = "connections"
[defaults]
connect_timeout = "90s"
[services.db]
technology = "kubectl"
local_port = 5432
remote_port = 5432
connection = { resource_name = "postgres", namespace = "${NS}", context = "${CONTEXT:-staging}" }
health_check = { type = "postgres", user = "app", password = "${DB_PASSWORD}" }
[services.redis]
technology = "ssh"
local_port = 6379
remote_port = 6379
start = "on-demand"
depends_on = ["db"]
connection = { host = "bastion", options = { ServerAliveInterval = 10 } }
[env]
DATABASE_URL = "postgres://app:${DB_PASSWORD}@${db.addr}/shop"
NOWHERE = "${NOT_SET_ANYWHERE}"
PRICE = "5$$"
`

func TestGolden_ConfigShow(t *testing.T) {
	isolateConfigCommands(t)
	t.Setenv("NS", "db")
	dir := t.TempDir()
	writeConfig(t, dir, shownTestConfig)
	for name, text := range map[string]string{".env": "DB_PASSWORD=opensesame\n", ".localport.local.toml": "[services.db]\nlocal_port = 15432\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	code, stdout, stderr := runForResult(t, dir, "config", "show")
	if code != 0 || stderr != "" {
		t.Fatalf("%d\n%s", code, stderr)
	}
	checkGolden(t, "config-show.txt", stdout)
	code, stdout, _ = runForResult(t, dir, "config", "show", "--json", "db")
	var document shownConfig
	if err := json.Unmarshal([]byte(stdout), &document); code != 0 || err != nil || strings.Contains(stdout, "opensesame") {
		t.Fatalf("%d %v\n%s", code, err, stdout)
	}
	origins := map[string]shownOrigin{}
	for _, value := range document.Values {
		if value.Service != "db" {
			t.Errorf("%+v was not asked for", value)
		}
		origins[value.Key] = value.Origin
	}
	if origin := origins["connection.namespace"]; origin.Line != 8 || origin.Kind != "file" || len(origin.Variables) != 1 || origin.Variables[0] != (project.VariableOrigin{Name: "NS"}) {
		t.Errorf("the namespace comes from %+v", origin)
	}
	if origins["start"].Kind != "default" || origins["connect_timeout"].Line != 3 || filepath.Base(origins["local_port"].Path) != ".localport.local.toml" {
		t.Errorf("%+v", origins)
	}
	if code, _, stderr := runForResult(t, dir, "config", "show", "bd"); code != 1 || !strings.Contains(stderr, `unknown service "bd"`) {
		t.Errorf("an unknown service: %d\n%s", code, stderr)
	}
}

func TestConfigSchema_IsTheFile(t *testing.T) {
	want, err := os.ReadFile("../../project/schema.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"config", "schema"}, {"schema"}} {
		if code, stdout, stderr := runForResult(t, t.TempDir(), args...); code != 0 || stdout != string(want) {
			t.Errorf("%q: %d %s", args, code, stderr)
		}
	}
}
