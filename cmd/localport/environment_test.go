package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/testdata/executable"
	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/sshd"
)

// withEnv returns the same world, seen from a shell with further variables.
func (w *testEnv) withEnv(entries ...string) *testEnv {
	other := *w
	other.env = append(slices.Clone(w.env), entries...)
	return &other
}

func TestEnvironment_OfAShellIsTakenOnlyByRestart(t *testing.T) {
	t.Parallel()
	const secret = "hunter2-session-token"
	w := newTestEnv(t)
	a, b := serve(t, "127.0.0.1:0"), serveBanner(t)
	web, kept := ports.FreePort(t), ports.FreePort(t)
	webAddr := fmt.Sprintf("127.0.0.1:%d", web)
	one := w.withEnv(fmt.Sprintf("UPSTREAM=%d", a.port), "AWS_PROFILE=one")
	two := w.withEnv(fmt.Sprintf("UPSTREAM=%d", b.port), "AWS_PROFILE=two", "AWS_SESSION_TOKEN="+secret, "TERM=another")
	program := commandConfig(t, "program", ports.FreePort(t))
	program = strings.Replace(program, `["/usr/bin/env", `, `["/bin/sh", "-c", 'echo "profile=$AWS_PROFILE"; exec /usr/bin/env "$@"', "sh", `, 1)
	root := one.allowedProject(strings.Replace(tcpConfig("web", web, a), fmt.Sprint("remote_port = ", a.port), `remote_port = "${UPSTREAM}"`, 1) +
		"health_check = { type = \"none\" }\n" + tcpConfig("kept", kept, a) + program)
	one.mustRun(root, "start")
	conn := dial(t, fmt.Sprintf("127.0.0.1:%d", kept))
	conn.exchangeLine("hi")

	const differs = `warning: this shell's AWS_PROFILE, AWS_SESSION_TOKEN and UPSTREAM differ; "localport restart" uses them`
	if out := one.mustRun(root, "status"); strings.Contains(out, "differ") {
		t.Errorf("status in the shell that started it:\n%s", out)
	}
	eventually(t, "status names the variables in another shell", func() bool { return strings.Contains(two.mustRun(root, "status"), differs) })
	two.mustRun(root, "exec", "--", "true")
	if answer, err := ask(webAddr, "you"); answer != "hello you\n" {
		t.Errorf("after exec in another shell: %q, %v", answer, err)
	}

	two.mustRun(root, "restart", "web")
	if answer, err := readAll(webAddr); answer != banner {
		t.Errorf("after a restart in the other shell: %q, %v", answer, err)
	}
	eventually(t, "the program was started again", func() bool { return strings.Contains(two.mustRun(root, "logs", "program"), "profile=two") })
	if got := conn.exchangeLine("still here"); got != "hello still here\n" {
		t.Errorf("the connection of a service that uses nothing of it answered %q", got)
	}
	if out := two.mustRun(root, "status"); strings.Contains(out, "differ") {
		t.Errorf("status after the restart:\n%s", out)
	}

	one.mustRun(root, "daemon", "restart")
	eventually(t, "the new supervisor uses the environment of daemon restart", func() bool {
		answer, err := ask(webAddr, "you")
		return err == nil && answer == "hello you\n"
	})
	two.mustRun(root, "start")
	if answer, err := readAll(webAddr); answer != banner {
		t.Errorf("after a start in the other shell: %q, %v", answer, err)
	}
	out := two.mustRun(root, "status", "--json") + two.mustRun(root, "logs", "supervisor")
	if strings.Contains(out, secret) {
		t.Error("status or the log has a value of the environment")
	}
	err := filepath.WalkDir(w.home, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return nil //nolint:nilerr // a file that has gone
		}
		if data, _ := os.ReadFile(path); strings.Contains(string(data), secret) {
			t.Errorf("%s has a value of the environment", path)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestEnvironment_AgentOfAPromptIsUsedIfOurKeysDoNotWork(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	host := sshd.Start(t)
	config := filepath.Join(t.TempDir(), "config")
	text := "UserKnownHostsFile " + host.KnownHosts + "\nGlobalKnownHostsFile /dev/null\nIdentityFile /no/such/key\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	stranger := sshd.StartAgent(t, sshd.NewKey(t, filepath.Join(t.TempDir(), "key"), ""))
	friend := sshd.StartAgent(t, host.KeyFile)
	root := w.allowedProject(strings.ReplaceAll(sshConfig("db", ports.FreePort(t), host, serveBanner(t).port), host.ConfigFile, config))
	if o := w.withEnv("SSH_AUTH_SOCK="+stranger).localport(root, "start"); o.code != 1 || !strings.Contains(o.stderr, "Permission denied") {
		t.Fatalf("start: exit %d\n%s", o.code, o.stderr)
	}
	w.withEnv("SSH_AUTH_SOCK="+friend).shell("bash", root)
	eventually(t, "the service is healthy", func() bool { return w.service(root, "db").State == forwarder.Healthy })
}

// A supervisor that an IDE or a desktop started has a poor PATH; the first shell with a better one helps it.
func TestEnvironment_PathOfAPromptIsAppended(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	bin := filepath.Join(w.home, "bin")
	script := fmt.Sprintf("#!/bin/sh\nexec /usr/bin/env -u%s %s=1 %s \"$1\"\n", mainVariable, upstreamVariable, ownExecutable(t))
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := executable.WriteFile(filepath.Join(bin, "greeter"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	root := w.allowedProject(fmt.Sprintf("[services.web]\ntechnology = \"command\"\nlocal_port = %d\ncommand = [\"greeter\", \"{port}\"]\n", ports.FreePort(t)))
	if o := w.localport(root, "start"); o.code != 1 || !strings.Contains(o.stderr, "greeter") {
		t.Fatalf("start: exit %d\n%s", o.code, o.stderr)
	}
	w.withEnv("PATH="+os.Getenv("PATH")+":"+bin).shell("bash", root)
	eventually(t, "the service is healthy", func() bool { return w.service(root, "web").State == forwarder.Healthy })
}

func TestEnv_NamesTheVariablesThatAFormatCannotExpress(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject("[env]\nRAW_COPY = \"${RAW}\"\nLINES = \"a\\nb\"\nPLAIN = \"x\"\n")
	for format, test := range map[string]struct {
		text, omitted string // of stdout and stderr
	}{
		"sh":     {"export RAW_COPY='a\xffb'\n", ""},
		"json":   {`"PLAIN": "x"`, "no line for RAW_COPY: its value is not UTF-8, which the format json cannot express"},
		"docker": {"PLAIN=x\n", "no line for LINES: its value has a line break, which the format docker cannot express"},
	} {
		cmd := w.command(root, "env", "--format", format)
		cmd.Env = append(cmd.Env, "RAW=a\xffb")
		if o := w.run(cmd); (o.code == 0) != (test.omitted == "") || !strings.Contains(o.stdout, test.text) || !strings.Contains(o.stderr, test.omitted) {
			t.Errorf("%s: exit %d, %q, %s", format, o.code, o.stdout, o.stderr)
		}
	}
}
