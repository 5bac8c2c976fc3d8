package kubectl

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/testdata/fakekubectl"
)

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPlaceIsCompletedAsKubectlWould(t *testing.T) {
	dir := t.TempDir()
	first := write(t, filepath.Join(dir, "first"), "contexts:\n- {name: a, context: {namespace: apps}}\n- {name: b}\n")
	second := write(t, filepath.Join(dir, "second"),
		"current-context: a\ncontexts:\n- {name: a, context: {namespace: other}}\n- {name: c, context: {namespace: see}}\n")
	wrong := write(t, filepath.Join(dir, "wrong"), "contexts: [")
	home := write(t, filepath.Join(dir, "home", ".kube", "config"), "current-context: b\ncontexts: [{name: b}]\n")
	tests := []struct {
		name       string
		asked      place
		named, env string
		want       place
	}{
		{"first file to say it wins", place{}, "", first + ":" + second, place{"a", "apps"}},
		{"missing and wrong files are passed over", place{}, "", "/no/file::" + wrong + ":" + second, place{"a", "other"}},
		{"relative to the project", place{}, "", "second", place{"a", "other"}},
		{"a named file alone counts", place{}, second, first, place{"a", "other"}},
		{"the home's by default", place{}, "", "", place{"b", "default"}},
		{"an empty list is no list", place{}, "", ":", place{"b", "default"}},
		{"the context asked for", place{context: "c"}, "", first + ":" + second, place{"c", "see"}},
		{"the namespace asked for", place{namespace: "mine"}, "", second, place{"a", "mine"}},
		{"an unknown context is kubectl's to refuse", place{context: "x"}, "", first, place{context: "x"}},
		{"nothing found", place{}, "", wrong, place{}},
	}
	for _, tt := range tests {
		env := []string{"HOME=" + filepath.Dir(filepath.Dir(home)), "KUBECONFIG=" + tt.env}
		if got := tt.asked.complete(kubeconfigs(tt.named, env, dir)); got != tt.want {
			t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func TestTargetStaysWhereItWasOpenedFirst(t *testing.T) {
	k := fakekubectl.Install(t, fakekubectl.Script{Backend: "127.0.0.1:1"})
	config := write(t, filepath.Join(k.Dir, "config"), "current-context: a\ncontexts:\n- {name: a}\n- {name: b}\n")
	svc := service()
	svc.Connection.Context, svc.Connection.Namespace, svc.Connection.ResourceType = "", "", ""
	tech := New(svc)
	if got, want := tech.Target(), "kubectl service/postgres:5432"; got != want {
		t.Errorf("before: %q, want %q", got, want)
	}
	r := run(t, k)
	reopen := func(config string) {
		t.Helper()
		opened := r
		opened.Env = append(slices.Clone(r.Env), "KUBECONFIG="+config)
		tunnel, err := tech.Open(t.Context(), forwarder.Run(opened))
		if err != nil {
			t.Fatal(err)
		}
		_ = tunnel.Close()
	}
	reopen(config)
	write(t, config, "current-context: b\ncontexts:\n- {name: a}\n- {name: b}\n") // kubectl config use-context b
	reopen(config)
	if got, want := tech.Target(), "kubectl a/default service/postgres:5432"; got != want {
		t.Errorf("after: %q, want %q", got, want)
	}
	for i, start := range k.Starts(t) {
		if !slices.Contains(start.Args, "a") || !slices.Contains(start.Args, "default") {
			t.Errorf("start %d: %q", i, start.Args)
		}
	}
	reopen(write(t, config+"2", "current-context: c\n"))
	if got, want := tech.Target(), "kubectl c service/postgres:5432"; got != want {
		t.Errorf("with another KUBECONFIG: %q, want %q", got, want)
	}
}
