package builtin

import (
	"context"
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/localport-sh/localport/forwarder/tcp"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/testdata/certs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// parse reads a config whose services have these health checks.
func parse(t *testing.T, checks ...string) (*project.Project, error) {
	t.Helper()
	var text strings.Builder
	for i, check := range checks {
		number := string(rune('1' + i))
		text.WriteString("[services.s" + number + "]\ntechnology = \"tcp\"\nlocal_port = " + number +
			"\nremote_port = 1\nconnection.remote_host = \"far\"\nhealth_check = " + check + "\n")
	}
	files := &project.Files{Root: "/shop", Path: "/shop/.localport.toml", Config: []byte(text.String()), DotEnv: []byte("POSTGRES_PASSWORD=opensesame\n")}
	return project.Parse(files, project.Options{Checks: Types(), Technologies: []project.TechnologyType{tcp.Technology.TechnologyType}})
}

func TestTypes_ReadEveryDocumentedKey(t *testing.T) {
	p, err := parse(t,
		`{ type = "postgres", database = "postgres", user = "postgres", password = "${POSTGRES_PASSWORD}" }`,
		`{ type = "https", path = "/healthz", expected_status = 204, headers = { Authorization = "Bearer letmein", Accept = "text/plain" } }`,
		`{ type = "command", command = ["curl", "-fsS", "http://{addr}/healthz"] }`,
		`{ type = "none" }`,
	)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(p.Secrets, "opensesame") || !slices.Contains(p.Secrets, "Bearer letmein") || slices.Contains(p.Secrets, "text/plain") {
		t.Errorf("secrets: %q", p.Secrets)
	}
	for _, svc := range p.Services {
		check, err := NewCheck(svc.HealthCheck)
		if err != nil || (check == nil) != (svc.HealthCheck.Type == project.CheckNone) {
			t.Errorf("%s: %v", svc.HealthCheck.Type, err)
		}
	}
}

// projectDialer connects to an address, for a check of a project.
type projectDialer struct {
	addr, root string
}

func (d projectDialer) Dial(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", d.addr)
}
func (projectDialer) Acknowledges() bool { return true }
func (d projectDialer) Dir() string      { return d.root }
func (projectDialer) Environ() []string  { return nil }

// A server's certificate was renewed by another authority, and so was the file: nothing has to be loaded again.
func TestNewCheck_ReadsAChangedFileOfAuthoritiesAgain(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	own := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	other, err := os.ReadFile(certs.NewAuthority(t).File)
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	for name, isCovered := range map[string]bool{filepath.Join(t.TempDir(), "outside.pem"): false, filepath.Join(root, "inside.pem"): true} {
		write := func(text []byte) {
			t.Helper()
			if err := os.WriteFile(name, text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write(other)
		settings := project.Settings{"path": "/", "method": "GET", "tls_verify": true, "ca_file": name}
		check, err := NewCheck(project.HealthCheck{Type: "https", Settings: settings})
		if err != nil {
			t.Fatal(err)
		}
		dialer := projectDialer{server.Listener.Addr().String(), root}
		run := func() string {
			if err := check(t.Context(), dialer); err != nil {
				return err.Error()
			}
			return ""
		}
		const unknown = "signed by an unknown authority"
		if got := run(); !strings.Contains(got, unknown) {
			t.Fatalf("%s: %q", name, got)
		}
		write([]byte("nothing\n"))
		if got := run(); isCovered && !strings.Contains(got, unknown) || !isCovered && !strings.Contains(got, "no certificate in "+name) {
			t.Errorf("%s holds no certificate: %q", name, got)
		}
		write(own)
		if got := run(); (got == "") == isCovered {
			t.Errorf("%s holds the right certificate: %q", name, got)
		}
	}
}

func TestTypes_ReportKeysOfOtherTypes(t *testing.T) {
	_, err := parse(t, `{ type = "postgres", path = "/" }`, `{ type = "http", expected_stats = 200 }`, `{ type = "command" }`)
	if err == nil {
		t.Fatal("it was read")
	}
	for _, want := range []string{
		"only valid for health check http or https; this one is postgres", `did you mean "expected_status"?`, `missing "health_check.command", for example`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in\n%v", want, err)
		}
	}
}

// values are of the Go types that the keys promise.
var values = map[project.KeyType]any{
	project.TypeText: "", project.TypeNumber: 0, project.TypeBool: false, project.TypeTextList: []string{}, project.TypeTable: map[string]string{},
	project.TypeFile: "", project.TypeNumberList: []int{},
}

// common are the keys of every check.
var common = []string{"type", "interval", "timeout", "failure_threshold", "success_threshold"}

func TestTypes_KeysMeetTheParsersAssumptions(t *testing.T) {
	names := map[string]bool{project.CheckNone: true}
	for _, kind := range types {
		if names[kind.Name] {
			t.Errorf("there are two types %q", kind.Name)
		}
		names[kind.Name] = true
		seen := slices.Clone(common)
		for _, key := range kind.Keys {
			fullName := kind.Name + "." + key.Name
			if slices.Contains(seen, key.Name) {
				t.Errorf("%s is there twice", fullName)
			}
			seen = append(seen, key.Name)
			if (key.Type == project.TypeFile) != strings.HasSuffix(key.Name, "_file") {
				t.Errorf("%s: the keys in _file, and they alone, are files", fullName)
			}
			if key.Default == nil {
				continue
			}
			if reflect.TypeOf(key.Default) != reflect.TypeOf(values[key.Type]) {
				t.Errorf("%s: its default is a %T", fullName, key.Default)
			} else if text, _ := key.Default.(string); key.Values != nil && !slices.Contains(key.Values, text) {
				t.Errorf("%s: its default is not among its values: %q", fullName, text)
			} else if key.Validate != nil && key.Validate(key.Default) != nil {
				t.Errorf("%s: its default is wrong: %v", fullName, key.Validate(key.Default))
			}
		}
	}
}
