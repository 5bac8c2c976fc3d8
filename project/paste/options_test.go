package paste_test

import (
	"slices"
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
