package paste_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/localport-sh/localport/project/draft"
	"github.com/localport-sh/localport/project/paste"
)

func TestParse_AvoidsTakenNamesAndPorts(t *testing.T) {
	t.Parallel()
	result, err := paste.Parse([]string{"deploy/web", "8080:80", "9090", "443", "5432"}, paste.Options{
		Name:        "front",
		IsNameTaken: func(name string) bool { return name == "front" },
		Ports: &draft.LocalPorts{
			Holder: func(_ string, port int) string {
				if port == 9090 {
					return `service "metrics"`
				}
				return ""
			},
			Substitute: func(port int) int { return map[int]int{443: 8443, 9090: 8080}[port] },
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	var ports []any
	for _, svc := range result.Services {
		names, ports = append(names, svc.Name), append(ports, svc.Entries.Get("local_port"))
	}
	if want := []string{"front-2", "front-9090", "front-443", "front-5432"}; !slices.Equal(names, want) {
		t.Errorf("names %q, want %q", names, want)
	}
	if want := []any{8080, "auto", 8443, 5432}; !slices.Equal(ports, want) { // 8080 is taken by the first
		t.Errorf("ports %v, want %v", ports, want)
	}
	want := []string{
		`local port 9090 of front-9090 becomes "auto": service "metrics" has port 9090`,
		`local port 443 of front-443 becomes 8443: only root may open ports below 1024`,
	}
	if !slices.Equal(result.Notes, want) {
		t.Errorf("notes %q, want %q", result.Notes, want)
	}
}

func TestParse_LetsRootHaveEveryPort(t *testing.T) {
	t.Parallel()
	result, err := paste.Parse([]string{"svc/web", "80"}, paste.Options{Ports: &draft.LocalPorts{Privileged: true}})
	if err != nil || result.Services[0].Entries.Get("local_port") != 80 || len(result.Notes) > 0 {
		t.Errorf("%+v, %v", result, err)
	}
}

func TestParse_ResolvesRelativePaths(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"key": "/home/$$me/key", "../key": "/home/key", "/key": "/key", "~/key": "~/key",
	} {
		for _, words := range [][]string{
			{"ssh", "-i", path, "-F", path, "-L", "8080:web:80", "host"}, {"kubectl", "port-forward", "svc/web", "8080:80", "--kubeconfig", path},
		} {
			result, err := paste.Parse(words, paste.Options{Dir: "/home/$me"})
			if err != nil {
				t.Fatal(err)
			}
			for _, key := range []string{"key_file", "config_file", "kubeconfig"} {
				if got := connectionText(result, key); got != "" && got != want {
					t.Errorf("%q: %s = %q, want %q", words, key, got, want)
				}
			}
		}
	}
}

// Flags of the command that reads the words are its own only where the pasted program takes a flag.
func TestParse_FindsFlagsOfTheCommandThatReadsIt(t *testing.T) {
	t.Parallel()
	options := paste.Options{Flags: []string{"--save", "--local"}, OtherFlags: []string{"--log-level"}}
	for text, want := range map[string]string{
		"svc/web 8080 --save":                                       "web [--save] []",
		"svc/web --save 8080 --name front -n db":                    "front [--save] [front]",
		"kubectl --save port-forward svc/web 8080 --name=front":     "front [--save] [front]",
		"kubectl port-forward -l --save 8080":                       `"--save": must not begin with "-"`,
		"ssh -L 8080:web:80 bastion --save":                         "web [--save] []",
		"ssh --name front -L 8080:web:80 bastion --save":            "front [--save] [front]",
		"ssh -L 8080:web:80 bastion tail --save --name x":           "web [] []",
		"ssh -L 8080:web:80 -- bastion --save":                      "web [] []",
		"autossh -M 0 -fNL 8080:web:80 --local bastion --save":      "web [--local --save] []",
		"socat --save TCP-LISTEN:8080,fork TCP:web:80 --name front": "front [--save] [front]",
		"tcp --save db:5432 --name main 15432":                      "main [--save] [main]",
		"db:5432 --save":                                            "db [--save] []",
		"db http://web:8080 --save":                                 "db [--save] [db]",
		"http://web:8080 --name=front":                              "front [] [front]",
		"svc/web 8080 --svae":                                       `"--svae": unknown flag of kubectl port-forward; did you mean "--save"?`,
		"svc/web 8080 --namspace x":                                 `"--namspace": unknown flag of kubectl port-forward; did you mean "--namespace"?`,
		"ssh -L 8080:web:80 bastion --nam=x":                        `"--nam=x": unknown flag of ssh; did you mean "--name"?`,
		"ssh -L 8080:web:80 bastion --xyz":                          `"--xyz": unknown flag of ssh; flags of localport that may stand here: --save, --local, --name`,
		"tcp db:5432 --svae":                                        `"--svae": unknown flag; did you mean "--save"?`,
		"tcp db:5432 -n db":                                         `"-n": unknown flag; flags of localport that may stand here: --save, --local, --name`,
		"socat TCP-LISTEN:8080,fork TCP:web:80 --sav":               `"--sav": unknown flag of socat; did you mean "--save"?`,
		"db http://web:8080 --locl":                                 `"--locl": unknown flag; did you mean "--local"?`,
		"tcp db:5432 --log-level=debug":                             `"--log-level=debug": unknown flag; --log-level is a flag of localport: write it before the pasted command`,
		"tcp db:5432 --save=yes":                                    `"--save=yes": this flag has no value; write --save`,
		"tcp db:5432 --name":                                        `"--name": it needs a value; write the name of the service after it: --name NAME`,
		"svc/web 8080 --name --save":                                `"--name": it needs a value; write the name of the service after it: --name NAME`,
	} {
		result, err := paste.ParseText(text, options)
		got := ""
		if pasteErr, ok := errors.AsType[*paste.Error](err); ok {
			got = strings.TrimSuffix(pasteErr.Error()+"; "+pasteErr.Advice, "; ")
		} else {
			got = fmt.Sprint(result.Services[0].Name, " ", result.Flags, " ", result.WrittenNames)
		}
		if got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

func TestParse_KeepsTheNamesOfSeveralURLs(t *testing.T) {
	t.Parallel()
	result, err := paste.ParseText("db postgres://a@x/y\nweb http://z:8080", paste.Options{})
	if err != nil || len(result.Services) != 2 || result.Services[0].Name != "db" || result.Services[1].Name != "web" || !slices.Equal(result.WrittenNames, []string{"db", "web"}) {
		t.Errorf("%+v, %v", result, err)
	}
}

func TestParse_LimitsWhatItReads(t *testing.T) {
	t.Parallel()
	if _, err := paste.ParseText(strings.Repeat("kubectl port-forward svc/web 8080\n", 1000), paste.Options{}); err == nil || err.Error() != "more than 200 forwards" {
		t.Errorf("many lines: %v", err)
	}
	words := append([]string{"svc/web"}, strings.Fields(strings.Repeat("8080 ", 1000))...)
	if _, err := paste.Parse(words, paste.Options{}); err == nil || err.Error() != "more than 200 forwards" {
		t.Errorf("many ports: %v", err)
	}
	if _, err := paste.Parse([]string{""}, paste.Options{}); err == nil || err.Error() != "the first word is empty" {
		t.Errorf("an empty word: %v", err)
	}
}

func TestParseText_TakesFlagsAfterTheText(t *testing.T) {
	t.Parallel()
	options := paste.Options{Flags: []string{"--save"}}
	result, err := paste.ParseText("svc/web 8080", options, "--save", "--name", "front")
	if err != nil || result.Services[0].Name != "front" || !slices.Equal(result.Flags, []string{"--save"}) {
		t.Errorf("%+v, %v", result, err)
	}
	for _, flags := range [][]string{{"--svae"}, {"x"}} {
		if _, err := paste.ParseText("svc/web 8080", options, flags...); err == nil {
			t.Errorf("%q are accepted", flags)
		}
	}
}

// connectionText returns a text of the connection of the first service.
func connectionText(result paste.Result, key string) string {
	connection, _ := result.Services[0].Entries.Get("connection").(draft.Table)
	return connection.Text(key)
}

func TestIsProgram_TellsShortFormsFromOtherPrograms(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]bool{
		"kubectl": true, "/usr/bin/ssh": true, "ssh.exe": true, "sudo": true, "k3s": true, "svc/ssh": false, "pod/env": false, "tcp": false, "db": false,
	} {
		if paste.IsProgram(word) != want {
			t.Errorf("%q: %t", word, !want)
		}
	}
}
