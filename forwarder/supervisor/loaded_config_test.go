package supervisor

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
)

// newLoadingSupervisor is as much of a supervisor as loading a config needs.
func newLoadingSupervisor(t *testing.T) *Supervisor {
	t.Helper()
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	config := filepath.Join(t.TempDir(), project.ConfigName)
	dir, err := lockstate.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	s := &Supervisor{options: Options{Config: config}, source: configSource{path: config}, dir: dir, log: log, inherited: &inheritance{}}
	s.env = newEnvironment([]string{"A=1"}, "run")
	s.store = newStore(dir, log, func() {})
	s.drivers = newDrivers(context.WithoutCancel(t.Context()), forwarder.Host{Dir: s.root(), Log: log})
	t.Cleanup(func() { _ = s.drivers.close() })
	return s
}

func (s *Supervisor) writeFiles(t *testing.T, config, dotEnv string) *project.Files {
	t.Helper()
	for name, text := range map[string]string{project.ConfigName: config, project.EnvName: dotEnv} {
		if err := os.WriteFile(filepath.Join(s.root(), name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files, err := project.ReadFiles(s.options.Config)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

const autoPortConfig = `
[services.db]
technology = "tcp"
local_port = "auto"
remote_port = 5432
connection = { remote_host = "127.0.0.1" }
health_check = { type = "postgres", user = "app", password = "${PASSWORD}" }
`

func TestSupervisor_ParseConfigChangesNothing(t *testing.T) {
	s := newLoadingSupervisor(t)
	l, err := s.parseConfig(s.writeFiles(t, autoPortConfig, "PASSWORD=hunter22\n"))
	if err != nil {
		t.Fatal(err)
	}
	if l.ports["db"] == 0 || s.store.state().Ports != nil || s.secrets.Load() != nil {
		t.Errorf("ports %v, stored %v, secrets %v", l.ports, s.store.state().Ports, s.secrets.Load())
	}
	s.useConfig(l, nil)
	s.store.set(lockstate.State{ID: "x", Ports: l.ports})
	env, ports := s.env.childEnviron(), l.ports["db"]

	for name, change := range map[string][2]string{
		"an invalid config": {
			autoPortConfig + "\n[services.more]\ntechnology = \"tcp\"\nlocal_port = \"auto\"\nremote_port = \"x\"\n", "PASSWORD=other\n",
		},
		"a variable that is not set": {autoPortConfig, "OTHER=more\n"},
	} {
		if _, err := s.parseConfig(s.writeFiles(t, change[0], change[1])); err == nil {
			t.Fatalf("%s: no error", name)
		}
		if got := s.env.childEnviron(); !slices.Equal(got, env) {
			t.Errorf("%s: children get %q, before %q", name, got, env)
		}
		if got := s.store.state().Ports; len(got) != 1 || got["db"] != ports {
			t.Errorf("%s: ports %v", name, got)
		}
		if got := s.mask("it is hunter22"); strings.Contains(got, "hunter22") {
			t.Errorf("%s: the secret of the active config is not masked: %q", name, got)
		}
	}
}
