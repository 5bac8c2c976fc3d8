package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/localport-sh/localport/cmd/localport/internal/recipes"
	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/testdata/executable"
	"github.com/localport-sh/localport/testdata/ports"
)

// proxyScript replaces a cloud provider's proxy and prints what the proxy would. It listens on the last number in its arguments.
const proxyScript = `#!/bin/sh
case "$*" in
"LOGIN"*) echo run >> DIR/logins; echo "you are logged in"; exit 0 ;;
esac
if [ ! -e DIR/logins ]; then
	cat DIR/loginError >&2
	exit 1
fi
cat DIR/ready >&2
port=$(printf '%s\n' "$@" | grep -oE '[0-9]{4,5}' | tail -n 1)
exec env -u MAIN SERVER=1 SELF "$port"
`

// proxies are the programs of the recipes, and what they print when the user must log in, and when they are ready.
var proxies = map[string]struct{ program, login, loginError, ready string }{
	// cmd/root.go of cloud-sql-proxy 2.14; golang.org/x/oauth2/google
	"cloud-sql": {
		"cloud-sql-proxy", "no login of its own",
		"2026/11/23 10:00:00 Error starting proxy: error initializing dialer: failed to create default credentials: google: could not find default credentials. See https://cloud.google.com/docs/authentication/external/set-up-adc for more information",
		"2026/11/23 10:00:00 Authorizing with Application Default Credentials\n2026/11/23 10:00:00 [p:r:i] Listening on 127.0.0.1:5432\n2026/11/23 10:00:00 The proxy has started successfully and is ready for new connections!",
	},
	// botocore's exceptions; session-manager-plugin's portsession
	"aws-ssm": {
		"aws", "sso login",
		"Error when retrieving token from sso: Token has expired and refresh failed",
		"Starting session with SessionId: user-0123456789abcdef0\nPort 5432 opened for sessionId user-0123456789abcdef0.\nWaiting for connections...",
	},
	// googlecloudsdk/core/credentials/exceptions.py; googlecloudsdk/command_lib/compute/iap_tunnel.py
	"google-iap": {
		"gcloud", "auth login",
		"ERROR: (gcloud.compute.start-iap-tunnel) There was a problem refreshing your current auth tokens: Reauthentication failed. cannot prompt during non-interactive execution.\nPlease run:\n\n  $ gcloud auth login",
		"Testing if tunnel connection works.\nListening on port [5432].",
	},
	// lib/client/api.go and tool/tsh/common/proxy.go of Teleport
	"teleport": {
		"tsh", "login",
		"ERROR: not logged in",
		"Started authenticated tunnel for the PostgreSQL database \"db\" in cluster \"example\" on 127.0.0.1:5432.",
	},
	// azure-cli's auth; azext_bastion
	"azure-bastion": {
		"az", "login",
		"ERROR: Please run 'az login' to setup account.",
		"WARNING: Opening tunnel on port: 5432\nWARNING: Tunnel is ready, connect on port 5432\nWARNING: Ctrl + C to close",
	},
}

// installProxy installs proxyScript as a program on PATH.
func (w *testEnv) installProxy(t *testing.T, program, login, loginError, ready string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	script := strings.NewReplacer("LOGIN", login, "DIR", dir, "MAIN", mainVariable, "SERVER", upstreamVariable, "SELF", ownExecutable(t)).Replace(proxyScript)
	for name, text := range map[string]string{program: script, "loginError": loginError + "\n", "ready": ready + "\n"} {
		if err := executable.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	w.env = append(w.env, "PATH="+dir+":"+os.Getenv("PATH"))
	return dir
}

// holdProxy makes an installed proxy wait, when it is started, for the end of a named pipe that it makes.
func (w *testEnv) holdProxy(t *testing.T, dir, program, pipe string) {
	t.Helper()
	path := filepath.Join(dir, program)
	script, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	held := strings.Replace(string(script), "\n", fmt.Sprintf("\n[ ! -p %s ] || read line <%[1]s\n", pipe), 1)
	if err := errors.Join(syscall.Mkfifo(pipe, 0o600), executable.WriteFile(path, []byte(held), 0o700)); err != nil {
		t.Fatal(err)
	}
}

// proxyConfig is the service db, whose tunnel is an installed proxy for which "sso login" logs in.
func proxyConfig(program string, port int) string {
	return fmt.Sprintf("[services.db]\ntechnology = \"command\"\ncommand = [%q, \"{port}\"]\nlocal_port = %d\nready = \"^up\"\n"+
		"needs_login = \"token has expired\"\nlogin = [%[1]q, \"sso\", \"login\"]\n", program, port)
}

func TestRecipes_BecomeReadyAndAskForALoginAsTheirProgramDoes(t *testing.T) {
	t.Parallel()
	for _, name := range recipes.Names() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy, ok := proxies[name]
			if !ok {
				t.Fatal("proxies has no entry for this recipe")
			}
			w := newTestEnv(t)
			dir := w.installProxy(t, proxy.program, proxy.login, proxy.loginError, proxy.ready)
			port := ports.FreePort(t)
			text := w.mustRun(w.home, "recipes", name)
			root := w.allowedProject(strings.Replace(text, "local_port = 5432", fmt.Sprintf("local_port = %d", port), 1))
			if o := w.localport(root, "start"); o.code != 1 || !strings.Contains(o.stderr, "localport login database") {
				t.Errorf("start: exit %d\n%s", o.code, o.stderr)
			}
			first, _, _ := strings.Cut(proxy.loginError, "\n")
			if svc := w.service(root, "database"); svc.State != forwarder.NeedsAttention || !strings.HasSuffix(svc.LastError, " needs a login: "+first) {
				t.Errorf("the service is %s: %s", svc.State, svc.LastError)
			}
			if name == "cloud-sql" { // its login is another program
				if err := executable.WriteFile(filepath.Join(dir, "gcloud"), []byte("#!/bin/sh\necho run >> "+dir+"/logins\n"), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			if o := w.localport(root, "login"); o.code != 0 {
				t.Fatalf("login: exit %d\n%s%s", o.code, o.stdout, o.stderr)
			}
			if svc := w.service(root, "database"); svc.State != forwarder.Healthy {
				t.Errorf("after the login the service is %s: %s", svc.State, svc.LastError)
			}
			if answer, err := ask(fmt.Sprintf("127.0.0.1:%d", port), "you"); answer != "hello you\n" {
				t.Errorf("%q, %v", answer, err)
			}
		})
	}
}

func TestLogin_OneLoginCoversServicesThatShareIt(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	dir := w.installProxy(t, "aws", "sso login", "the token has expired", "up")
	var config strings.Builder
	for _, name := range []string{"one", "two"} {
		fmt.Fprintf(&config, "[services.%s]\ntechnology = \"command\"\ncommand = [\"aws\", \"{port}\"]\nlocal_port = %d\nready = \"^up\"\n"+
			"needs_login = \"token has expired\"\nlogin = [\"aws\", \"sso\", \"login\"]\n", name, ports.FreePort(t))
	}
	root := w.allowedProject(config.String())
	w.localport(root, "start")
	if o := w.localport(root, "login"); o.code != 0 {
		t.Fatalf("login: exit %d\n%s", o.code, o.stderr)
	}
	if runs, _ := os.ReadFile(filepath.Join(dir, "logins")); string(runs) != "run\n" {
		t.Errorf("the login ran:\n%s", runs)
	}
	for _, svc := range w.status(root).Services {
		if svc.State != forwarder.Healthy {
			t.Errorf("%s is %s: %s", svc.Name, svc.State, svc.LastError)
		}
	}
}

// A supervisor whose program would need another login does not take over; one whose program finds the login on disk does.
func TestLogin_OfACommandIsNotLostByARestartOfTheSupervisor(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	dir := w.installProxy(t, "aws", "sso login", "the token has expired", "up")
	root := w.allowedProject(proxyConfig("aws", ports.FreePort(t)))
	w.localport(root, "start")
	w.mustRun(root, "login")
	before := w.supervisor(root)
	const skew = `; "localport daemon restart" replaces it with this one, unless db would need another login` + "\n"
	if out := w.withRelease("99.0.0").mustRun(root, "status"); !strings.Contains(out, skew) {
		t.Errorf("status of another version:\n%s", out)
	}
	w.mustRun(root, "daemon", "restart")
	after := w.supervisor(root)
	if after == before {
		t.Error("the supervisor was not replaced, although the login is on disk")
	}
	eventually(t, "the service is healthy", func() bool { return w.service(root, "db").State == forwarder.Healthy })
	if err := os.Remove(filepath.Join(dir, "logins")); err != nil {
		t.Fatal(err)
	}
	o := w.localport(root, "daemon", "restart")
	if o.code != 1 || !strings.Contains(o.stderr, "a new supervisor would need another login for db (aws needs a login: the token has expired)") {
		t.Errorf("daemon restart: exit %d\n%s", o.code, o.stderr)
	}
	if now := w.supervisor(root); now != after || w.service(root, "db").State != forwarder.Healthy {
		t.Errorf("the supervisor is %+v, was %+v; db is %s", now, after, w.service(root, "db").State)
	}
	w.stopProject(root)
}

func TestLogin_NamesALoginProgramThatFailsOrIsMissing(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	w.installProxy(t, "aws", "no login", "the token has expired", "up")
	for login, want := range map[string]string{`["sh", "-c", "exit 3"]`: "sh: exit status 3", `["no-such-sso"]`: "no-such-sso"} {
		root := w.allowedProject(fmt.Sprintf("[services.db]\ntechnology = \"command\"\ncommand = [\"aws\", \"{port}\"]\nlocal_port = %d\n"+
			"needs_login = \"expired\"\nlogin = %s\n", ports.FreePort(t), login))
		w.localport(root, "start")
		if o := w.localport(root, "login", "db"); o.code != 1 || !strings.Contains(o.stderr, want) {
			t.Errorf("%s: exit %d\n%s", login, o.code, o.stderr)
		}
		if svc := w.service(root, "db"); svc.State != forwarder.NeedsAttention {
			t.Errorf("%s: the service is %s", login, svc.State)
		}
	}
}

func TestRecipes_AreFoundByName(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	all := w.mustRun(w.home, "recipes")
	for _, name := range recipes.Names() {
		if !strings.Contains(all, w.mustRun(w.home, "recipes", name)) {
			t.Errorf("%s is missing in the list", name)
		}
	}
	if !slices.IsSorted(recipes.Names()) || len(recipes.Names()) != len(proxies) {
		t.Errorf("the recipes are %q", recipes.Names())
	}
	if o := w.localport(w.home, "recipes", "teleprot"); o.code != 2 || !strings.Contains(o.stderr, `did you mean "teleport"?`) {
		t.Errorf("exit %d\n%s", o.code, o.stderr)
	}
}
