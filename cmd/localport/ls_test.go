package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/testdata/ports"
)

func TestLs_ListsRunningProjectsFromAnywhere(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	w.env = append(w.env, "LOCALPORT_LIMIT=2s")
	if o := w.localport("/", "ls"); o.code != 0 || o.stdout != "" || o.stderr != "localport: no project runs\n" {
		t.Errorf("without a project: exit %d, %q, %q", o.code, o.stdout, o.stderr)
	}
	if text := w.mustRun("/", "ls", "--json"); strings.TrimSpace(text) != "[]" {
		t.Errorf("without a project it prints %q", text)
	}
	upstream, port := serve(t, "127.0.0.1:0"), ports.FreePort(t)
	root, stopped := w.allowedProject(tcpConfig("web", port, upstream)), w.allowedProject(tcpConfig("db", ports.FreePort(t), upstream))
	stuck := w.allowedProject(tcpConfig("api", ports.FreePort(t), upstream))
	for _, dir := range []string{root, stopped, stuck} {
		w.mustRun(dir, "start")
	}
	w.mustRun(stopped, "stop")
	supervisor := w.supervisor(stuck)
	w.stopProcess(supervisor.PID)
	text := w.mustRun("/", "ls")
	for _, want := range []string{root, fmt.Sprint("127.0.0.1:", port), "healthy", `"localport start"`, fmt.Sprintf("pid %d", supervisor.PID)} {
		if !strings.Contains(text, want) {
			t.Errorf("ls does not print %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, stopped) || strings.Count(text, "\n") != 3 {
		t.Errorf("not a line for each service, and one for the project that does not answer:\n%s", text)
	}
	var projects []struct {
		api.Status
		Error string `json:"error"`
	}
	if err := json.Unmarshal([]byte(w.mustRun("/", "status", "--all", "--json")), &projects); err != nil || len(projects) != 2 {
		t.Fatalf("%d projects, %v", len(projects), err)
	}
	for _, p := range projects {
		isStuck := p.Project == stuck
		if isStuck != (p.State == stateNoAnswer) || isStuck != (p.Error != "") || isStuck != (len(p.Services) == 0) {
			t.Errorf("%+v", p)
		}
	}
}
