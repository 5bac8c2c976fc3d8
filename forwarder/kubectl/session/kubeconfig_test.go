package session

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/localport-sh/localport/testdata/executable"
)

func writeFile(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := executable.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLocation_CompletesAsKubectlDoes(t *testing.T) {
	dir := t.TempDir()
	first := writeFile(t, filepath.Join(dir, "first"), "contexts:\n- {name: a, context: {namespace: apps}}\n- {name: b}\n")
	second := writeFile(t, filepath.Join(dir, "second"),
		"current-context: a\ncontexts:\n- {name: a, context: {namespace: other}}\n- {name: c, context: {namespace: see}}\n")
	wrong := writeFile(t, filepath.Join(dir, "wrong"), "contexts: [")
	home := writeFile(t, filepath.Join(dir, "home", ".kube", "config"), "current-context: b\ncontexts: [{name: b}]\n")
	tests := []struct {
		name       string
		asked      Location
		named, env string
		want       Location
	}{
		{"the first file that sets a value wins", Location{}, "", first + ":" + second, Location{"a", "apps"}},
		{"missing and invalid files are ignored", Location{}, "", "/no/file::" + wrong + ":" + second, Location{"a", "other"}},
		{"relative to the project", Location{}, "", "second", Location{"a", "other"}},
		{"an explicit file replaces KUBECONFIG", Location{}, second, first, Location{"a", "other"}},
		{"~/.kube/config by default", Location{}, "", "", Location{"b", "default"}},
		{"an empty KUBECONFIG counts as unset", Location{}, "", ":", Location{"b", "default"}},
		{"a configured context", Location{Context: "c"}, "", first + ":" + second, Location{"c", "see"}},
		{"a configured namespace", Location{Namespace: "mine"}, "", second, Location{"a", "mine"}},
		{"an unknown context is kept", Location{Context: "x"}, "", first, Location{Context: "x"}},
		{"nothing found", Location{}, "", wrong, Location{}},
	}
	for _, tt := range tests {
		env := []string{"HOME=" + filepath.Dir(filepath.Dir(home)), "KUBECONFIG=" + tt.env}
		if got := tt.asked.Complete(KubeconfigFiles(tt.named, env, dir)); got != tt.want {
			t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
		}
	}
}
