package catalog

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/kubectl/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// startServer starts an API server that has count services, which it lists in pages, and returns the environment of its users.
// cmd/localport has tests with a real cluster; one with hundreds of services would take too long.
func startServer(t *testing.T, count int) []string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/services" {
			http.NotFound(w, r)
			return
		}
		var first int
		_, _ = fmt.Sscan(r.URL.Query().Get("continue"), &first)
		var page servicePage
		for i := first; i < min(first+150, count); i++ {
			var item serviceObject
			text := fmt.Sprintf(`{"metadata": {"name": "s%d", "namespace": "n"}, "spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}}`, i)
			if err := json.Unmarshal([]byte(text), &item); err != nil {
				t.Error(err)
			}
			page.Items = append(page.Items, item)
		}
		if first+150 < count {
			page.Metadata.Continue = fmt.Sprint(first + 150)
		}
		_ = json.NewEncoder(w).Encode(page)
	}))
	t.Cleanup(server.Close)
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf("{apiVersion: v1, kind: Config, current-context: test, clusters: [{name: c, cluster: {server: %q}}], "+
		"contexts: [{name: test, context: {cluster: c, user: u}}], users: [{name: u, user: {}}]}", server.URL)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return append(os.Environ(), "KUBECONFIG="+path)
}

func TestList_ReadsPagesUpToItsLimit(t *testing.T) {
	for count, isTruncated := range map[int]bool{0: false, 170: false, MaxServices: false, MaxServices + 1: true, 1000: true} {
		listed, err := List(t.Context(), Query{AllNamespaces: true, Env: startServer(t, count), Dir: t.TempDir(), Log: io.Discard})
		if err != nil {
			t.Fatal(err)
		}
		if len(listed.Services) != min(count, MaxServices) || listed.IsTruncated != isTruncated {
			t.Errorf("of %d: got %d services, truncated: %v", count, len(listed.Services), listed.IsTruncated)
		}
		if listed.Location != (session.Location{Context: "test"}) {
			t.Errorf("got location %+v", listed.Location)
		}
	}
}

func TestList_SaysThatNoClusterIsConfigured(t *testing.T) {
	_, err := List(t.Context(), Query{Env: []string{"KUBECONFIG=" + filepath.Join(t.TempDir(), "missing")}, Dir: t.TempDir(), Log: io.Discard})
	if f, ok := errors.AsType[*forwarder.Failure](err); !ok || f.Class != forwarder.NeedsUser || f.Hint == "" {
		t.Errorf("got %v", err)
	}
}
