package native

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/kubectl/session"
)

func writeKubeconfig(t *testing.T, path, server, token string) {
	t.Helper()
	text := fmt.Appendf(nil, `{apiVersion: v1, kind: Config, current-context: test,
clusters: [{name: test, cluster: {server: "%s", insecure-skip-tls-verify: true}}], users: [{name: test, user: {token: %s}}],
contexts: [{name: test, context: {cluster: test, user: test, namespace: default}}]}`, server, token)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Another token is used as soon as a dial fails, although upstreams that are open still serve clients.
func TestTunnel_FailedDialEndsATunnelWhoseKubeconfigHasChanged(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler()) // over HTTP, no token is used
	t.Cleanup(server.Close)
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	writeKubeconfig(t, kubeconfig, server.URL, "one")
	spec, run := specFor("service/web:7000", "default"), newRun(t, kubeconfig)
	src := session.Source{ResourceRef: spec.Ref, Dir: run.Dir, Env: run.Env, Log: run.Log}
	s, release, err := testRegistry.Open(src)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	tunnel := &tunnel{ref: spec.Ref, session: s, files: src.ReadFiles(), doneCh: make(chan struct{}), changedCh: make(chan struct{}, 1)}
	tunnel.finder = newPodFinder(testTasks, s, spec.Target, spec.Ref, tunnel.onPanic)
	t.Cleanup(tunnel.finder.close)
	writeKubeconfig(t, kubeconfig, server.URL, "another")
	tunnel.recordDialResult(destination{pod: "web-1", uid: "1"}, &session.StatusError{Code: http.StatusUnauthorized})
	select {
	case <-tunnel.Done():
	default:
		t.Errorf("it has not ended: %+v", tunnel.CurrentFailure())
	}
}

// The watch of the pods may be refused for a moment while that of the service stays open.
func TestPodFinder_ForgetsARefusalOfOneOfItsWatches(t *testing.T) {
	const service = `{"metadata": {"name": "web", "resourceVersion": "1"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 7000}]}}`
	var refuses atomic.Bool
	mayWatchCh := make(chan struct{})
	list := func(item string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			isPods := r.URL.Path == "/api/v1/namespaces/default/pods"
			switch isWatch := r.URL.Query().Get("watch") != ""; {
			case isPods && refuses.Load():
				http.Error(w, "", http.StatusUnauthorized)
			case isWatch:
				_ = http.NewResponseController(w).Flush()
				if isPods {
					<-mayWatchCh
					return
				}
				<-r.Context().Done()
			default:
				fmt.Fprintf(w, `{"metadata": {"resourceVersion": "1"}, "items": [%s]}`, item)
			}
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/namespaces/default/services", list(service))
	mux.HandleFunc("GET /api/v1/namespaces/default/pods", list(podJSON("web-1", "01", "Running", "True", "")))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	writeKubeconfig(t, kubeconfig, server.URL, "one")
	spec, run := specFor("service/web:7000", "default"), newRun(t, kubeconfig)
	s, release, err := testRegistry.Open(session.Source{ResourceRef: spec.Ref, Dir: run.Dir, Env: run.Env, Log: run.Log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	f := newPodFinder(testTasks, s, spec.Target, spec.Ref, func(failure *forwarder.Failure, _ []byte) { t.Error(failure) })
	t.Cleanup(f.close)
	limit := time.After(20 * time.Second)
	await := func(want string, isReached func() bool) {
		t.Helper()
		for {
			failure, changed := f.state()
			if isReached() {
				return
			}
			select {
			case <-changed:
			case <-limit:
				t.Fatalf("%s: %+v", want, failure)
			}
		}
	}
	hasFailure := func() bool { failure, _ := f.state(); return failure != nil }
	await("the pod is found", func() bool { dest, _, _, _ := f.choosePod(); return dest != nil })
	refuses.Store(true)
	close(mayWatchCh)
	await("the watch of the pods is refused", hasFailure)
	refuses.Store(false)
	await("it is not refused any more", func() bool { return !hasFailure() })
}
