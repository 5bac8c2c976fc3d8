package project

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/localport-sh/localport/testdata/mistakes"
)

func compileSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(JSONSchema))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource(SchemaURL, document); err != nil {
		t.Fatal(err)
	}
	compiled, err := compiler.Compile(SchemaURL)
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

// checkText validates a config by the schema.
func checkText(t *testing.T, s *jsonschema.Schema, text string) error {
	t.Helper()
	values := map[string]any{}
	if err := toml.Unmarshal([]byte(text), &values); err != nil {
		return err
	}
	return s.Validate(values)
}

// sampleValues are values of every type, in TOML, and what is special for some key. There is no 1.0: JSON Schema takes it for an integer.
var sampleValues = []string{
	`"auto"`, `"x"`, `"30s"`, `"1h30m"`, `"-5s"`, `"30 seconds"`, `"8080"`, `"-x"`, `"a b"`, `"http"`, `"1"`, `"1.0"`, `"2"`, `"connections"`, `"on-demand"`, `"tcp"`,
	`"none"`, `"kubectl"`, `"service"`, `"native"`, `"prefer"`, `"check"`, `"3.1.1"`, `"127.0.0.1"`, `"::1"`, `""`, `"/x"`, `"GET"`,
	`0`, `1`, `8080`, `70000`, `-1`, `2147483648`, `1.5`, `0.5`, `true`, `false`, `1979-05-27`,
	`["a"]`, `["a", "b"]`, `[]`, `[1]`, `[200, 204]`, `[true]`, `{}`, `{ A = "b" }`, `{ A = 1 }`, `{ A = true }`, `{ A = 1.5 }`,
}

// keysWithOwnRules are those whose values the parser checks by rules that a schema cannot state in short.
var keysWithOwnRules = []string{bridgeKey, "ready", "needs_login", "command"}

// For every key of a service of every technology and type of check, the parser and the schema accept the same values.
func TestJSONSchema_AgreesWithTheParser(t *testing.T) {
	compiled := compileSchema(t)
	check := func(config, value string, mayBeLooser bool) {
		text := fmt.Sprintf(config, value)
		_, parseErr := Parse(&Files{Root: "/p", Path: "/p/" + ConfigName, Config: []byte(text)}, builtInOptions())
		schemaErr := checkText(t, compiled, text)
		if parseErr == nil && schemaErr != nil {
			t.Errorf("%s\nis valid, and the schema says: %v", text, schemaErr)
		}
		if parseErr != nil && schemaErr == nil && !mayBeLooser {
			t.Errorf("%s\nis valid by the schema, and the parser says: %v", text, parseErr)
		}
	}
	for _, technology := range BuiltIn {
		config := minimalService(technology)
		for _, key := range technology.Keys {
			path := connectionKey + "." + key.Name
			if key.OutsideConnection {
				path = key.Name
			}
			checkKey(check, without(config, path), path, key.Validate != nil || slices.Contains(keysWithOwnRules, key.Name) || key.Conflicts != nil || key.Name == "socks" || key.Name == "reverse")
		}
		if technology.Name != "tcp" {
			continue
		}
		s := newService("")
		for _, f := range builtInOptions().serviceFields(&s) {
			switch {
			case f.types != nil && f.name != "remote_port":
			case f.fields != nil && f.name != connectionKey:
				for _, inner := range f.fields {
					if inner.types == nil {
						checkKey(check, config, f.name+"."+inner.name, false)
					}
				}
			case f.fields == nil:
				checkKey(check, without(config, f.name), f.name, slices.Contains(keysWithOwnRules, f.name) || f.name == "depends_on" || f.name == technologyKey)
			}
		}
		for _, checkType := range BuiltInChecks {
			for _, key := range checkType.Keys {
				required := ""
				if checkType.Name == "command" && key.Name != "command" {
					required = "health_check.command = [\"x\"]\n"
				}
				checkKey(check, config+"health_check.type = \""+checkType.Name+"\"\n"+required, "health_check."+key.Name, key.Validate != nil || key.Name == "command")
			}
		}
	}
	for _, key := range []string{"version", "linger", "metrics_port", "defaults", "env"} {
		for _, value := range sampleValues {
			check(key+" = %s\n", value, false)
		}
	}
}

func checkKey(check func(config, value string, mayBeLooser bool), config, key string, mayBeLooser bool) {
	for _, value := range sampleValues {
		check(strings.ReplaceAll(config, "%", "%%")+key+" = %s\n", value, mayBeLooser)
	}
}

// minimalService is a service with the required keys only, each on a line of its own.
func minimalService(technology TechnologyType) string {
	text := "[services.a]\ntechnology = \"" + technology.Name + "\"\nlocal_port = 1\n"
	if technology.HasRemotePort {
		text += "remote_port = 2\n"
	}
	for _, key := range technology.Keys {
		value := map[KeyType]string{TypeWord: `"h"`, TypeTextList: `["x", "{port}"]`}[key.Type]
		switch {
		case !key.Required:
		case key.OutsideConnection:
			text += key.Name + " = " + value + "\n"
		default:
			text += connectionKey + "." + key.Name + " = " + value + "\n"
		}
	}
	return text
}

// without returns a config without the line of a key.
func without(config, key string) string {
	return regexp.MustCompile(`(?m)^`+regexp.QuoteMeta(key)+` = .*\n`).ReplaceAllString(config, "")
}

// A default that the schema names changes nothing if it is written.
func TestJSONSchema_DefaultsAreThoseOfTheParser(t *testing.T) {
	var document struct {
		Properties struct {
			Services struct {
				AdditionalProperties schemaNode
			}
		}
	}
	decodeJSON(t, JSONSchema, &document)
	base := minimalService(BuiltIn[slices.IndexFunc(BuiltIn, func(k TechnologyType) bool { return k.Name == "tcp" })])
	want := mustParse(t, base)
	count := 0
	for path, node := range document.Properties.Services.AdditionalProperties.leaves("") {
		if node.Default == nil || strings.HasPrefix(path, connectionKey+".") || node.isOfCheck(path) {
			continue
		}
		count++
		got := mustParse(t, base+path+" = "+formatTOML(node.Default)+"\n")
		got.Services[0].IdleTimeout = 0 // only on demand
		if fmt.Sprint(got.Services) != fmt.Sprint(want.Services) {
			t.Errorf("%s = %v is not the default", path, node.Default)
		}
	}
	if count < 15 {
		t.Errorf("only %d defaults", count)
	}
}

func mustParse(t *testing.T, text string) *Project {
	t.Helper()
	p, err := Parse(&Files{Root: "/p", Path: "/p/" + ConfigName, Config: []byte(text)}, builtInOptions())
	if err != nil {
		t.Fatalf("%s\n%v", text, err)
	}
	return p
}

func TestJSONSchema_RejectsMistakes(t *testing.T) {
	compiled := compileSchema(t)
	rejected := 0
	for _, m := range mistakes.All() {
		err := checkText(t, compiled, m.Config)
		if err != nil {
			rejected++
		}
		if isAccepted(m) && err != nil {
			t.Errorf("%s: %v", m.Name, err)
		}
	}
	if rejected < 100 {
		t.Errorf("only %d mistakes are rejected", rejected)
	}
}

// isAccepted reports whether validate accepts a config, perhaps with a warning.
func isAccepted(m mistakes.Mistake) bool { return strings.Contains(m.Output, ": valid, ") }

// validConfigs returns the configs that editors must accept, by name: those of the documentation, the recipes and the examples.
func validConfigs(t *testing.T) map[string]string {
	t.Helper()
	configs := map[string]string{}
	readme := readText(t, "../README.md")
	for i, match := range regexp.MustCompile("(?s)```toml\n(.*?)```").FindAllStringSubmatch(readme, -1) {
		options := builtInOptions()
		options.Getenv = func(string) (string, bool) { return "value", true }
		text := match[1]
		_, err := Parse(&Files{Root: "/p", Path: "/p/" + ConfigName, Config: []byte(text)}, options)
		if err == nil && strings.Contains(text, "[services.") { // not a part of one
			configs[fmt.Sprintf("readme-%d", i)] = text
		}
	}
	for _, pattern := range []string{"../cmd/localport/internal/recipes/*.toml", "../testdata/examples/*/" + ConfigName, "../cmd/localport/init.toml", "../cmd/localport/internal/convert/*/testdata/*.toml", "../testdata/examples/*.toml"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			configs[strings.NewReplacer("/", "-", "..", "").Replace(path)] = readText(t, path)
		}
	}
	if len(configs) < 5 {
		t.Fatalf("only %d configs", len(configs))
	}
	return configs
}

func TestJSONSchema_AcceptsExamples(t *testing.T) {
	compiled := compileSchema(t)
	for name, text := range validConfigs(t) {
		if err := checkText(t, compiled, text); err != nil {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
	}
}

// taplo and tombi are what editors check TOML files with.
func TestJSONSchema_WorksInEditors(t *testing.T) {
	path, err := filepath.Abs("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	for program, args := range map[string][]string{
		"taplo": {"check", "--colors", "never", "--schema", "file://" + path},
		"tombi": {"lint", "--offline"},
	} {
		t.Run(program, func(t *testing.T) {
			if _, err := exec.LookPath(program); err != nil {
				t.Skipf("%s is not installed", program)
			}
			dir := t.TempDir()
			write(t, filepath.Join(dir, "tombi.toml"), "[[schemas]]\npath = \"file://"+path+"\"\ninclude = [\"*.toml\"]\n")
			wrong := map[string]bool{}
			for i, m := range mistakes.All() {
				name := fmt.Sprintf("mistake-%d.toml", i)
				write(t, filepath.Join(dir, name), m.Config)
				wrong[name] = !isAccepted(m)
			}
			for name, text := range validConfigs(t) {
				write(t, filepath.Join(dir, "valid"+name+".toml"), text)
			}
			names, err := filepath.Glob(filepath.Join(dir, "[mv]*.toml"))
			if err != nil {
				t.Fatal(err)
			}
			command := exec.CommandContext(t.Context(), program, append(args, names...)...)
			command.Dir, command.Env = dir, append(os.Environ(), "HOME="+dir, "NO_COLOR=1")
			output, _ := command.CombinedOutput() // exit status 1, because of the mistakes
			rejected := map[string]bool{}
			for _, name := range regexp.MustCompile(`(?:mistake|valid)[\w-]*(?:\.\w+)?\.toml`).FindAllString(string(output), -1) {
				rejected[name] = true
			}
			count := 0
			for name := range rejected {
				switch {
				case wrong[name]:
					count++
				case strings.HasPrefix(name, "valid"):
					t.Errorf("%s is rejected:\n%s", name, output)
				}
			}
			if count < 90 {
				t.Errorf("only %d mistakes are rejected:\n%s", count, output)
			}
		})
	}
}
