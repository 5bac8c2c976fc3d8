package session

import (
	"encoding/base64"
	"fmt"
	"io"
	"net"
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

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/testdata/ports"
)

func TestSource_MergesAListOfKubeconfigs(t *testing.T) {
	s := startServer(t, "x")
	whole := s.source(t, "{token: x}", "")
	dir := t.TempDir()
	text, err := os.ReadFile(strings.TrimPrefix(whole.Env[len(whole.Env)-1], "KUBECONFIG="))
	if err != nil {
		t.Fatal(err)
	}
	before, after, _ := strings.Cut(string(text), "users: ")
	for name, part := range map[string]string{"clusters": before + "contexts: []}", "rest": "{apiVersion: v1, kind: Config, users: " + after} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(part), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	src := whole
	src.Dir = dir // relative entries are the project's
	src.Env = append(os.Environ(), "KUBECONFIG=clusters:"+filepath.Join(dir, "missing")+":rest")
	if f := getObject(t, src); f != nil {
		t.Errorf("%+v", f)
	}
	src.Location.Context = "other"
	if f := getObject(t, src); f == nil || f.Class != forwarder.Permanent || !strings.Contains(f.Reason, `context "other" does not exist`) {
		t.Errorf("%+v", f)
	}
	const local = "a context that differs from person to person belongs in .localport.local.toml"
	if f := getObject(t, src); f == nil || f.Hint != "contexts: test; "+local {
		t.Errorf("%+v", f)
	}
	src.Location.Context = "tset2"
	if f := getObject(t, src); f == nil || f.Hint != "contexts: test; "+local {
		t.Errorf("%+v", f)
	}
	src.Location.Context = "Tests"
	if f := getObject(t, src); f == nil || f.Hint != `did you mean "test"? "kubectl config get-contexts" lists all; `+local {
		t.Errorf("%+v", f)
	}
	src.Location.Context = "test"
	src.Kubeconfig = filepath.Join(dir, "clusters") // alone it has no context
	if f := getObject(t, src); f == nil || f.Class != forwarder.Permanent || !strings.Contains(f.Hint, "--kubeconfig "+src.Kubeconfig) {
		t.Errorf("%+v", f)
	}
	src.Kubeconfig = filepath.Join(dir, "broken")
	if err := os.WriteFile(src.Kubeconfig, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if f := getObject(t, src); f == nil || f.Class != forwarder.Permanent || !strings.Contains(f.Reason, "the kubeconfig cannot be read") {
		t.Errorf("%+v", f)
	}
}

func TestSource_SaysThatNothingNamesAKubeconfig(t *testing.T) {
	f := getObject(t, Source{Dir: t.TempDir(), Log: io.Discard})
	if f == nil || f.Class != forwarder.NeedsUser || f.Reason != "no cluster is configured (KUBECONFIG and HOME are not set)" {
		t.Errorf("%+v", f)
	}
}

func TestSource_NamesWhatReplacesARetiredAuthProvider(t *testing.T) {
	s := startServer(t, "x")
	for provider, hint := range map[string]string{"gcp": "gke-gcloud-auth-plugin", "azure": "kubelogin", "openstack": "client-keystone-auth"} {
		f := getObject(t, s.source(t, "{auth-provider: {name: "+provider+"}}", ""))
		if f == nil || f.Class != forwarder.NeedsUser || !strings.Contains(f.Reason, fmt.Sprintf("the auth provider %q", provider)) || !strings.Contains(f.Hint, hint) {
			t.Errorf("%s: %+v", provider, f)
		}
	}
}

// startProxy starts an HTTP proxy that connects to addr, whatever the host in the request, and counts the requests.
func startProxy(t *testing.T, addr string) (url string, requests *atomic.Int32) {
	var proxied atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		proxied.Add(1)
		serverConn, err := net.Dial("tcp", addr)
		if err != nil || r.Method != http.MethodConnect {
			http.Error(w, "no", http.StatusBadGateway)
			return
		}
		w.WriteHeader(http.StatusOK)
		clientConn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		var copying sync.WaitGroup
		copying.Go(func() {
			_, _ = io.Copy(serverConn, buffered) // some may have been read with the request
			_ = serverConn.Close()
		})
		_, _ = io.Copy(clientConn, serverConn)
		_ = clientConn.Close()
		copying.Wait()
	}))
	t.Cleanup(proxy.Close)
	return proxy.URL, &proxied
}

// The proxies are those of each run's environment, not those that the process had when it first asked for one.
func TestSession_UsesTheProxyOfTheRunsEnvironment(t *testing.T) {
	s := startServer(t, "x")
	addr := s.Listener.Addr().String()
	src := s.source(t, "{token: x}", "")
	path := strings.TrimPrefix(src.Env[len(src.Env)-1], "KUBECONFIG=")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(text), s.URL, "https://example.com:6443")), 0o600); err != nil {
		t.Fatal(err)
	}
	env := src.Env
	_, releaseFirst, err := testRegistry.Open(src) // a session with another environment stays open meanwhile
	if err != nil {
		t.Fatal(err)
	}
	defer releaseFirst()
	for _, name := range []string{"HTTPS_PROXY", "https_proxy"} {
		proxyURL, requests := startProxy(t, addr)
		src.Env = append(slices.Clone(env), name+"="+proxyURL)
		if f := getObject(t, src); f != nil || requests.Load() != 1 {
			t.Errorf("%s: %+v, %d requests", name, f, requests.Load())
		}
	}
}

func TestSession_UsesTheKubeconfigsProxy(t *testing.T) {
	s := startServer(t, "x")
	proxyURL, proxied := startProxy(t, s.Listener.Addr().String())
	src := s.source(t, "{token: x}", "")
	path := strings.TrimPrefix(src.Env[len(src.Env)-1], "KUBECONFIG=")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(text), "cluster: {", fmt.Sprintf("cluster: {proxy-url: %q, ", proxyURL), 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if f := getObject(t, src); f != nil || proxied.Load() == 0 {
		t.Errorf("%+v, %d through the proxy", f, proxied.Load())
	}
	opened, release, err := testRegistry.Open(src)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	before := proxied.Load()
	_, err = opened.Upgrade(t.Context(), "/x") // which the server does not do; it was asked through the proxy
	if err == nil || proxied.Load() == before {
		t.Errorf("upgrade: %v, %d through the proxy", err, proxied.Load()-before)
	}
}

func TestSession_ChecksNodesOnDemandAndAtMostOncePerInterval(t *testing.T) {
	s := startServer(t, "x")
	src := s.source(t, "{token: x}", "")
	opened, release, err := testRegistry.Open(src)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	opened.Report(src.ResourceRef)
	if n := s.requests.Load(); n != 0 {
		t.Errorf("the server was asked %d times for a report", n)
	}
	for range 5 {
		opened.CheckNodes([]string{"one", "two"})
	}
	opened.tasks.Wait()
	if n := s.requests.Load(); n != 2 {
		t.Errorf("the server was asked %d times about two nodes", n)
	}
}

// Nodes are checked only while something is wrong with a pod, so that what was wrong with a node counts for a limited time.
func TestSession_ForgetsANodeThatIsNotCheckedAnyMore(t *testing.T) {
	s := startServer(t, "x")
	src := s.source(t, "{token: x}", "")
	opened, release, err := testRegistry.Open(src)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	n := &opened.nodeHealth
	n.notReady = map[string]string{"one": "the kubelet stopped posting node status"}
	n.checkedAt = map[string]time.Time{"one": time.Now()}
	if f := opened.Report(src.ResourceRef).Failure; f == nil || f.Reason != "node one is not Ready: the kubelet stopped posting node status" {
		t.Errorf("%+v", f)
	}
	n.checkedAt["one"] = time.Now().Add(-nodeMaxAge)
	if f := opened.Report(src.ResourceRef).Failure; f != nil {
		t.Errorf("after %v: %+v", nodeMaxAge, f)
	}
}

// A login that fails is none of the API server's, which has not been asked.
func TestSession_LoginOfAnAuthProviderIsNamed(t *testing.T) {
	expired := "e30." + base64.RawURLEncoding.EncodeToString([]byte(`{"exp": 1}`)) + ".c2ln"
	issuer := fmt.Sprintf("http://127.0.0.1:%d", ports.FreePort(t)) // nothing listens there
	for _, test := range []struct {
		config string
		class  forwarder.Class
		reason string
	}{
		{"id-token: " + expired, forwarder.NeedsUser, "no refresh-token"},
		{"refresh-token: x", forwarder.Transient, "the identity provider cannot be reached"},
	} {
		s := startServer(t, "x")
		user := fmt.Sprintf("{auth-provider: {name: oidc, config: {idp-issuer-url: '%s', client-id: me, %s}}}", issuer, test.config)
		f := getObject(t, s.source(t, user, ""))
		if f == nil || f.Class != test.class || !strings.Contains(f.Reason, "no valid ID token") || !strings.Contains(f.Reason, test.reason) || strings.Contains(f.Reason, "API server") {
			t.Errorf("%s: %+v", test.config, f)
		}
	}
}
