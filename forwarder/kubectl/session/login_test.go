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
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/tasks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shared is that of all tests: each has a server of its own.
var shared = NewShared(tasks.New(context.Background()))

// server answers who has one of some tokens.
type server struct {
	*httptest.Server
	mu     sync.Mutex
	tokens []string
	asked  atomic.Int32
}

func serve(t *testing.T, tokens ...string) *server {
	t.Helper()
	s := &server{tokens: tokens}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
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

func (s *server) takes(tokens ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens = tokens
}

// source is a kubeconfig for the server with a user in YAML, and a helper that the user may name as HELPER.
func (s *server) source(t *testing.T, user, helper string) Source {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "helper")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho run >> "+dir+"/runs\n"+helper), 0o755); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "config")
	ca := base64.StdEncoding.EncodeToString(certificate(s.Server))
	text := fmt.Sprintf("{apiVersion: v1, kind: Config, current-context: test, clusters: [{name: c, cluster: {server: %q, certificate-authority-data: %s}}], "+
		"users: [{name: u, user: %s}], contexts: [{name: test, context: {cluster: c, user: u}}]}", s.URL, ca, strings.ReplaceAll(user, "HELPER", program))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Source{Words: Words{Place: Place{Context: "test"}}, Dir: dir, Env: append(os.Environ(), "KUBECONFIG="+config), Log: io.Discard}
}

func runs(t *testing.T, src Source) int {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(src.Dir, "runs"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Count(string(data), "run")
}

func get(t *testing.T, src Source) *forwarder.Failure {
	t.Helper()
	s, release, err := shared.Open(src)
	if err != nil {
		failure, _ := errors.AsType[*forwarder.Failure](err)
		return failure
	}
	defer release()
	var into struct{ Metadata Meta }
	if err := s.Get(t.Context(), "/api/v1/namespaces/x", nil, &into); err != nil {
		return s.Failure(err, src.Words)
	}
	return nil
}

const execUser = "{exec: {apiVersion: client.authentication.k8s.io/v1, command: HELPER, interactiveMode: IfAvailable}}"

func answers(status string) string {
	return fmt.Sprintf("echo '{\"apiVersion\": \"client.authentication.k8s.io/v1\", \"kind\": \"ExecCredential\", \"status\": {%s}}'\n", status)
}

func TestALoginHelperRunsOnceForAll(t *testing.T) {
	s := serve(t, "secret")
	src := s.source(t, execUser, "echo $KUBERNETES_EXEC_INFO >> "+"$0.info\n"+answers(`"token": "secret"`))
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			if f := get(t, src); f != nil {
				t.Errorf("%+v", f)
			}
		})
	}
	all.Wait()
	if n := runs(t, src); n != 1 {
		t.Errorf("it ran %d times", n)
	}
	if f := get(t, src); f != nil || runs(t, src) != 1 { // after the last session was closed
		t.Errorf("%+v, %d runs", f, runs(t, src))
	}
	info, _ := os.ReadFile(filepath.Join(src.Dir, "helper.info"))
	if want := `{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","spec":{"interactive":false}}`; strings.TrimSpace(string(info)) != want {
		t.Errorf("it was told %s", info)
	}
}

func TestACredentialThatIsRefusedOrEndsIsRenewed(t *testing.T) {
	s := serve(t, "one")
	src := s.source(t, execUser, "if [ $(wc -l < $(dirname $0)/runs) = 1 ]; then T=one; else T=two; fi\n"+strings.ReplaceAll(answers(`"token": "TOKEN"`), "TOKEN", `'$T'`))
	if f := get(t, src); f != nil {
		t.Fatalf("%+v", f)
	}
	s.takes("two")
	if f := get(t, src); f != nil || runs(t, src) != 2 {
		t.Errorf("after it was refused: %+v, %d runs", f, runs(t, src))
	}
	s.takes("none")
	if f := get(t, src); f == nil || f.Class != forwarder.ByAttention || !strings.Contains(f.Reason, "You must be logged in") || runs(t, src) != 3 {
		t.Errorf("when none is taken: %+v, %d runs", f, runs(t, src))
	}
	ends := time.Now().Add(2 * time.Second).UTC().Format(time.RFC3339) // sooner than is worth beginning with
	short := s.source(t, execUser, answers(`"token": "short", "expirationTimestamp": "`+ends+`"`))
	s.takes("short")
	for range 2 {
		if f := get(t, short); f != nil || runs(t, short) != 1 {
			t.Errorf("%+v, %d runs", f, runs(t, short))
		}
	}
	<-time.After(1100 * time.Millisecond) // the helper is not run more often, whatever it says
	if f := get(t, short); f != nil || runs(t, short) != 2 {
		t.Errorf("when it is over: %+v, %d runs", f, runs(t, short))
	}
}

func TestWhatALoginHelperSaysAndDoesWrongIsRemembered(t *testing.T) {
	s := serve(t, "secret")
	for _, tt := range []struct{ name, user, helper, reason, hint string }{
		{"fails", execUser, "echo please log in >&2\nexit 3\n", "failed: exit status 3: please log in", "localport login"},
		{"says nothing", execUser, "exit 0\n", "its answer is not an ExecCredential", "localport login"},
		{"another version", execUser, "echo '{\"apiVersion\": \"client.authentication.k8s.io/v1beta1\", \"kind\": \"ExecCredential\", \"status\": {\"token\": \"secret\"}}'\n", "it speaks client.authentication.k8s.io/v1beta1, the kubeconfig says client.authentication.k8s.io/v1", ""},
		{"no status", execUser, "echo '{\"apiVersion\": \"client.authentication.k8s.io/v1\", \"kind\": \"ExecCredential\"}'\n", "its answer has no status", ""},
		{"empty", execUser, answers(""), "neither a token nor a certificate", ""},
		{"key alone", execUser, answers(`"clientKeyData": "secret"`), "a certificate or a key alone", ""},
		{"bad certificate", execUser, answers(`"clientCertificateData": "secret", "clientKeyData": "secret"`), "its certificate cannot be used", ""},
		{"needs a terminal", strings.ReplaceAll(execUser, "IfAvailable", "Always"), answers(`"token": "secret"`), "needs a terminal", "localport login"},
		{"missing", "{exec: {apiVersion: client.authentication.k8s.io/v1, command: /no/such/helper, interactiveMode: Never, installHint: \"get it\\n  from there\"}}", "", "there is no /no/such/helper", "get it from there"},
	} {
		src := s.source(t, tt.user, tt.helper)
		for range 2 {
			f := get(t, src)
			if f == nil || f.Class != forwarder.ByAttention || !strings.Contains(f.Reason, tt.reason) || !strings.Contains(f.Hint, tt.hint) {
				t.Errorf("%s: %+v", tt.name, f)
			} else if strings.Contains(f.Reason, "secret") {
				t.Errorf("%s shows the credential: %s", tt.name, f.Reason)
			}
		}
		if n := runs(t, src); n > 1 {
			t.Errorf("%s: it ran %d times", tt.name, n)
		}
	}
	src := s.source(t, execUser, "[ -e $0.done ] || { : > $0.done; exit 1; }\n"+answers(`"token": "secret"`))
	if f := get(t, src); f == nil {
		t.Error("it did not fail")
	}
	src.Asked = time.Now()
	if f := get(t, src); f != nil || runs(t, src) != 2 {
		t.Errorf("after the user asked for it: %+v, %d runs", f, runs(t, src))
	}
}

func TestACredentialFromTheForegroundIsForAll(t *testing.T) {
	s := serve(t, "given")
	src := s.source(t, execUser, "exit 1\n")
	if f := get(t, src); f == nil {
		t.Fatal("it did not fail")
	}
	if err := shared.Give(src, []byte(`{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "given"}}`)); err != nil {
		t.Fatal(err)
	}
	if f := get(t, src); f != nil {
		t.Errorf("%+v", f)
	}
	if err := shared.Give(src, []byte(`{"token": "secret"}`)); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("nonsense: %v", err)
	}
	terminal := forwarder.Terminal{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
	answer, helped, err := Foreground(t.Context(), s.source(t, execUser, answers(`"token": "given"`)), terminal)
	if err != nil || !helped || !strings.Contains(string(answer), "given") {
		t.Errorf("%q %t %v", answer, helped, err)
	}
	if _, helped, err := Foreground(t.Context(), s.source(t, "{token: given}", ""), terminal); helped || err != nil {
		t.Errorf("without a helper: %t %v", helped, err)
	}
}

func TestShared_TheEndOfItsGroupEndsALoginHelper(t *testing.T) {
	s := serve(t, "secret")
	src := s.source(t, execUser, ": > $0.begun\nexec sleep 1000\n")
	group := tasks.New(t.Context())
	opened, release, err := NewShared(group).Open(src)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	asked := make(chan error)
	go func() { asked <- opened.Get(t.Context(), "/x", nil, &struct{}{}) }()
	for runs(t, src) == 0 {
		select {
		case err := <-asked:
			t.Fatal(err)
		case <-time.After(5 * time.Millisecond):
		}
	}
	group.Close()
	if err := <-asked; err == nil {
		t.Error("there is an answer")
	}
}

func TestTheEndOfACredentialIsRead(t *testing.T) {
	ends := time.Unix(1_900_000_000, 0)
	payload := base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"exp": %d}`, ends.Unix()))
	for token, want := range map[string]time.Time{"a." + payload + ".c": ends, "opaque": {}, "a.b.c": {}, "": {}} {
		if got := tokenEnds(token); !got.Equal(want) {
			t.Errorf("%q: %v, want %v", token, got, want)
		}
	}
	s := serve(t, "x")
	opened, release, err := shared.Open(s.source(t, "{token: a."+payload+".c}", ""))
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if around := opened.Report(Words{}); !around.Expires.Equal(ends) || around.Renewed || around.Address != s.URL {
		t.Errorf("%+v", around)
	}
}

func TestAServerThatIsLostIsAskedForUntilItIsBack(t *testing.T) {
	s := serve(t, "x")
	src := s.source(t, "{token: x}", "")
	opened, release, err := shared.Open(src)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if err := opened.heard(errors.New("it broke")); err == nil {
		t.Error("the error is lost")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		trouble, changed := opened.Reach()
		if trouble == nil {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatal(trouble)
		}
	}
	before := s.asked.Load()
	if _, changed := opened.Reach(); before == 0 || changed == nil {
		t.Error("nobody asked")
	}
}

func certificate(s *httptest.Server) []byte {
	return fmt.Appendf(nil, "-----BEGIN CERTIFICATE-----\n%s\n-----END CERTIFICATE-----\n", base64.StdEncoding.EncodeToString(s.Certificate().Raw))
}
