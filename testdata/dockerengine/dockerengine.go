// Package dockerengine receives what the docker program asks an engine for. It stands in for the engine alone: the program, which reads the
// file of --env-file, is the real one.
package dockerengine

import (
	"encoding/json"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/localport-sh/localport/testdata/shellpty"
)

// Engine records the containers that are to be created, and creates none.
type Engine struct {
	// Host is the value of DOCKER_HOST.
	Host string

	envCh chan []string
}

// Start starts an engine. The test is skipped if there is no docker program.
func Start(t testing.TB) *Engine {
	t.Helper()
	if _, err := exec.LookPath("docker"); err != nil {
		t.Skip("the docker program is missing (Debian: docker-cli or docker.io)")
	}
	socket := filepath.Join(shellpty.NewDir(t), "docker.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	e := &Engine{Host: "unix://" + socket, envCh: make(chan []string, 16)}
	server := &http.Server{Handler: http.HandlerFunc(e.serve)} //nolint:gosec // its only client is the test's
	servedCh := make(chan struct{})
	go func() { defer close(servedCh); _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close(); <-servedCh })
	return e
}

// serve answers as the Docker Engine API (v1.44, ContainerCreate) describes it, until a container is to be created.
func (e *Engine) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Api-Version", "1.44")
	w.Header().Set("Content-Type", "application/json")
	if !strings.HasSuffix(r.URL.Path, "/containers/create") {
		return
	}
	var container struct{ Env []string }
	if err := json.NewDecoder(r.Body).Decode(&container); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	e.envCh <- container.Env
	w.WriteHeader(http.StatusInternalServerError)
	_, _ = w.Write([]byte(`{"message":"recorded"}`))
}

// Environment returns the environment of the next container that was to be created; nil if there was none.
func (e *Engine) Environment() map[string]string {
	select {
	case list := <-e.envCh:
		env := map[string]string{}
		for _, entry := range list {
			name, value, _ := strings.Cut(entry, "=")
			env[name] = value
		}
		return env
	default:
		return nil
	}
}
