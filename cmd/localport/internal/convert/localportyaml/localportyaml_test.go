package localportyaml

import (
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/localport-sh/localport/cmd/localport/internal/convert/converttest"
	"github.com/localport-sh/localport/cmd/localport/internal/convert/goldentest"
)

// everyKey are the keys that version 1.2.0 of the Python tool reads.
var everyKey = strings.Fields(`version services defaults cluster_contexts cluster_health restart_policy health_check enabled max_attempts
backoff_multiplier initial_delay max_delay interval timeout retry_attempts failure_threshold success_threshold cluster_aware commands cluster_info
pod_status node_status events_on_failure name technology local_port remote_port connection tags description resource_name resource_type namespace
context host user port key_file password remote_host type config url method expected_status_codes expected_content headers verify_ssl
bootstrap_servers database sslmode`)

func TestConvert_ConvertsEveryKey(t *testing.T) {
	data, err := os.ReadFile("testdata/complete.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range everyKey {
		if !strings.Contains(string(data), key+":") {
			t.Errorf("complete.yaml lacks the key %s", key)
		}
	}
	result, err := Convert("localport.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	goldentest.Compare(t, "testdata/complete.toml", result.Text())
	converttest.Parse(t, result.Text(), map[string]string{"POSTGRES_PASSWORD": "x", "TRACE_TOKEN": "x", "BASTION": "bastion"})
	for _, secret := range []string{"hunter2", "abc123", "plain$"} {
		if strings.Contains(result.Text(), secret) {
			t.Errorf("the secret %q was copied", secret)
		}
	}
}

func TestConvert_RejectsOtherFiles(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "a list": "- a\n", "another tool's": "version: '3'\nfoo: {}\n", "no YAML": "services: [\n",
	} {
		if _, err := Convert("localport.yaml", []byte(text)); err == nil || !strings.HasPrefix(err.Error(), "localport.yaml:") {
			t.Errorf("%s: got error %v, want one that names the file", name, err)
		}
	}
}

func TestConvert_ReportsValuesOfTheWrongKind(t *testing.T) {
	result, err := Convert("localport.yaml", []byte(`services:
  - text
  -
  - name: db
    technology: kubectl
    local_port: [5432]
    remote_prot: 5432
    connection:
      - resource_name: db
  - name: web
    technology: ssh
    local_port: 8080
    remote_port: 80
    tags: essential
    conection: {}
    connection: {host: bastion, usr: me}
    health_check: tcp
defaults: []
`))
	if err != nil {
		t.Fatal(err)
	}
	text := result.Text()
	var got []string
	for _, finding := range result.Findings {
		got = append(got, finding.String())
	}
	for _, want := range []string{
		"localport.yaml:2: services[0]: left out: it must be a mapping; it is a single value",
		"localport.yaml:3: services[1]: left out: it is empty",
		`localport.yaml:7: services[2].remote_prot: left out: the Python LocalPort does not know this key and ignores it; did you mean "remote_port"?`,
		"localport.yaml:8: services[2].connection: left out: it must be a mapping; it is a list",
		`localport.yaml:14: services[3].tags: left out: it must be a list, with "- " before each item; it is a single value`,
		`localport.yaml:15: services[3].conection: left out: the Python LocalPort does not know this key and ignores it; did you mean "connection"?`,
		`localport.yaml:16: services[3].connection.usr: left out: the Python LocalPort does not know this key and ignores it; did you mean "user"?`,
		"localport.yaml:17: services[3].health_check: left out: it must be a mapping; it is a single value",
		"localport.yaml:18: defaults: left out: it must be a mapping; it is a list",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("no finding %q in\n%s", want, strings.Join(got, "\n"))
		}
	}
	converttest.Parse(t, text, nil)
}

// The Python tool replaces references before it reads YAML: a mistake is told in the words of the file.
func TestConvert_ExplainsWhatIsNoYAML(t *testing.T) {
	for text, want := range map[string]string{
		"services:\n- name: ${A:x: y}\n  technology: ssh: ${B}\n": `localport.yaml:3: a second ": " in a line`,
		"services:\n- name: *${A}\n":                              `localport.yaml:2: *${A} refers to an anchor &${A}, which no line above has`,
	} {
		if _, err := Convert("localport.yaml", []byte(text)); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// TestConvert_WritesValidConfigs converts files with right and wrong values at every key: each result is valid, and no key is lost.
func TestConvert_WritesValidConfigs(t *testing.T) {
	values := []string{
		"5432", "0", "70000", "-1", "1.5", "true", "no", "''", "null", "text", "two words", "-option", "'a\"b\\c'", "\"tab\\there\"", "[1, x]", "{a: b}", "svc/x", "$x ${", "${VAR:5}", "é\U0001F600",
		"http://localhost:5432/x", "https://u:p@h/ y", "2024-01-01", ".inf", ".nan", "'}'", "${VAR:${OTHER}}", "${a b}", "${PLAIN}",
	}
	rapid.Check(t, func(t *rapid.T) {
		var b strings.Builder
		table := func(indent string, keys ...string) {
			for _, key := range keys {
				if rapid.IntRange(0, 2).Draw(t, key) > 0 {
					b.WriteString(indent + key + ": " + rapid.SampledFrom(values).Draw(t, "value of "+key) + "\n")
				}
			}
		}
		check := func(indent string) {
			b.WriteString(indent + "health_check:\n" + indent + "  type: " + rapid.SampledFrom([]string{"tcp", "http", "https", "kafka", "postgres", "x"}).Draw(t, "type") + "\n")
			table(indent+"  ", "interval", "timeout", "failure_threshold", "success_threshold", "cluster_aware")
			b.WriteString(indent + "  config:\n" + indent + "    z: 1\n")
			table(indent+"    ", "host", "port", "url", "method", "expected_status_codes", "expected_content", "headers", "verify_ssl", "bootstrap_servers", "database", "user", "password", "sslmode", "timeout")
			b.WriteString(indent + "restart_policy:\n" + indent + "  z: 1\n")
			table(indent+"  ", "enabled", "max_attempts", "backoff_multiplier", "initial_delay", "max_delay")
		}
		b.WriteString("defaults:\n  z: 1\n")
		check("  ")
		b.WriteString("services:\n")
		for range rapid.IntRange(0, 4).Draw(t, "services") {
			b.WriteString("- name: " + rapid.SampledFrom(append(values, "supervisor", "localport", "a", "a")).Draw(t, "name") + "\n")
			b.WriteString("  technology: " + rapid.SampledFrom([]string{"kubectl", "ssh"}).Draw(t, "technology") + "\n")
			b.WriteString("  remote_port: " + rapid.SampledFrom([]string{"80", "http", "${P:80}", "x y"}).Draw(t, "remote_port") + "\n")
			table("  ", "local_port", "enabled", "tags", "description")
			b.WriteString("  connection:\n    host: h\n    resource_name: r\n")
			table("    ", "namespace", "resource_type", "context", "user", "port", "key_file", "password", "remote_host")
			check("  ")
		}
		result, err := Convert("localport.yaml", []byte(b.String()))
		if err != nil {
			return // such as a bad escape: it is not YAML
		}
		text := result.Text()
		if _, err := converttest.TryParse(text, map[string]string{"VAR": "7", "PLAIN": "8", "P": "80"}); err != nil {
			t.Fatalf("invalid: %v\nof:\n%s\nwrote:\n%s", err, b.String(), text)
		}
	})
}
