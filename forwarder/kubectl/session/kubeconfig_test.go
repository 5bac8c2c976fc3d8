package session

import (
	"os"
	"path/filepath"
	"testing"
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
		asked      Place
		named, env string
		want       Place
	}{
		{"first file to say it wins", Place{}, "", first + ":" + second, Place{"a", "apps"}},
		{"missing and wrong files are passed over", Place{}, "", "/no/file::" + wrong + ":" + second, Place{"a", "other"}},
		{"relative to the project", Place{}, "", "second", Place{"a", "other"}},
		{"a named file alone counts", Place{}, second, first, Place{"a", "other"}},
		{"the home's by default", Place{}, "", "", Place{"b", "default"}},
		{"an empty list is no list", Place{}, "", ":", Place{"b", "default"}},
		{"the context asked for", Place{Context: "c"}, "", first + ":" + second, Place{"c", "see"}},
		{"the namespace asked for", Place{Namespace: "mine"}, "", second, Place{"a", "mine"}},
		{"an unknown context is kubectl's to refuse", Place{Context: "x"}, "", first, Place{Context: "x"}},
		{"nothing found", Place{}, "", wrong, Place{}},
	}
	for _, tt := range tests {
		env := []string{"HOME=" + filepath.Dir(filepath.Dir(home)), "KUBECONFIG=" + tt.env}
		if got := tt.asked.Complete(Files(tt.named, env, dir)); got != tt.want {
			t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
		}
	}
}
