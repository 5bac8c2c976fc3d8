package kubectl

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"go.uber.org/goleak"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/testdata/fakekubectl"
)

func TestMain(m *testing.M) {
	if fakekubectl.Plays() {
		os.Exit(fakekubectl.Main())
	}
	goleak.VerifyTestMain(m)
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTargetStaysWhereItWasOpenedFirst(t *testing.T) {
	k := fakekubectl.Install(t, fakekubectl.Script{Backend: "127.0.0.1:1"})
	config := write(t, filepath.Join(k.Dir, "config"), "current-context: a\ncontexts:\n- {name: a}\n- {name: b}\n")
	tech := New(project.Service{RemotePort: "5432", Connection: project.Connection{ResourceName: "postgres", Engine: "kubectl"}})
	if got, want := tech.Target(), "kubectl service/postgres:5432"; got != want {
		t.Errorf("before: %q, want %q", got, want)
	}
	r := forwarder.Run{Dir: t.TempDir(), Env: k.Env(), Log: io.Discard}
	reopen := func(config string) {
		t.Helper()
		opened := r
		opened.Env = append(slices.Clone(r.Env), "KUBECONFIG="+config)
		tunnel, err := tech.Open(t.Context(), opened)
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
