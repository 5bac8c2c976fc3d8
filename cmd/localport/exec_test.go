package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/testdata/executable"
	"github.com/localport-sh/localport/testdata/ports"
)

func TestExec_ReplacesItselfWithTheCommand(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	port := ports.FreePort(t)
	root := w.allowedProject("linger = 0.1\n" + commandConfig(t, "web", port))
	o := w.localport(root, "exec", "--", "sh", "-c", `echo $$ $WEB_PORT; exit 7`)
	fields := strings.Fields(o.stdout)
	if o.code != 7 || len(fields) != 2 || fields[1] != fmt.Sprint(port) {
		t.Fatalf("exit %d, %q %q", o.code, o.stdout, o.stderr)
	}

	cmd := w.command(root, "exec", "--", "sh", "-c", "echo up; exec cat")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := stdout.Read(make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	supervisor := w.supervisor(root)
	if children := findChildren(t, cmd.Process.Pid); len(children) > 0 {
		t.Errorf("the command has children: %v", children)
	}
	if answer, err := ask(fmt.Sprintf("127.0.0.1:%d", port), "you"); answer != "hello you\n" {
		t.Errorf("under exec: %q, %v", answer, err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGTERM {
		t.Errorf("ended with %v, want the signal that was sent", cmd.ProcessState)
	}
	w.waitExit(supervisor)
	w.checkNothingLeft(root, fmt.Sprintf("127.0.0.1:%d", port))
}

func TestExec_NamesWhatItCannotRun(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(tcpConfig("web", `"auto"`, serve(t, "127.0.0.1:0")))
	plain := filepath.Join(w.home, "plain")
	if err := os.WriteFile(plain, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	lost := filepath.Join(w.home, "lost")
	if err := executable.WriteFile(lost, []byte("#!/no/such/python\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if o := w.localport(root, "exec", "--", plain); !strings.Contains(o.stderr, "it is not executable") || !strings.Contains(o.stderr, "hint: run: chmod +x "+plain) {
		t.Errorf("a file that is not executable: %s", o.stderr)
	}
	if o := w.localport(root, "exec", "--", lost); !strings.Contains(o.stderr, "/no/such/python, does not exist") || !strings.Contains(o.stderr, "hint: install python") {
		t.Errorf("a script without its interpreter: %s", o.stderr)
	}
	for _, c := range []struct {
		args []string
		code int
	}{
		{[]string{"exec", "--", "no-such-program"}, output.ExitCommandNotFound},
		{[]string{"exec", "--", plain}, output.ExitCannotRun},
		{[]string{"exec", "--", lost}, output.ExitCannotRun},
		{[]string{"exec"}, output.ExitExecFailed},
		{[]string{"exec", "-s", "wbe", "--", "true"}, output.ExitExecFailed},
		{[]string{"exec", "--", "false"}, 1},
		{[]string{"exec", "--", "true"}, 0},
		{[]string{"exec", "--", ""}, output.ExitCommandNotFound},
		{[]string{"exec", "--", "sh", "-c", "exit 255"}, 255},
		{[]string{"exec", "--wait", "soon", "--", "true"}, output.ExitExecFailed},
		{[]string{"-C", "/", "exec", "--", "true"}, output.ExitExecFailed},
		{[]string{"-C", "/no/such/directory", "exec", "--", "true"}, output.ExitExecFailed},
	} {
		if o := w.localport(root, c.args...); o.code != c.code {
			t.Errorf("%v: exit %d, want %d: %s", c.args, o.code, c.code, o.stderr)
		}
	}
}

func TestExec_WaitsAtMostItsTimeout(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(fmt.Sprintf("[services.gone]\ntechnology = \"tcp\"\nlocal_port = \"auto\"\nremote_port = %d\n"+
		"connection = { remote_host = \"127.0.0.1\" }\n", ports.FreePort(t)))
	o := w.localport(root, "exec", "--wait", "3s", "--", "true")
	if o.code != output.ExitExecFailed || !strings.Contains(o.stderr, `service "gone" is still unhealthy after 3s`) ||
		!strings.Contains(o.stderr, "connection refused") {
		t.Errorf("exit %d, %q", o.code, o.stderr)
	}
}

func TestExec_InAProjectShellAddsNothingTwice(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(tcpConfig("web", `"auto"`, serve(t, "127.0.0.1:0")) + "[env]\nPATH = \"/opt/shop/bin:${PATH}\"\n")
	sh := w.shell("bash", root)
	inside := sh.Environ()
	var env []string
	for name, value := range inside {
		env = append(env, name+"="+value)
	}
	cmd := exec.Command(ownExecutable(t), "exec", "--", "env", "-0")
	cmd.Dir, cmd.Env = root, env
	o := w.run(cmd)
	for entry := range strings.SplitSeq(o.stdout, "\x00") {
		name, value, _ := strings.Cut(entry, "=")
		if name != "" && name != "_" && inside[name] != value {
			t.Errorf("%s is %q under exec, %q in the shell", name, value, inside[name])
		}
	}
	if !strings.HasPrefix(inside["PATH"], "/opt/shop/bin:") || strings.Count(o.stdout, "/opt/shop/bin") != 1 {
		t.Errorf("PATH in the shell: %q; under exec: %s", inside["PATH"], o.stdout)
	}
}

func TestExec_RunsInTheDirectoryOfDashC(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(tcpConfig("web", `"auto"`, serve(t, "127.0.0.1:0")))
	inner := filepath.Join(root, "a b")
	if err := os.Mkdir(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := executable.WriteFile(filepath.Join(inner, "here"), []byte("#!/bin/sh\necho \"$PWD|$(pwd)|$WEB_HOST\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("%s|%[1]s|127.0.0.1\n", inner)
	for _, args := range [][]string{{"-C", inner, "exec", "--", "./here"}, {"exec", "-C", "a b", "--", "./here"}} {
		if o := w.localport(root, args...); o.code != 0 || o.stdout != want {
			t.Errorf("%q: exit %d, %q, want %q\n%s", args, o.code, o.stdout, want, o.stderr)
		}
	}
	if o := w.localport(inner, "exec", "--", "./here"); o.stdout != want {
		t.Errorf("without -C: %q", o.stdout)
	}
}

// The hint is a command that does what was meant.
func TestExec_ExplainsAnEmptyArgument(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(tcpConfig("web", `"auto"`, serve(t, "127.0.0.1:0")) + "[env]\nMODE = \"test it\"\nAPI_URL = \"http://api\"\n")
	const text = "localport: argument 2 of printf is empty; the shell expands variables such as $API_URL before localport sets them\n"
	o := w.localport(root, "exec", "--", "printf", "<%s>", "")
	message, hint, _ := strings.Cut(o.stderr, "hint: ")
	if o.code != 0 || o.stdout != "<>" || message != text {
		t.Fatalf("exit %d, %q, %q", o.code, o.stdout, o.stderr)
	}
	cmd := exec.Command("sh", "-c", strings.Replace(hint, "localport", w.exe, 1))
	cmd.Dir, cmd.Env = root, w.env
	if again := w.run(cmd); again.code != 0 || again.stdout != "<http://api>" || again.stderr != "" {
		t.Errorf("%s: exit %d, %q, %q", hint, again.code, again.stdout, again.stderr)
	}
	if o := w.localport(root, "exec", "--", "", "x"); o.code != output.ExitCommandNotFound || !strings.Contains(o.stderr, "localport: the command is empty; the shell expands") {
		t.Errorf("an empty command: exit %d, %q", o.code, o.stderr)
	}
	inside := w.withEnv("MODE=test", "API_URL=http://api")
	if o := inside.localport(root, "exec", "--", "printf", "<%s>", ""); o.stderr != "" {
		t.Errorf("in a shell that has the variables: %q", o.stderr)
	}
	if o := w.localport(root, "exec", "--", "printf", "<%s>", "x"); o.stderr != "" {
		t.Errorf("without an empty argument: %q", o.stderr)
	}
}
