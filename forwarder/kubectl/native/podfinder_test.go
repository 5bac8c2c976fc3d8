package native

import (
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/kubectl/session"
	"github.com/localport-sh/localport/forwarder/process"
)

// refusingServer is an API server with a service and its pod, which refuses requests for services or for pods with 401.
type refusingServer struct {
	*httptest.Server
	mu        sync.Mutex
	refused   map[string]bool // "services" or "pods"
	requestCh chan string     // receives the requests: "services 401", "pods watch", …
	endCh     chan struct{}   // closed to end the watches

	listsNoService bool // only a request for the service by its name finds it
}

const webService = `{"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}}`

func startRefusingServer(t *testing.T) *refusingServer {
	s := &refusingServer{refused: map[string]bool{}, requestCh: make(chan string, 1000), endCh: make(chan struct{})}
	s.Server = httptest.NewTLSServer(s)
	t.Cleanup(func() {
		s.refuse()
		s.Close()
	})
	return s
}

// refuse ends the watches, and has further requests for the kinds refused.
func (s *refusingServer) refuse(kinds ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.refused)
	for _, kind := range kinds {
		s.refused[kind] = true
	}
	close(s.endCh)
	s.endCh = make(chan struct{})
}

func (s *refusingServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	kind := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	s.mu.Lock()
	isRefused, endCh := s.refused[kind], s.endCh
	s.mu.Unlock()
	switch {
	case isRefused:
		s.requestCh <- kind + " 401"
		w.WriteHeader(http.StatusUnauthorized)
	case kind == "web": // a request for the service by its name
		fmt.Fprint(w, webService)
	case r.URL.Query().Get("watch") != "":
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		s.requestCh <- kind + " watch"
		select {
		case <-endCh:
		case <-r.Context().Done():
		}
	case kind == "services":
		items := webService
		if s.listsNoService {
			items = ""
		}
		fmt.Fprintf(w, `{"metadata": {"resourceVersion": "1"}, "items": [%s]}`, items)
	case kind == "pods":
		fmt.Fprintf(w, `{"metadata": {"resourceVersion": "1"}, "items": [%s]}`, podJSON("web-1", "01", "Running", "True", ""))
	}
}

// awaitRequest waits until the server has received a request.
func (s *refusingServer) awaitRequest(t *testing.T, want string) {
	t.Helper()
	limit := time.After(30 * time.Second)
	for {
		select {
		case got := <-s.requestCh:
			if got == want {
				return
			}
		case <-limit:
			t.Fatalf("no request %q", want)
		}
	}
}

// findPods returns a finder of the service's pods.
func (s *refusingServer) findPods(t *testing.T) *podFinder {
	kubeconfig := filepath.Join(t.TempDir(), "config")
	ca := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	text := fmt.Sprintf("{apiVersion: v1, kind: Config, clusters: [{name: c, cluster: {server: %q, certificate-authority-data: %s}}], "+
		"users: [{name: u, user: {token: x}}], contexts: [{name: test, context: {cluster: c, user: u}}]}", s.URL, ca)
	if err := os.WriteFile(kubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	spec := specFor("service/web:80", "shop")
	opened, release, err := testRegistry.Open(session.Source{ResourceRef: spec.Ref, Dir: t.TempDir(), Env: []string{"KUBECONFIG=" + kubeconfig}, Log: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	f := newPodFinder(testTasks, opened, spec.Target, spec.Ref, func(*forwarder.Failure, []byte) {})
	t.Cleanup(f.close)
	return f
}

// A service that is created between a list without it and the request that is to say why is looked for again.
func TestPodFinder_LooksAgainForAServiceThatHasJustBeenCreated(t *testing.T) {
	s := startRefusingServer(t)
	s.listsNoService = true
	err := s.findPods(t).checkTarget(t.Context())
	if f, ok := errors.AsType[*forwarder.Failure](err); !ok || f.Class != forwarder.Permanent || f.RecheckAfter != session.RecheckInterval {
		t.Errorf("%+v", err)
	}
}

// A login helper that cannot be executed ends a tunnel: only another one runs it again.
func TestPassingRefusals_LoginHelperThatCannotBeExecutedIsFinal(t *testing.T) {
	helper := filepath.Join(t.TempDir(), "helper")
	if err := os.WriteFile(helper, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	command := process.Command{Argv: []string{helper}, Dir: t.TempDir()}
	_, err := process.Start(command)
	var refusals passingRefusals
	if f := process.ClassifyStartError(err, command, ""); f.Class != forwarder.Permanent || !refusals.isFinal(f) {
		t.Errorf("%+v is not final", f)
	}
	if refusals.isFinal(&forwarder.Failure{Class: forwarder.Permanent}) {
		t.Error("an object that does not exist is final, although a watch reports it when it does")
	}
}

// A refusal of a moment ends with it, whether the service or its pods are known first again.
func TestPodFinder_RecoversFromARefusalOfAMoment(t *testing.T) {
	for _, order := range [][2]string{{"services", "pods"}, {"pods", "services"}} {
		t.Run(order[0]+" first", func(t *testing.T) {
			s := startRefusingServer(t)
			f := s.findPods(t)
			f.awaitFailure(t, "")
			s.refuse("services", "pods")
			f.awaitFailure(t, "You must be logged in")
			s.refuse(order[1])
			s.awaitRequest(t, order[0]+" watch")
			for range 2 { // by the second, the finder has seen that the other kind is known again
				s.awaitRequest(t, order[1]+" 401")
			}
			s.refuse()
			f.awaitFailure(t, "")
		})
	}
}

// awaitFailure waits until the reason of the finder's failure contains a text; if the text is empty, until there is no failure.
func (f *podFinder) awaitFailure(t *testing.T, want string) {
	t.Helper()
	limit := time.After(30 * time.Second)
	for {
		f.mu.Lock()
		isEvaluated := f.isEvaluated
		f.mu.Unlock()
		failure, changed := f.state()
		if isEvaluated && (failure != nil && want != "" && strings.Contains(failure.Reason, want) || failure == nil && want == "") {
			return
		}
		select {
		case <-changed:
		case <-limit:
			t.Fatalf("the failure is %+v, want %q", failure, want)
		}
	}
}
