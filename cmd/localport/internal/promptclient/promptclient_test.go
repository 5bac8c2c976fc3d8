package promptclient

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder/promptapi"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/testdata/shellpty"
)

// The package cannot import lockstate and project, which name the same files.
func TestFindSocket_IsTheSupervisors(t *testing.T) {
	if configName != project.ConfigName {
		t.Errorf("the config is %q, not %q", configName, project.ConfigName)
	}
	home := shellpty.NewDir(t)
	t.Setenv("XDG_STATE_HOME", filepath.Join(home, "state"))
	root := filepath.Join(home, "pro ject\n")
	sub := filepath.Join(root, "a/b")
	if err := os.MkdirAll(sub, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, configName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(home, "link")
	if err := os.Symlink(sub, link); err != nil {
		t.Fatal(err)
	}
	for _, base := range []string{filepath.Join(home, "run"), ""} {
		t.Setenv("XDG_RUNTIME_DIR", base)
		dir, err := lockstate.RuntimeDir()
		if err != nil {
			t.Fatal(err)
		}
		state, err := lockstate.Open(filepath.Join(root, configName))
		if err != nil {
			t.Fatal(err)
		}
		want := filepath.Join(dir, filepath.Base(state.Path)+".sock")
		for _, at := range []string{root, sub, link} {
			t.Chdir(at)
			if got := findSocket([]string{"bash", "--root", "/other"}); got != want {
				t.Errorf("in %s the socket is %q, want %q", at, got, want)
			}
		}
		t.Chdir("/")
		if got := findSocket([]string{"bash", "--pid", "1", "--root", root}); got != want {
			t.Errorf("of the project that is left the socket is %q, want %q", got, want)
		}
		for _, args := range [][]string{{"bash"}, {"bash", "--root", ""}, {"bash", "--root"}} {
			if got := findSocket(args); got != "" {
				t.Errorf("%q: the socket is %q", args, got)
			}
		}
	}
}

// $XDG_RUNTIME_DIR is ignored at the same length as by lockstate.
func TestRuntimeDir_IgnoresALongPath(t *testing.T) {
	home := shellpty.NewDir(t)
	for length := len(home) + 2; length < len(home)+60; length++ {
		base := home + "/" + strings.Repeat("d", length-len(home)-1)
		t.Setenv("XDG_RUNTIME_DIR", base)
		want, err := lockstate.RuntimeDir()
		if err != nil {
			t.Fatal(err)
		}
		if got := runtimeDir(); got != want {
			t.Fatalf("with a path of %d bytes it is %q, want %q", len(base), got, want)
		}
	}
}

func TestRuntimeDir_MustBePrivate(t *testing.T) {
	home := shellpty.NewDir(t)
	t.Setenv("XDG_RUNTIME_DIR", home)
	dir := filepath.Join(home, "localport")
	if got := runtimeDir(); got != "" {
		t.Errorf("without a directory it is %q", got)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if got := runtimeDir(); got != dir {
		t.Errorf("it is %q, want %q", got, dir)
	}
	if err := os.Chmod(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	if got := runtimeDir(); got != "" {
		t.Errorf("a directory that a group can read is %q", got)
	}
	if err := os.Rename(dir, dir+"2"); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir+"2", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir+"2", dir); err != nil {
		t.Fatal(err)
	}
	if got := runtimeDir(); got != "" {
		t.Errorf("a symbolic link is %q", got)
	}
}

// Only a complete response counts, however it is divided.
func TestAsk_NeedsACompleteResponse(t *testing.T) {
	response := string(promptapi.Response{ExitStatus: 1, Stdout: []byte("out"), Stderr: []byte("err")}.Encode())
	const header = "HTTP/1.0 200 OK\r\nDate: x\r\n\r\n"
	for name, test := range map[string]struct {
		parts []string
		ok    bool
	}{
		"complete":            {[]string{header + "500\n" + response}, true},
		"in parts":            {[]string{"HTTP/1.1 20", "0 OK\r\n\r", "\n5", "00\n1 3", response[3:]}, true},
		"refused":             {[]string{"HTTP/1.0 412 Precondition Failed\r\n\r\n"}, false},
		"not HTTP":            {[]string{"SSH-2.0-OpenSSH\r\n\r\n"}, false},
		"no second part":      {[]string{header + "500\n"}, false},
		"no limit":            {[]string{header}, false},
		"half":                {[]string{header + "500\n" + response[:len(response)-1]}, false},
		"more than announced": {[]string{header + "500\n" + response + "x"}, false},
		"nothing":             {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			socket := filepath.Join(shellpty.NewDir(t), "s")
			listener, err := net.Listen("unix", socket)
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			served := make(chan struct{})
			go func() {
				defer close(served)
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				buffer := make([]byte, 1024)
				_, _ = conn.Read(buffer)
				for _, part := range test.parts {
					_, _ = conn.Write([]byte(part))
				}
			}()
			got, result := ask(socket, promptapi.Request{}.Encode())
			<-served
			ok := result == answered
			if ok != test.ok || result == timedOut || ok && (got.ExitStatus != 1 || string(got.Stdout) != "out" || string(got.Stderr) != "err") {
				t.Errorf("%+v, %v", got, ok)
			}
		})
	}
}

// A supervisor that does not respond costs a prompt acceptTimeout; one that has accepted, what it has announced.
func TestAsk_DoesNotWaitForASupervisorThatDoesNotRespond(t *testing.T) {
	for name, answer := range map[string]string{"connects": "", "begins": "HTTP/1.0 2", "accepts": "HTTP/1.0 200 OK\r\n\r\n150\n"} {
		want := declined
		if name == "accepts" {
			want = timedOut
		}
		t.Run(name, func(t *testing.T) {
			socket := filepath.Join(shellpty.NewDir(t), "s")
			listener, err := net.Listen("unix", socket)
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			askedCh := make(chan result, 1)
			go func() {
				_, result := ask(socket, make([]byte, 1<<20)) // more than the socket's buffer
				askedCh <- result
			}()
			conn, err := listener.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if answer != "" {
				drained := make(chan struct{})
				go func() {
					defer close(drained)
					buffer := make([]byte, 1<<16)
					for {
						if _, err := conn.Read(buffer); err != nil {
							return
						}
					}
				}()
				defer func() { conn.Close(); <-drained }()
				if _, err := conn.Write([]byte(answer)); err != nil {
					t.Fatal(err)
				}
			}
			select {
			case got := <-askedCh:
				if got != want && (want != timedOut || got != declined) { // on a busy machine the first part may be late
					t.Errorf("the result is %d, want %d", got, want)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("it waits")
			}
		})
	}
}
