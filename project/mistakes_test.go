package project

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func parseConfig(text string) (*Project, error) {
	return Parse(&Files{Root: "/p", Path: "/p/.localport.toml", Config: []byte(text)}, Options{Technologies: BuiltIn, Checks: []CheckType{{Name: "http", Keys: []Key{{Name: "path"}}}, {Name: "redis"}}})
}

func TestParse_SaysWhatToWriteInstead(t *testing.T) {
	const service = "[services.a]\ntechnology = \"tcp\"\nlocal_port = 8080\nremote_port = 80\nconnection = { remote_host = \"h\" }\n"
	for _, test := range []struct{ config, want string }{
		{"[services.a]\ntechnology = tcp\n", `:2:14: text needs quotes: write technology = "tcp"` + "\n    technology = tcp"},
		{"[services.a]\nlocal_port = auto # any\n", `:2:14: text needs quotes: write local_port = "auto"` + "\n    local_port = auto"},
		{"[services.a]\nenabled = True\n", ":2:11: true and false are written in lowercase: write enabled = true"},
		{"[services.a]\npassword = hunter2\n", ":2:12: text needs quotes: write password = \"…\"\n    password = ***"},
		{"services:\n  api:\n", ":1:9: the file must be TOML, not YAML: a service begins with a line such as [services.api]"},
		{"[services.a]\nlocal_port: 8080\n", ":2:11: the file must be TOML, not YAML: write local_port = 8080"},
		{"[services.a]\npassword: hunter2\n", ":2:9: the file must be TOML, not YAML: write password = \"…\"\n    password: ***"},
		{"[api]\ntechnology = \"tcp\"\n", ":1:2: api: unknown key; a service is written as [services.api]"},
		{strings.Replace(service, `"tcp"`, `"k8s"`, 1), `did you mean "kubectl"?`},
		{strings.Replace(service, `"tcp"`, `"redis"`, 1), `redis is a health check: write health_check = { type = "redis" }`},
		{strings.Replace(service, `"tcp"`, `"ssm"`, 1), `see "localport recipes"`},
		{strings.Replace(service, "local_port = 8080\nremote_port = 80", `port = "8080:80"`, 1), "port: unknown key; write local_port = 8080 and remote_port = 80"},
		{strings.Replace(service, "local_port = 8080\nremote_port = 80", `ports = ["127.0.0.1:8080:80"]`, 1), "ports: unknown key; write local_port = 8080 and remote_port = 80"},
		{strings.Replace(service, "8080", `"8080:80"`, 1), "without quotes; write local_port = 8080 and remote_port = 80"},
		{service + "env_file = \".env\"\n", "env_file: unknown key; .env beside the config is read by itself"},
		{service + "health_check = \"http\"\n", `must be a table, not a string; write health_check = { type = "http" }`},
		{service + "health_check = \"often\"\n", "must be a table, not a string"},
		{service + "[services.a.health_check]\ntype = \"http\"\nconfig = { path = \"/\" }\n", "config: unknown key; write its keys in health_check itself"},
		{"version = \"2\"\n", `must be "1", the only supported version`},
	} {
		_, err := parseConfig(test.config)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q:\n%v\nwant %q", test.config, err, test.want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("a secret is shown: %v", err)
		}
	}
	if _, err := parseConfig("version = \"1.0\"\n" + service); err != nil {
		t.Errorf("version 1.0: %v", err)
	}
}

func TestParse_AdvisesAboutWhatHasNoEffect(t *testing.T) {
	p, err := parseConfig("[services.a]\ntechnology = \"tcp\"\nlocal_port = 80\nremote_port = 80\nidle_timeout = \"5m\"\nconnection = { remote_host = \"h\" }\n")
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, d := range p.Advice {
		text.WriteString(d.String() + "\n")
	}
	for _, want := range []string{`:3:14: services.a.local_port: on Linux only root may open ports below 1024: choose a higher one, such as 8080, or "auto"`, `:5:1: services.a.idle_timeout: no effect without start = "on-demand"`} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the advice is %q, want %q", text.String(), want)
		}
	}
}

func TestSplitResource_TakesKubectlsNotation(t *testing.T) {
	for text, want := range map[string]string{"svc/db": "service db", "Deploy/web": "deployment web", "po/x-0": "pod x-0", "sts/x": "statefulset x"} {
		if resourceType, name, ok := SplitResource(text); !ok || resourceType+" "+name != want {
			t.Errorf("%s: %q %q %v", text, resourceType, name, ok)
		}
	}
	for _, text := range []string{"db", "svc/", "/db", "svc/a/b", "cronjob/x", ""} {
		if _, _, ok := SplitResource(text); ok {
			t.Errorf("%q was split", text)
		}
	}
}

// No line makes lineMistake show what a key with the name of a secret holds.
func TestLineMistake_ShowsNoSecret(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SampledFrom([]string{"password", "api_token", "SECRET", "db.password", "private-key"}).Draw(t, "key")
		value := rapid.StringMatching(`[a-zA-Z_~/.:@*$][!-!$-&(-+.-Z^-z|~-]{3,12}`).Draw(t, "value")
		separator := rapid.SampledFrom([]string{" = ", "=", ": "}).Draw(t, "separator")
		message, shown := lineMistake(key+separator+value, rapid.Bool().Draw(t, "isInEnv"))
		if strings.Contains(message+shown, value) && !strings.Contains(key, value) {
			t.Fatalf("%q is shown: %q %q", value, message, shown)
		}
	})
}
