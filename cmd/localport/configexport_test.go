package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"

	"github.com/localport-sh/localport/forwarder/supervisor"
	"github.com/localport-sh/localport/probe/builtin"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/draft"
)

// exportOptions are options with a few variables, and automatic ports that do not depend on the machine.
func exportOptions() project.Options {
	return project.Options{
		Getenv: func(name string) (string, bool) {
			value, ok := map[string]string{"HOME": "/home/you", "HOST": "far.example", "PW": "0pen-sesame"}[name]
			return value, ok
		},
		Checks: builtin.Types(), Technologies: supervisor.Technologies(), PickAutoPort: func(string) int { return 20001 },
	}
}

// drawConfig returns a valid config without secrets of its own.
func drawConfig(t *rapid.T) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	maybe := func(label, format string, values ...string) {
		if rapid.Bool().Draw(t, label) {
			line(format, rapid.SampledFrom(values).Draw(t, label+" value"))
		}
	}
	text := func(label string) string {
		return draft.Quote(rapid.StringMatching(`[a-zA-Z "\\'#=\n\t\x{e9}\x{1f600}-]{1,12}|\$\{HOME\}/x|\$\$5|yes|null|1|~`).Draw(t, label))
	}
	maybe("version", "version = %s", `"1"`, `"1.0"`)
	maybe("linger", "linger = %s", `"30s"`, "5", "2.5", `"connections"`)
	maybe("metrics", "metrics_port = %s", "19001")
	if rapid.Bool().Draw(t, "defaults") {
		line("[defaults]")
		maybe("default start", "start = %s", `"on-demand"`)
		maybe("default timeout", "health_check.timeout = %s", `"3s"`, "0x4")
		maybe("default user", "connection.user = %s", `"me"`)
	}
	count := rapid.IntRange(0, 4).Draw(t, "services")
	for i := range count {
		line("[services.s-%d]", i)
		port := rapid.SampledFrom([]string{`"auto"`, fmt.Sprint(10000 + i), fmt.Sprintf("1_%04d", i)}).Draw(t, "port")
		line("local_port = %s", port)
		technology := rapid.SampledFrom([]string{"kubectl", "ssh", "tcp", "command"}).Draw(t, "technology")
		line("technology = %q", technology)
		if technology == "command" {
			line(`command = ["run", "{port}", %s]`, text("argument"))
		} else {
			ports := map[string][]string{"kubectl": {"80", `"http"`}, "ssh": {"80"}, "tcp": {"80", `"81"`}}[technology]
			line("remote_port = %s", rapid.SampledFrom(ports).Draw(t, "remote port"))
		}
		switch technology {
		case "kubectl":
			line("connection = { resource_name = \"x\", namespace = %s }", rapid.SampledFrom([]string{`"db"`, `"${HOST}"`}).Draw(t, "namespace"))
		case "ssh":
			line("connection.host = %s", rapid.SampledFrom([]string{`"bastion"`, `"${HOST}"`}).Draw(t, "host"))
			maybe("options", "connection.options = %s", `{ ServerAliveInterval = 10, Compression = true }`)
		case "tcp":
			line("connection.remote_host = %s", rapid.SampledFrom([]string{`"h"`, `"${HOST:-x}"`}).Draw(t, "remote host"))
		}
		maybe("tags", "tags = %s", `["a", "b c"]`, "[]")
		maybe("enabled", "enabled = %s", "true", "false")
		maybe("optional", "optional = %s", "true", "false")
		maybe("local address", "local_address = %s", fmt.Sprintf(`"127.0.0.%d"`, i+2))
		maybe("idle", "start = \"on-demand\"\nidle_timeout = %s", `"5m"`)
		maybe("health", "health_check = %s", `{ type = "none" }`, `{ type = "http", path = "/x", expected_status = [200, 204], headers = { Accept = "a" } }`,
			`{ type = "postgres", password = "${PW}", interval = 10 }`, `{ type = "redis", database = 3 }`)
		maybe("policy", "restart_policy = %s", `{ max_attempts = 3, backoff_multiplier = 1.5 }`)
		if rapid.Bool().Draw(t, "described") {
			line("description = %s", text("description"))
		}
		if i > 0 && rapid.Bool().Draw(t, "depends") {
			line(`depends_on = ["s-0"]`)
		}
	}
	line("[env]")
	for i := range rapid.IntRange(0, 3).Draw(t, "variables") {
		line("V%d = %s", i, text("variable"))
	}
	if count > 0 {
		line(`URL = "postgres://app:${PW}@${s-0.addr}/x"`)
	}
	return b.String()
}

// comparableProject returns what a project does, without where its files say so.
func comparableProject(t fatal, text string) *project.Project {
	p, err := project.Parse(&project.Files{Root: "/shop", Path: "/shop/" + project.ConfigName, Config: []byte(text)}, exportOptions())
	if err != nil {
		t.Fatalf("%s\n%v", text, err)
	}
	for i := range p.Env {
		p.Env[i].Line, p.Env[i].Col = 0, 0
	}
	p.Warnings, p.Advice = nil, nil
	return p
}

type fatal interface {
	Fatalf(format string, args ...any)
}

func TestConfigExport_LoadsAgainAndIsEqual(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := drawConfig(t)
		want := comparableProject(t, text)
		files := &project.Files{Root: "/shop", Path: "/shop/" + project.ConfigName, Config: []byte(text)}
		config, notes, err := configExportCmd{WithDefaults: rapid.Bool().Draw(t, "with defaults")}.export(files, exportOptions())
		if err != nil || len(notes) > 0 {
			t.Fatalf("%s\n%v %q", text, err, notes)
		}
		got := comparableProject(t, config.Text())
		if fmt.Sprint(want.Secrets) != fmt.Sprint(got.Secrets) {
			t.Fatalf("the secrets are %q, want %q", got.Secrets, want.Secrets)
		}
		for i := range want.Services {
			if !reflect.DeepEqual(got.Services[i], want.Services[i]) {
				t.Fatalf("%s\nexported as\n%s\ngot  %+v\nwant %+v", text, config.Text(), got.Services[i], want.Services[i])
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%s\nexported as\n%s\ngot  %+v\nwant %+v", text, config.Text(), got, want)
		}
		var fromJSON, fromYAML any
		if err := json.Unmarshal([]byte(config.JSON()), &fromJSON); err != nil {
			t.Fatalf("%s\n%v", config.JSON(), err)
		}
		if err := yaml.Unmarshal([]byte(config.YAML()), &fromYAML); err != nil {
			t.Fatalf("%s\n%v", config.YAML(), err)
		}
		a, _ := json.Marshal(fromJSON)
		b, _ := json.Marshal(fromYAML)
		if string(a) != string(b) {
			t.Fatalf("JSON and YAML differ:\n%s\n%s", a, b)
		}
	})
}

func TestConfigExport_HasNoSecret(t *testing.T) {
	isolateConfigCommands(t)
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(".env", "DB_PASSWORD=opensesame\nAPI_TOKEN=tokentoken\n")
	write(project.ConfigName, `[services.db]
technology = "tcp"
local_port = 5432
remote_port = 5432
connection = { remote_host = "h" }
health_check = { type = "postgres", password = "hunter2hunter" }
[services.api]
technology = "tcp"
local_port = 8080
remote_port = 80
tags = ["web"]
connection = { remote_host = "h" }
health_check = { type = "http", headers = { Authorization = "Bearer abcdef", Accept = "text/plain" } }
[env]
DATABASE_URL = "postgres://app:s3cr3t@${db.addr}/x"
API_URL = "http://${api.addr}/?t=tokentoken"
REFERENCE = "${DB_PASSWORD}"
`)
	for _, format := range []string{"toml", "yaml", "json"} {
		code, text := runInProcess(t, dir, "config", "export", "--format", format)
		if code != 0 {
			t.Fatalf("%d: %s", code, text)
		}
		for _, secret := range []string{"opensesame", "tokentoken", "hunter2", "abcdef", "s3cr3t"} {
			if strings.Contains(text, secret) {
				t.Errorf("%s is shown:\n%s", secret, text)
			}
		}
		for _, want := range []string{"${DB_PASSWORD}", "${API_AUTHORIZATION}", "postgres://app:${DATABASE_URL_PASSWORD}@${db.addr}/x", "text/plain", "services.db.health_check.password holds a secret"} {
			if !strings.Contains(text, want) {
				t.Errorf("%q is missing:\n%s", want, text)
			}
		}
	}
	code, text := runInProcess(t, dir, "config", "export", "--tag", "web")
	if code != 0 || strings.Contains(text, "[services.db]") || !strings.Contains(text, `env.DATABASE_URL is left out: it refers to service "db"`) {
		t.Errorf("--tag web: %d\n%s", code, text)
	}
	if code, text := runInProcess(t, dir, "config", "export", "--tag", "webs"); code != 1 || !strings.Contains(text, `hint: did you mean "web"?`) {
		t.Errorf("an unknown tag: %d\n%s", code, text)
	}
	code, text = runInProcess(t, dir, "config", "show")
	for _, secret := range []string{"opensesame", "tokentoken", "hunter2", "abcdef", "s3cr3t"} {
		if code != 0 || strings.Contains(text, secret) {
			t.Errorf("%d, or %s is shown:\n%s", code, secret, text)
		}
	}
}

func TestExport_WithoutAShellExportsTheConfig(t *testing.T) {
	w := newTestEnv(t)
	dir := t.TempDir()
	writeConfig(t, dir, backupTestConfig)
	if text := w.mustRun(dir, "export", "--format", "json"); !json.Valid([]byte(text)) {
		t.Errorf("%s", text)
	}
}
