package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/localport-sh/localport/testdata/executable"
	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/shellpty"
)

// hostileText sets a terminal's title, clears the screen and reverses the direction of text; escapedText is how it must be shown.
// hostileLines adds a line that looks like a message of localport, for protocols whose messages may have several lines.
const (
	hostileText  = "\x1b]0;owned\a\x1b[2J\u009b31m\x9b1m\rx\u202ey"
	hostileLines = hostileText + "\nlocalport: all is well"
	escapedText  = `\x1b]0;owned\x07\x1b[2J\u009b31m\x9b1m\rx\u202ey`
)

// checkPrintable fails the test if output has a byte or rune that controls a terminal, or the false line of hostileLines.
func checkPrintable(t *testing.T, what, output string) {
	t.Helper()
	if !utf8.ValidString(output) {
		t.Errorf("%s prints invalid UTF-8: %q", what, output)
	}
	for _, r := range output {
		if r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r <= 0x9f || strings.ContainsRune("\u061c\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069", r) {
			t.Errorf("%s prints %U: %q", what, r, output)
			break
		}
	}
	if strings.Contains("\n"+output, "\nlocalport: all is well") {
		t.Errorf("%s prints a line of another program like a message of localport:\n%s", what, output)
	}
}

// serveAnswer starts a server that reads a request from each connection and sends the answer.
func serveAnswer(t *testing.T, readRequest func(*bufio.Reader), answer string) *server {
	t.Helper()
	var open sync.Map
	s := startServer(t, "127.0.0.1:0", func(conn net.Conn) {
		open.Store(conn, true)
		readRequest(bufio.NewReader(conn))
		_, _ = io.WriteString(conn, answer)
	})
	t.Cleanup(func() {
		s.ln.Close()
		open.Range(func(conn, _ any) bool { conn.(net.Conn).Close(); return true })
	})
	return s
}

func readLine(r *bufio.Reader) { _, _ = r.ReadString('\n') }

func readHTTPRequest(r *bufio.Reader) {
	for line := "first"; strings.TrimSpace(line) != ""; {
		line, _ = r.ReadString('\n')
	}
}

// readStartup reads PostgreSQL's startup message: its length, which counts itself, and the rest.
func readStartup(r *bufio.Reader) {
	var length uint32
	if binary.Read(r, binary.BigEndian, &length) == nil {
		_, _ = io.CopyN(io.Discard, r, int64(length)-4)
	}
}

// postgresError is an ErrorResponse (https://www.postgresql.org/docs/current/protocol-message-formats.html).
func postgresError(message string) string {
	fields := "SFATAL\x00VFATAL\x00C28000\x00M" + message + "\x00\x00"
	return "E" + string(binary.BigEndian.AppendUint32(nil, uint32(len(fields)+4))) + fields
}

func TestOutput_EscapesWhatOtherProgramsSay(t *testing.T) {
	dir := shellpty.NewDir(t)
	script := filepath.Join(dir, "child")
	if err := executable.WriteFile(script, []byte("#!/bin/sh\ncat '"+script+".stderr' >&2\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(script+".stderr", []byte(hostileLines+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, config string }{
		{"a Redis error", tcpConfig("db", ports.FreePort(t), serveAnswer(t, readLine, "-ERR "+hostileText+"\r\n")) +
			"health_check = { type = \"redis\", interval = \"100ms\" }\n"},
		{"an HTTP reason", tcpConfig("db", ports.FreePort(t), serveAnswer(t, readHTTPRequest, "HTTP/1.1 500 "+hostileText+"\r\nContent-Length: 0\r\n\r\n")) +
			"health_check = { type = \"http\", interval = \"100ms\" }\n"},
		{"a PostgreSQL error", tcpConfig("db", ports.FreePort(t), serveAnswer(t, readStartup, postgresError(hostileLines))) +
			"health_check = { type = \"postgres\", user = \"app\", sslmode = \"disable\", interval = \"100ms\" }\n"},
		{"a child's stderr", fmt.Sprintf("[services.db]\ntechnology = \"command\"\nlocal_port = %d\ncommand = [%q, \"{port}\"]\nrestart_policy = { max_attempts = 2, initial_delay = \"50ms\" }\n", ports.FreePort(t), script)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newTestEnv(t)
			notices := filepath.Join(w.home, "notices")
			w.writeUserConfig(fmt.Sprintf("[notify]\non = [\"failed\", \"state\"]\ncommand = [\"sh\", \"-c\", \"printf '%%s: %%s\\\\n' \\\"$1\\\" \\\"$LOCALPORT_REASON\\\" >>%s\", \"sh\", \"{reason}\"]\n", notices))
			root := w.allowedProject(c.config)
			w.mustRun(root, "start", "--no-wait")
			eventually(t, "status shows the text", func() bool { return strings.Contains(w.mustRun(root, "status", "--json"), "owned") })
			eventually(t, "a notice has the text", func() bool {
				data, _ := os.ReadFile(notices)
				return bytes.Contains(data, []byte("owned"))
			})
			notice, _ := os.ReadFile(notices)
			checkPrintable(t, "a notice", string(notice))
			pid := strconv.Itoa(os.Getpid())
			for _, args := range [][]string{
				{"status"},
				{"status", "-o", "text"},
				{"status", "--json"},
				{"events"},
				{"events", "--json"},
				{"logs"},
				{"logs", "--json"},
				{"logs", "supervisor"},
				{"exec", "--wait", "200ms", "--", "true"},
				{"daemon", "status"},
				{"metrics"},
			} {
				o := w.localport(root, args...)
				checkPrintable(t, strings.Join(args, " "), o.stdout+"\n"+o.stderr)
				if args[len(args)-1] == "--json" {
					for decoder := json.NewDecoder(strings.NewReader(o.stdout)); ; {
						var value any
						if err := decoder.Decode(&value); errors.Is(err, io.EOF) {
							break
						} else if err != nil {
							t.Fatalf("%s prints invalid JSON: %v\n%s", strings.Join(args, " "), err, o.stdout)
						}
					}
				}
			}
			entered := w.localport(root, "export", "bash", "--pid", pid)
			checkPrintable(t, "a prompt", entered.stderr)
			next := w.localport(root, "export", "bash", "--pid", pid, "--root", root, "--line", "1 0 0")
			checkPrintable(t, "the next prompt", next.stderr)
			if n := strings.Count(strings.TrimSpace(next.stderr), "\n"); n > 0 {
				t.Errorf("the next prompt prints %d lines for one event:\n%s", n+1, next.stderr)
			}
			for what, text := range map[string]string{"status": w.mustRun(root, "status"), "events": w.mustRun(root, "events"), "a prompt": entered.stderr + next.stderr} {
				unwrapped := strings.Join(strings.Fields(text), "")
				if !strings.Contains(unwrapped, `\x1b[2J`) {
					t.Errorf("%s does not show the text as %s:\n%s", what, escapedText, text)
				}
			}
		})
	}
}

func TestOutput_EscapesANameOfADirectory(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := filepath.Join(shellpty.NewDir(t), "shop"+strings.ToValidUTF8(hostileLines, ""))
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	config := tcpConfig("api", ports.FreePort(t), serve(t, "127.0.0.1:0"))
	w.writeFile(root, ".localport.toml", config)
	pid := strconv.Itoa(os.Getpid())
	check := func(args ...string) {
		t.Helper()
		o := w.localport(root, args...)
		checkPrintable(t, strings.Join(args, " "), o.stderr)
		if args[0] != "export" { // whose stdout a shell reads
			checkPrintable(t, strings.Join(args, " "), o.stdout)
		}
		limit := 2
		if args[0] == "allow" {
			limit = 3 // what the files run
		}
		if n := strings.Count(o.stderr, "\n"); n > limit {
			t.Errorf("%s prints %d lines:\n%s", strings.Join(args, " "), n, o.stderr)
		}
	}
	check("export", "bash", "--pid", pid)
	check("start")
	check("status")
	check("status", "--json")
	check("env")
	check("config", "validate")
	check("allow")
	check("start")
	check("daemon", "status")
	check("status")
	check("export", "bash", "--pid", pid)
	w.writeFile(root, ".localport.toml", config+"# changed\n")
	check("export", "bash", "--pid", pid, "--root", root)
	check("exec", "--", "true")
	w.writeFile(root, ".localport.toml", config+"nonsense = 1\n")
	check("config", "validate")
	check("deny")
	check("status")
}

// The commands that edit a config print paths, and what was pasted, on one line.
func TestOutput_EscapesPathsAndPastedTextOfCommandsThatEdit(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	const hostile = "x\n\x1b[31my"
	root := filepath.Join(shellpty.NewDir(t), "shop"+hostile)
	if err := os.MkdirAll(filepath.Join(root, "dir"+hostile), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a.toml", "a.yaml", "ssh"} {
		w.writeFile(root, hostile+name, "x: [")
	}
	w.writeFile(root, "service"+hostile+".yaml", "services:\n- name: a\n")
	appendingEditor := func(line string) string { return "EDITOR=sh -c 'echo \"" + line + "\" >> \"$1\"' x" }
	for _, c := range []struct {
		editor string
		args   []string
	}{
		{"", []string{"edit"}},
		{"", []string{"init", "--from", "dir" + hostile}},
		{"", []string{"init", "--from", hostile + "a.toml"}},
		{"", []string{"init", "--from", hostile + "a.yaml"}},
		{"", []string{"init", "--from", hostile + "none.yaml"}},
		{"", []string{"init", "--print", "--from", "service" + hostile + ".yaml"}},
		{"", []string{"init", "--from-ssh-config", "-F", hostile + "ssh", hostile}},
		{"", []string{"init", "--from-ssh-config", "-F", hostile + "none"}},
		{"", []string{"init", "--example", hostile}},
		{"", []string{"init"}},
		{"", []string{"init"}},
		{"", []string{"add", "tcp", "127.0.0.1:15432"}},
		{"", []string{"add", "tcp", "127.0.0.1:15432", "--name", hostile}},
		{"", []string{"add", "tcp", hostile + ":15432"}},
		{"", []string{"add", "svc/" + hostile, "80"}},
		{"", []string{"add", "ssh", "-L", "8080:web:80", "-i", root + "/key", hostile}},
		{"", []string{"add", "--" + hostile, "tcp", "a:80"}},
		{"", []string{"add", "kubectl\x1b[31m port-forward"}},
		{"", []string{"forward", "--save", "tcp", "127.0.0.1:1", "15432"}},
		{"", []string{"remove", hostile}},
		{appendingEditor("# more"), []string{"edit"}},
		{appendingEditor("mistake"), []string{"edit"}},
		{appendingEditor("# mine; exit 1"), []string{"edit"}},
		{"", []string{"remove", "port-15432"}},
	} {
		cmd := w.command(root, c.args...)
		cmd.Env = append(cmd.Env, c.editor, "TMPDIR="+w.home)
		text, _ := cmd.CombinedOutput()
		what := fmt.Sprintf("%q", c.args)
		checkPrintable(t, what, string(text))
		if strings.Contains(string(text), "x; \\x1b") || strings.Contains("\n"+string(text), "\n\\x1b") || len(text) == 0 {
			t.Errorf("%s splits a path or a word:\n%s", what, text)
		}
	}
}

func TestOutput_EscapesValuesOfAConfig(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	good := tcpConfig("api", ports.FreePort(t), serve(t, "127.0.0.1:0"))
	tagged := w.allowedProject(good + `tags = ["web\u001b[2J\u202e", "api"]` + "\n" + `description = "\u001b]0;owned\u0007\u009b"` + "\n")
	for _, args := range [][]string{
		{"status", "--json"},
		{"start", "--tag", "we"},
		{"start", "--tag", "web"},
		{"start", "--tag", "\x1b[2J\n\u202e"},
		{"port", "\x1b[2J\n\u202e"},
		{"logs", "\x1b[2J\n\u202e"},
		{"recipes", "\x1b[2J\n\u202e"},
		{"hook", "\x1b[2J\n\u202e"},
		{"\x1b[2J\n\u202e"},
		{"-C", "/\x1b[2J\n\u202e", "status"},
		{"-c", "/\x1b[2J\n\u202e", "status"},
	} {
		o := w.localport(tagged, args...)
		checkPrintable(t, fmt.Sprintf("%q", args), o.stdout+"\n"+o.stderr)
		if n := strings.Count(o.stderr, "\n"); n > 2 {
			t.Errorf("%q prints %d lines:\n%s", args, n, o.stderr)
		}
	}
	for _, wrong := range []string{
		`technology = "t\u001b[2Jcp"`, `"\u001b[2J\u202e" = 1`, `local_address = "\u009b31m"`, "start = \"\u202eon\"", "# \x1b[2J\nlocal_port = [",
	} {
		root := w.project(good + wrong + "\n")
		for _, args := range [][]string{{"config", "validate"}, {"allow"}, {"start"}, {"status"}, {"export", "bash", "--pid", strconv.Itoa(os.Getpid())}} {
			o := w.localport(root, args...)
			checkPrintable(t, fmt.Sprintf("%q of %s", args, wrong), o.stderr)
		}
	}
}
