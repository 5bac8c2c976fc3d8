package session

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/kubectl/kubeconfig"
	"github.com/localport-sh/localport/forwarder/tasks"
	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/testdata/executable"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testRegistry is shared by all tests: each starts its own server.
var testRegistry = NewRegistry(tasks.New(context.Background()))

// tokenServer is an API server that accepts certain bearer tokens.
type tokenServer struct {
	*httptest.Server
	mu       sync.Mutex
	tokens   []string
	requests atomic.Int32
}

func startServer(t *testing.T, tokens ...string) *tokenServer {
	t.Helper()
	s := &tokenServer{tokens: tokens}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, token := range s.tokens {
			if r.Header.Get("Authorization") == "Bearer "+token {
				fmt.Fprint(w, `{"metadata": {"name": "it"}}`)
				return
			}
		}
		w.WriteHeader(http.StatusUnauthorized)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *tokenServer) setTokens(tokens ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens = tokens
}

// source writes a kubeconfig for the server, with a user in YAML, and a login helper, a shell script whose path replaces HELPER
// in user.
func (s *tokenServer) source(t *testing.T, user, helper string) Source {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "helper")
	if err := executable.WriteFile(program, []byte("#!/bin/sh\necho run >> "+dir+"/runs\n"+helper), 0o755); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "config")
	ca := base64.StdEncoding.EncodeToString(certificatePEM(s.Server))
	text := fmt.Sprintf("{apiVersion: v1, kind: Config, current-context: test, clusters: [{name: c, cluster: {server: %q, certificate-authority-data: %s}}], "+
		"users: [{name: u, user: %s}], contexts: [{name: test, context: {cluster: c, user: u}}]}", s.URL, ca, strings.ReplaceAll(user, "HELPER", program))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Source{ResourceRef: ResourceRef{Location: Location{Context: "test"}}, Dir: dir, Env: append(os.Environ(), "KUBECONFIG="+config), Log: io.Discard}
}

func countHelperRuns(t *testing.T, src Source) int {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(src.Dir, "runs"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Count(string(data), "run")
}

func getObject(t *testing.T, src Source) *forwarder.Failure {
	t.Helper()
	s, release, err := testRegistry.Open(src)
	if err != nil {
		failure, _ := errors.AsType[*forwarder.Failure](err)
		return failure
	}
	defer release()
	var into struct{ Metadata ObjectMeta }
	if err := s.Get(t.Context(), "/api/v1/namespaces/x", nil, &into); err != nil {
		return s.ClassifyError(err, src.ResourceRef)
	}
	return nil
}

const execUser = "{exec: {apiVersion: client.authentication.k8s.io/v1, command: HELPER, interactiveMode: IfAvailable}}"

func printCredential(status string) string {
	return fmt.Sprintf("echo '{\"apiVersion\": \"client.authentication.k8s.io/v1\", \"kind\": \"ExecCredential\", \"status\": {%s}}'\n", status)
}

func TestAuthenticator_RunsTheLoginHelperOnceForAll(t *testing.T) {
	s := startServer(t, "secret")
	src := s.source(t, execUser, "echo $KUBERNETES_EXEC_INFO >> "+"$0.info\n"+printCredential(`"token": "secret"`))
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			if f := getObject(t, src); f != nil {
				t.Errorf("%+v", f)
			}
		})
	}
	all.Wait()
	if n := countHelperRuns(t, src); n != 1 {
		t.Errorf("it ran %d times", n)
	}
	if f := getObject(t, src); f != nil || countHelperRuns(t, src) != 1 { // after the last session was closed
		t.Errorf("%+v, %d runs", f, countHelperRuns(t, src))
	}
	info, _ := os.ReadFile(filepath.Join(src.Dir, "helper.info"))
	if want := `{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","spec":{"interactive":false}}`; strings.TrimSpace(string(info)) != want {
		t.Errorf("KUBERNETES_EXEC_INFO is %s", info)
	}
}

func TestAuthenticator_RenewsARejectedOrExpiredCredential(t *testing.T) {
	s := startServer(t, "one")
	src := s.source(t, execUser, "if [ $(wc -l < $(dirname $0)/runs) = 1 ]; then T=one; else T=two; fi\n"+strings.ReplaceAll(printCredential(`"token": "TOKEN"`), "TOKEN", `'$T'`))
	if f := getObject(t, src); f != nil {
		t.Fatalf("%+v", f)
	}
	s.setTokens("two")
	if f := getObject(t, src); f != nil || countHelperRuns(t, src) != 2 {
		t.Errorf("after it was refused: %+v, %d runs", f, countHelperRuns(t, src))
	}
	s.setTokens("none")
	if f := getObject(t, src); f == nil || f.Class != forwarder.NeedsUser || !strings.Contains(f.Reason, "You must be logged in") || countHelperRuns(t, src) != 3 {
		t.Errorf("when none is taken: %+v, %d runs", f, countHelperRuns(t, src))
	}
	ends := time.Now().Add(2 * time.Second).UTC().Format(time.RFC3339) // sooner than renewBefore
	short := s.source(t, execUser, printCredential(`"token": "short", "expirationTimestamp": "`+ends+`"`))
	s.setTokens("short")
	start := time.Now()
	for range 2 {
		if f := getObject(t, short); f != nil || countHelperRuns(t, short) != 1 && time.Since(start) < time.Second {
			t.Errorf("%+v, %d runs", f, countHelperRuns(t, short))
		}
	}
	runs := countHelperRuns(t, short)
	<-time.After(1100 * time.Millisecond) // the shortest time between two runs of the helper is a second
	if f := getObject(t, short); f != nil || countHelperRuns(t, short) != runs+1 {
		t.Errorf("when it is over: %+v, %d runs", f, countHelperRuns(t, short))
	}
}

func TestAuthenticator_RemembersLoginHelperFailures(t *testing.T) {
	s := startServer(t, "secret")
	for _, tt := range []struct{ name, user, helper, reason, hint string }{
		{"fails", execUser, "echo please log in >&2\nexit 3\n", "failed: exit status 3: please log in", "localport login"},
		{"prints nothing", execUser, "exit 0\n", "its output is not an ExecCredential", "localport login"},
		{"another version", execUser, "echo '{\"apiVersion\": \"client.authentication.k8s.io/v1beta1\", \"kind\": \"ExecCredential\", \"status\": {\"token\": \"secret\"}}'\n", "its output has apiVersion client.authentication.k8s.io/v1beta1, the kubeconfig expects client.authentication.k8s.io/v1", ""},
		{"no status", execUser, "echo '{\"apiVersion\": \"client.authentication.k8s.io/v1\", \"kind\": \"ExecCredential\"}'\n", "its output has no status", ""},
		{"empty", execUser, printCredential(""), "neither a token nor a certificate", ""},
		{"key alone", execUser, printCredential(`"clientKeyData": "secret"`), "a key without a certificate", ""},
		{"bad certificate", execUser, printCredential(`"clientCertificateData": "secret", "clientKeyData": "secret"`), "its output has an invalid certificate", ""},
		{"needs a terminal", strings.ReplaceAll(execUser, "IfAvailable", "Always"), printCredential(`"token": "secret"`), "needs a terminal", "localport login"},
		{"missing", "{exec: {apiVersion: client.authentication.k8s.io/v1, command: /no/such/helper, interactiveMode: Never, installHint: \"get it\\n  from there\"}}", "", "/no/such/helper: no such file", "get it from there"},
	} {
		src := s.source(t, tt.user, tt.helper)
		for range 2 {
			f := getObject(t, src)
			if f == nil || f.Class != forwarder.NeedsUser || !strings.Contains(f.Reason, tt.reason) || !strings.Contains(f.Hint, tt.hint) {
				t.Errorf("%s: %+v", tt.name, f)
			} else if strings.Contains(f.Reason, "secret") {
				t.Errorf("%s shows the credential: %s", tt.name, f.Reason)
			}
		}
		if n := countHelperRuns(t, src); n > 1 {
			t.Errorf("%s: it ran %d times", tt.name, n)
		}
	}
	src := s.source(t, execUser, "[ -e $0.done ] || { : > $0.done; exit 1; }\n"+printCredential(`"token": "secret"`))
	if f := getObject(t, src); f == nil {
		t.Error("it did not fail")
	}
	src.OutdatedBefore = time.Now()
	if f := getObject(t, src); f != nil || countHelperRuns(t, src) != 2 {
		t.Errorf("after the user asked for it: %+v, %d runs", f, countHelperRuns(t, src))
	}
}

// A login in another terminal changes a file of the helper's, and the helper is run again for the next tunnel.
func TestAuthenticator_RunsTheLoginHelperAgainAfterALoginElsewhere(t *testing.T) {
	s := startServer(t, "secret")
	src := s.source(t, execUser, "[ -e $0.done ] || exit 1\n"+printCredential(`"token": "secret"`))
	home := t.TempDir()
	src.Env = append(slices.Clip(src.Env), "HOME="+home)
	cache := filepath.Join(home, ".aws", "sso", "cache")
	if err := os.MkdirAll(cache, 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(cache, "token.json"), "{}")
	for range 2 {
		src.Stamps = src.ReadFiles().Stamps
		if f := getObject(t, src); f == nil || countHelperRuns(t, src) != 1 {
			t.Errorf("before the login: %+v, %d runs", f, countHelperRuns(t, src))
		}
	}
	stamps := src.ReadFiles()
	writeFile(t, filepath.Join(src.Dir, "helper.done"), "")
	writeFile(t, filepath.Join(cache, "token.json"), `{"accessToken": "new"}`)
	if !stamps.AwaitChange(t.Context()) {
		t.Error("the login was not noticed")
	}
	src.Stamps = src.ReadFiles().Stamps
	if f := getObject(t, src); f != nil || countHelperRuns(t, src) != 2 {
		t.Errorf("after the login: %+v, %d runs", f, countHelperRuns(t, src))
	}
}

// A login helper that failed because of the network is run again by itself, not before the backoff, and at once when the network changes.
func TestAuthenticator_RetriesANetworkErrorOfTheLoginHelper(t *testing.T) {
	s := startServer(t, "secret")
	for _, message := range []string{
		"dial tcp: lookup sso.example.com: no such host",
		`Could not connect to the endpoint URL: "https://sts.amazonaws.com/"`,
		"ERROR: gcloud crashed (TransportError): HTTPSConnectionPool: Max retries exceeded (Caused by NewConnectionError: Failed to establish a new connection)",
		"Error: getaddrinfo ENOTFOUND login.example.com",
	} {
		src := s.source(t, execUser, "[ -e $0.online ] || { echo '"+strings.ReplaceAll(message, "'", "")+"' >&2; exit 1; }\n"+printCredential(`"token": "secret"`))
		for range 3 {
			f := getObject(t, src)
			if f == nil || f.Class != forwarder.Transient || !strings.Contains(f.Reason, "the login helper") || strings.Contains(f.Reason, "API server") {
				t.Errorf("%s: %+v", message, f)
			}
		}
		if n := countHelperRuns(t, src); n != 1 {
			t.Errorf("%s: it ran %d times before the backoff", message, n)
		}
		testRegistry.OnNetworkChange()
		if f := getObject(t, src); f == nil || countHelperRuns(t, src) != 2 {
			t.Errorf("%s: after a change of the network: %+v, %d runs", message, f, countHelperRuns(t, src))
		}
		writeFile(t, filepath.Join(src.Dir, "helper.online"), "")
		testRegistry.expireBackoff(t, src)
		if f := getObject(t, src); f != nil || countHelperRuns(t, src) != 3 {
			t.Errorf("%s: after the backoff: %+v, %d runs", message, f, countHelperRuns(t, src))
		}
	}
}

// The failure of a helper that was started before a change of the network, or before a request of the user, says nothing of another run: it is made at once.
func TestAuthenticator_FailureOfAnOutdatedRunDoesNotCount(t *testing.T) {
	s := startServer(t, "secret")
	for message, change := range map[string]func(src Source){
		"dial tcp: lookup sso.example.com: no such host": func(Source) { testRegistry.OnNetworkChange() },
		"the login was cancelled": func(src Source) {
			src.OutdatedBefore = time.Now()
			if _, release, err := testRegistry.Open(src); err != nil {
				t.Error(err)
			} else {
				release()
			}
		},
	} {
		src := s.source(t, execUser, fmt.Sprintf("[ -e $0.online ] || { while ! [ -e $0.end ]; do sleep 0.05; done; echo '%s' >&2; exit 1; }\n", message)+printCredential(`"token": "secret"`))
		resultCh := make(chan *forwarder.Failure, 1)
		go func() { resultCh <- getObject(t, src) }()
		for countHelperRuns(t, src) == 0 {
			if !wait.Sleep(t.Context(), 5*time.Millisecond) {
				t.Fatal("the helper is not run")
			}
		}
		change(src)
		writeFile(t, filepath.Join(src.Dir, "helper.online"), "")
		writeFile(t, filepath.Join(src.Dir, "helper.end"), "")
		if f := <-resultCh; f != nil || countHelperRuns(t, src) != 2 {
			t.Errorf("%s: %+v, %d runs", message, f, countHelperRuns(t, src))
		}
	}
}

// expireBackoff ends the backoff of a source's login helper.
func (r *Registry) expireBackoff(t *testing.T, src Source) {
	t.Helper()
	config, err := src.loadConfig()
	if err != nil {
		t.Fatal(err)
	}
	auth := r.authenticators[src.key(config)]
	auth.mu.Lock()
	defer auth.mu.Unlock()
	if left := time.Until(auth.retryAt); left <= 0 || left > pluginBackoff.Max {
		t.Errorf("it is run again in %v", left)
	}
	auth.retryAt = time.Now()
}

// A helper that takes long has words of its own, in place of a timeout of the API server.
func TestAuthenticator_NamesASlowLoginHelper(t *testing.T) {
	s := startServer(t, "secret")
	src := s.source(t, execUser, "while ! [ -e $0.done ]; do sleep 0.1; done\n"+printCredential(`"token": "secret"`))
	opened, release, err := testRegistry.Open(src)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	err = opened.Get(t.Context(), "/x", nil, &struct{}{})
	f := opened.ClassifyError(err, src.ResourceRef)
	if f.Class != forwarder.Transient || !strings.Contains(f.Reason, "may be waiting for you") || !strings.Contains(f.Hint, "localport login") {
		t.Errorf("%+v", f)
	}
	if report := opened.Report(src.ResourceRef); report.Failure == nil || !strings.Contains(report.Failure.Reason, "may be waiting for you") {
		t.Errorf("the report: %+v", report)
	}
	writeFile(t, filepath.Join(src.Dir, "helper.done"), "")
	if err := opened.Get(t.Context(), "/x", nil, &struct{}{}); err != nil {
		t.Errorf("after the login: %v", err)
	}
	if n := countHelperRuns(t, src); n != 1 {
		t.Errorf("it ran %d times", n)
	}
}

func TestRegistry_SetCredentialServesAllSessions(t *testing.T) {
	s := startServer(t, "given")
	src := s.source(t, execUser, "exit 1\n")
	if f := getObject(t, src); f == nil {
		t.Fatal("it did not fail")
	}
	if err := testRegistry.SetCredential(src, []byte(`{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "given"}}`)); err != nil {
		t.Fatal(err)
	}
	if f := getObject(t, src); f != nil {
		t.Errorf("%+v", f)
	}
	if err := testRegistry.SetCredential(src, []byte(`{"token": "secret"}`)); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("nonsense: %v", err)
	}
	terminal := forwarder.Terminal{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
	output, hasHelper, err := RunLoginHelper(t.Context(), s.source(t, execUser, printCredential(`"token": "given"`)), terminal)
	if err != nil || !hasHelper || !strings.Contains(string(output), "given") {
		t.Errorf("%q %t %v", output, hasHelper, err)
	}
	if _, hasHelper, err := RunLoginHelper(t.Context(), s.source(t, "{token: given}", ""), terminal); hasHelper || err != nil {
		t.Errorf("without a helper: %t %v", hasHelper, err)
	}
}

// startWaitingHelper starts a login helper that runs until endHelper and then fails, unless a login was done.
func startWaitingHelper(t *testing.T, s *tokenServer) (src Source, failureCh <-chan *forwarder.Failure) {
	t.Helper()
	src = s.source(t, execUser, "[ -e $0.done ] || { while ! [ -e $0.end ]; do sleep 0.05; done; exit 1; }\n"+printCredential(`"token": "secret"`))
	src.Env = append(slices.Clip(src.Env), "HOME="+src.Dir)
	src.Stamps = src.ReadFiles().Stamps
	ch := make(chan *forwarder.Failure, 1)
	opened, release, err := testRegistry.Open(src)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	go func() {
		_, err := opened.auth.currentCredential(t.Context())
		failure, _ := errors.AsType[*forwarder.Failure](err)
		ch <- failure
	}()
	for countHelperRuns(t, src) == 0 {
		select {
		case f := <-ch:
			t.Fatalf("the helper was not run: %v", f)
		case <-time.After(5 * time.Millisecond):
		}
	}
	return src, ch
}

func endHelper(t *testing.T, src Source) { writeFile(t, filepath.Join(src.Dir, "helper.end"), "") }

func requireChange(t *testing.T, f *forwarder.Failure) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if f == nil || f.AwaitChange == nil || !f.AwaitChange(ctx) {
		t.Fatalf("no change was noticed after %+v", f)
	}
}

// The user logs in by a command while a helper waits for that in a browser: the helper is ended, and its failure does not count.
func TestAuthenticator_LoginEndsAWaitingLoginHelper(t *testing.T) {
	s := startServer(t, "secret")
	src, failureCh := startWaitingHelper(t, s)
	if err := testRegistry.SetCredential(src, []byte(`{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "secret"}}`)); err != nil {
		t.Fatal(err)
	}
	select {
	case f := <-failureCh:
		if f != nil {
			t.Errorf("after the login: %+v", f)
		}
	case <-time.After(30 * time.Second):
		t.Error("the helper's run was not ended")
	}
	endHelper(t, src)
	if f := getObject(t, src); f != nil || countHelperRuns(t, src) != 1 {
		t.Errorf("%+v, %d runs", f, countHelperRuns(t, src))
	}
}

// A login in another terminal while a helper runs is noticed when the helper has failed, although services were opened in between.
func TestAuthenticator_LoginElsewhereDuringALoginHelperIsNoticed(t *testing.T) {
	s := startServer(t, "secret")
	src, failureCh := startWaitingHelper(t, s)
	cache := filepath.Join(src.Dir, ".aws", "sso", "cache")
	if err := os.MkdirAll(cache, 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(cache, "token.json"), "{}")
	writeFile(t, filepath.Join(src.Dir, "helper.done"), "")
	src.Stamps = src.ReadFiles().Stamps
	_, release, err := testRegistry.Open(src)
	if err != nil {
		t.Fatal(err)
	}
	release()
	endHelper(t, src)
	requireChange(t, <-failureCh)
	if f := getObject(t, src); f != nil || countHelperRuns(t, src) != 2 {
		t.Errorf("%+v, %d runs", f, countHelperRuns(t, src))
	}
}

// A helper that changes one of the files each time it fails is run once more, not again and again.
func TestAuthenticator_LoginHelperThatWritesItsFilesIsRunOnceMore(t *testing.T) {
	s := startServer(t, "secret")
	src := s.source(t, execUser, "echo >>$HOME/.aws/credentials; exit 1\n")
	src.Env = append(slices.Clip(src.Env), "HOME="+src.Dir)
	if err := os.Mkdir(filepath.Join(src.Dir, ".aws"), 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		src.Stamps = src.ReadFiles().Stamps
		if f, want := getObject(t, src), min(i+1, 2); f == nil || countHelperRuns(t, src) != want {
			t.Errorf("%+v, %d runs, want %d", f, countHelperRuns(t, src), want)
		}
	}
}

// A login that one service needed serves the others: their failure ends.
func TestAuthenticator_LoginEndsTheFailureOfOtherServices(t *testing.T) {
	s := startServer(t, "given")
	src := s.source(t, execUser, "exit 1\n")
	f := getObject(t, src)
	if err := testRegistry.SetCredential(src, []byte(`{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "given"}}`)); err != nil {
		t.Fatal(err)
	}
	requireChange(t, f)
}

func TestRegistry_GroupEndStopsTheLoginHelper(t *testing.T) {
	s := startServer(t, "secret")
	src := s.source(t, execUser, ": > $0.started\nexec sleep 1000\n")
	group := tasks.New(t.Context())
	opened, release, err := NewRegistry(group).Open(src)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	resultCh := make(chan error)
	go func() { resultCh <- opened.Get(t.Context(), "/x", nil, &struct{}{}) }()
	for countHelperRuns(t, src) == 0 {
		select {
		case err := <-resultCh:
			t.Fatal(err)
		case <-time.After(5 * time.Millisecond):
		}
	}
	group.Close()
	if err := <-resultCh; err == nil {
		t.Error("there is an answer")
	}
}

func TestTokenExpiry_IsReadFromJWTs(t *testing.T) {
	ends := time.Unix(1_900_000_000, 0)
	payload := base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"exp": %d}`, ends.Unix()))
	for token, want := range map[string]time.Time{"a." + payload + ".c": ends, "opaque": {}, "a.b.c": {}, "": {}} {
		if got := kubeconfig.TokenExpiry(token); !got.Equal(want) {
			t.Errorf("%q: %v, want %v", token, got, want)
		}
	}
	s := startServer(t, "x")
	opened, release, err := testRegistry.Open(s.source(t, "{token: a."+payload+".c}", ""))
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if report := opened.Report(ResourceRef{}); !report.ExpiresAt.Equal(ends) || report.IsRenewed || report.Address != s.URL {
		t.Errorf("%+v", report)
	}
}

func TestSession_ProbesALostServerUntilItIsBack(t *testing.T) {
	s := startServer(t, "x")
	src := s.source(t, "{token: x}", "")
	opened, release, err := testRegistry.Open(src)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if err := opened.recordResult(errors.New("it broke")); err == nil {
		t.Error("the error is lost")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		err, changed := opened.Reachability()
		if err == nil {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatal(err)
		}
	}
	before := s.requests.Load()
	if _, changed := opened.Reachability(); before == 0 || changed == nil {
		t.Error("the server was not probed")
	}
}

func certificatePEM(s *httptest.Server) []byte {
	return fmt.Appendf(nil, "-----BEGIN CERTIFICATE-----\n%s\n-----END CERTIFICATE-----\n", base64.StdEncoding.EncodeToString(s.Certificate().Raw))
}

// A login helper that exists and cannot be executed: the failure says why, although the kubeconfig says how to install it, and ends when the
// cause is gone.
func TestPlugin_HelperThatCannotBeExecutedIsExplained(t *testing.T) {
	s := startServer(t, "good")
	for _, c := range []struct {
		text         string
		mode         os.FileMode
		reason, hint string
	}{
		{"#!/bin/sh\n", 0o644, "it is not executable", "run: chmod +x HELPER"},
		{"#!/no/such/python\n", 0o755, "the interpreter in its #! line, /no/such/python, does not exist", "install python, or correct the first line of HELPER"},
	} {
		src := s.source(t, strings.Replace(execUser, "command:", "installHint: install it, command:", 1), printCredential(`"token": "good"`))
		helper := filepath.Join(src.Dir, "helper")
		script, err := os.ReadFile(helper)
		if err != nil {
			t.Fatal(err)
		}
		c.hint = strings.Replace(c.hint, "HELPER", helper, 1)
		writeFile(t, helper, c.text)
		if err := os.Chmod(helper, c.mode); err != nil {
			t.Fatal(err)
		}
		src.OutdatedBefore = time.Now()
		f := getObject(t, src)
		if f == nil || !strings.Contains(f.Reason, "the login helper: run "+helper) || !strings.Contains(f.Reason, c.reason) || f.Hint != c.hint {
			t.Fatalf("got %+v", f)
		}
		_, _, err = RunLoginHelper(t.Context(), src, forwarder.Terminal{Err: io.Discard})
		if f, ok := errors.AsType[*forwarder.Failure](err); !ok || !strings.Contains(f.Reason, c.reason) || f.Hint != c.hint {
			t.Errorf("on a terminal: %v", err)
		}
		writeFile(t, helper, string(script))
		if err := os.Chmod(helper, 0o755); err != nil {
			t.Fatal(err)
		}
		if !f.AwaitChange(t.Context()) {
			t.Error("the change was not noticed")
		}
		src.OutdatedBefore = time.Now()
		if f := getObject(t, src); f != nil {
			t.Errorf("after the change: %+v", f)
		}
	}
}
