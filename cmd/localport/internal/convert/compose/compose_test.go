package compose

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"pgregory.net/rapid"

	"github.com/localport-sh/localport/cmd/localport/internal/convert/converttest"
	"github.com/localport-sh/localport/cmd/localport/internal/convert/goldentest"
	"github.com/localport-sh/localport/cmd/localport/internal/convert/yamlfile"
)

func readExample(t *testing.T) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestConvert_WritesServicesWithChecksAndVariables(t *testing.T) {
	result, err := Convert("compose.yml", readExample(t))
	if err != nil {
		t.Fatal(err)
	}
	goldentest.Compare(t, "testdata/compose.toml", result.Text())
	parsed := converttest.Parse(t, result.Text(), nil)
	for _, secret := range []string{"hunter2", "s3cret", "cachepass", "$rabbit"} {
		if strings.Contains(result.Text(), secret) {
			t.Errorf("the secret %q was copied", secret)
		}
	}
	for _, svc := range parsed.Services {
		if !svc.AutoPort {
			t.Errorf("%s has a fixed port, which docker's would clash with", svc.Name)
		}
	}
}

// TestConvert_FindsThePortsThatComposePublishes compares with compose's own reader of its files.
func TestConvert_FindsThePortsThatComposePublishes(t *testing.T) {
	data := readExample(t)
	env := map[string]string{"PG_PORT": "15432", "UNKNOWN": "", "POSTGRES_PASSWORD": "x"}
	composed, err := loader.LoadWithContext(context.Background(), types.ConfigDetails{
		WorkingDir: t.TempDir(), ConfigFiles: []types.ConfigFile{{Filename: "compose.yml", Content: data}}, Environment: env,
	}, func(o *loader.Options) {
		o.SetProjectName("shop", true)
		o.Profiles = []string{"*"}
		o.SkipResolveEnvironment = true
	})
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, svc := range composed.Services {
		for _, port := range svc.Ports {
			if number, err := strconv.Atoi(port.Published); err == nil && port.Protocol == "tcp" {
				want = append(want, fmt.Sprint(number))
			}
		}
	}
	result, err := Convert("compose.yml", data)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, svc := range converttest.Parse(t, result.Text(), env).Services {
		got = append(got, svc.RemotePort)
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("got the ports %v, compose publishes %v", got, want)
	}
}

func TestConvert_RejectsOtherFiles(t *testing.T) {
	for _, text := range []string{"", "services: [a]", "- 1", "services: {", "version: '3'"} {
		if _, err := Convert("compose.yml", []byte(text)); err == nil || !strings.HasPrefix(err.Error(), "compose.yml:") {
			t.Errorf("%q: got error %v, want one that names the file", text, err)
		}
	}
}

func TestConvert_SaysWhichFormIsExpected(t *testing.T) {
	const neither = "neither a compose file nor a localport.yaml: "
	for text, want := range map[string]string{
		"":                                  "compose.yml: " + neither + "it is empty",
		"a\n":                               "compose.yml:1: " + neither + "it is a single value instead of a mapping",
		"# x\n- a\n":                        "compose.yml:2: " + neither + "it is a list instead of a mapping",
		"version: '3'\nservics:\n  a: {}\n": "compose.yml:2: " + neither + `it has no "services"` + `; did you mean "services" instead of "servics"?`,
		"foo: 1\n":                          "compose.yml: " + neither + `it has no "services"; name another file`,
		"\nservices:\n":                     "compose.yml:2: " + neither + `its "services" is empty`,
		"services: a\n":                     "compose.yml:1: " + neither + `its "services" is a single value`,
		"services:\n  db:\n    technology: ssh\n": `compose.yml:2: a localport.yaml has a list of services, not keys with their names; write "- name: db" instead of "db:", and so for each service`,
		"services:\n\tdb:\n":                      "compose.yml:2: a tab in the indentation: YAML allows only spaces there; replace each tab by spaces",
	} {
		_, err := Convert("compose.yml", []byte(text))
		format, ok := errors.AsType[*yamlfile.FormatError](err)
		if !ok || !strings.HasPrefix(err.Error()+"; "+format.Advice, want) || format.Advice == "" {
			t.Errorf("%q: %v; %+v", text, err, format)
		}
	}
}

// TestKeys_AreThoseOfCompose compares them with those that compose itself reads.
func TestKeys_AreThoseOfCompose(t *testing.T) {
	for _, c := range []struct {
		config any
		keys   []string
	}{{types.ServiceConfig{}, serviceKeys()}, {types.Project{}, rootKeys()}} {
		config := reflect.TypeOf(c.config)
		for field := range config.Fields() {
			name, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
			if name != "" && name != "-" && name != "#extensions" && name != "name" && !slices.Contains(c.keys, name) {
				t.Errorf("%s: %s is missing", config.Name(), name)
			}
		}
	}
}

func TestConvert_ReportsValuesOfTheWrongKind(t *testing.T) {
	result, err := Convert("compose.yml", []byte(`prots: 1
x-mine: 1
services:
  web: nginx
  api:
    image: y
    ports: 8080:80
    environmnt: {A: b}
    environment: A
    depends_on: web
    profiles: {a: b}
    healthcheck: [a]
    image: z
  db:
    ports: ["x:80", "70000:80", "8080:abc", [1], null]
`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, finding := range result.Findings {
		got = append(got, finding.String())
	}
	want := []string{
		"compose.yml:1: prots: was not read: compose has no such key",
		"compose.yml:4: services.web: left out: it must be a mapping with keys such as image and ports; it is a single value",
		`compose.yml:8: services.api.environmnt: was not read: compose has no such key; did you mean "environment"?`,
		"compose.yml:13: services.api.image: was not read: line 6 has this key already",
		`compose.yml:7: services.api.ports: was not read: it must be a list; it is a single value; write - "8080:80" below it`,
		"compose.yml:9: services.api.environment: was not read: it must be a list or a mapping; it is a single value; write NAME: value below it",
		"compose.yml:10: services.api.depends_on: was not read: it must be a list or a mapping; it is a single value; write - NAME below it",
		"compose.yml:11: services.api.profiles: was not read: it must be a list; it is a mapping; write - NAME below it",
		"compose.yml:12: services.api.healthcheck: was not read: it must be a mapping; it is a list; write test: … below it",
		`compose.yml:15: services.db.ports: left out: "x" is not a port from 1 to 65535`,
		`compose.yml:15: services.db.ports: left out: "70000" is not a port from 1 to 65535`,
		`compose.yml:15: services.db.ports: left out: not a port; write "HOST:CONTAINER", such as "8080:80"`,
		`compose.yml:15: services.db.ports: left out: not a port; write "HOST:CONTAINER", such as "8080:80"`,
		`compose.yml:15: services.db.ports: left out: not a port; write "HOST:CONTAINER", such as "8080:80"`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestTemplate_MeansWhatComposeMeans(t *testing.T) {
	for text, want := range map[string]string{
		"plain": "plain", "$$x": "$$x", "$A": "${A:-}", "a${B}c": "a${B:-}c", "${C-d}": "${C:-d}", "${C:-d$$}": "${C:-d$$$$}",
		"${E:?missing}": "${E:?missing}", "$1": "$$1", "100%": "100%",
	} {
		if got, ok := template(text); string(got) != want || !ok {
			t.Errorf("template(%q) = %q, %v, want %q", text, got, ok, want)
		}
	}
}

// TestConvert_WritesValidConfigs converts files with odd values: each result is valid.
func TestConvert_WritesValidConfigs(t *testing.T) {
	names := []string{"db", "db_1", "db-1", "9p", "supervisor", "localport", "web.api", "é", "DB"}
	images := []string{"postgres", "a/mysql:8", "redis@sha256:0", "kafka", "mosquitto", "rabbitmq", "mongo", "nginx", "${IMAGE:-postgres}", "x"}
	ports := []string{
		"5432:5432", "80:80", "127.0.0.1:1:2", "8000-8040:80", "1-2:3-4", "53:53/udp", "5432", "${P:-1}:2", "${P}:2", "a:b", "'[::1]:5:6'", "0:1", "70000:1", "0.0.0.0:443:443", "{target: 80, published: 8080}", "${H:-127.0.0.1}:7:7", "50051:50051",
	}
	values := []string{"x", "$$d", "${V}", "${V:-w}", "${V-}", "${V:?m}", "'a\"b'", "''", "null", "1", "[a]", "${V:-${W}}", "é }{", "'${'", "$"}
	rapid.Check(t, func(t *rapid.T) {
		text := "services:\n"
		for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom(names), 0, 5, rapid.ID).Draw(t, "names") {
			text += "  " + name + ":\n    image: " + rapid.SampledFrom(images).Draw(t, "image") + "\n    ports:\n"
			for _, port := range rapid.SliceOfN(rapid.SampledFrom(ports), 1, 3).Draw(t, "ports") {
				text += "    - " + port + "\n"
			}
			text += "    depends_on: [" + rapid.SampledFrom(names).Draw(t, "dependency") + "]\n    environment:\n      A: b\n"
			for _, variable := range []string{"POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DB", "MYSQL_PASSWORD", "REDIS_PASSWORD", "RABBITMQ_DEFAULT_USER"} {
				text += "      " + variable + ": " + rapid.SampledFrom(values).Draw(t, "value") + "\n"
			}
		}
		result, err := Convert("compose.yml", []byte(text))
		if err != nil {
			t.Skip("it is not YAML")
		}
		if _, err := converttest.TryParse(result.Text(), nil); err != nil && !strings.Contains(err.Error(), "circular") {
			t.Fatalf("invalid: %v\nof:\n%s\nwrote:\n%s", err, text, result.Text())
		}
	})
}
