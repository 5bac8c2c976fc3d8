package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/shellpty"
)

// readmeNotRun has the blocks of README that the test does not run, by their exact text, each with the reason.
var readmeNotRun = map[string]string{readmeFirstScreen: "TestReadme_FirstScreenInACluster runs it"}

const readmeFirstScreen = `$ cd ~/shop
localport: shop: postgres :5432 (starting), redis :6379 (starting)
$ psql "$DATABASE_URL" -Atc 'select count(*) from orders'    # waits until the tunnel is up: never "connection refused"
1742
$ cd ~                                                       # the ports are closed, DATABASE_URL is gone
`

// readmeBlocks returns the blocks of commands in README, without their indentation, and the fenced blocks of TOML.
func readmeBlocks(t *testing.T) (commands, configs []string) {
	t.Helper()
	data, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	fence := regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```\n")
	for _, m := range fence.FindAllStringSubmatch(text, -1) {
		if m[1] != "toml" {
			t.Errorf("README has a fenced block of %q, which no test reads: indent commands by four spaces", m[1])
		}
		configs = append(configs, m[2])
	}
	for _, block := range regexp.MustCompile(`(?m)(?:^ {4}.*\n)+`).FindAllString(fence.ReplaceAllString(text, ""), -1) {
		commands = append(commands, regexp.MustCompile(`(?m)^ {4}`).ReplaceAllString(block, ""))
	}
	return commands, configs
}

// readmeRun follows README in a shell, in an empty home directory.
type readmeRun struct {
	*testEnv
	t       *testing.T
	kind    string // of the shell
	ports   *strings.Replacer
	shell   *shellpty.Shell
	clone   string
	handled map[string]bool
}

// block returns the block of README that begins with a text, and marks it as run.
func (r *readmeRun) block(blocks []string, start string) string {
	r.t.Helper()
	for _, block := range blocks {
		if strings.HasPrefix(block, start) && readmeNotRun[block] == "" {
			r.handled[block] = true
			return block
		}
	}
	r.t.Fatalf("README has no block that begins with %q", start)
	return ""
}

// open starts a shell with a start-up file.
func (r *readmeRun) open(rc, dir string) *shellpty.Shell {
	r.t.Helper()
	return shellpty.Start(r.t, shellpty.Config{Shell: r.kind, RC: "stty cols 80 rows 24\n" + rc, Dir: dir, Home: r.home, Env: r.env[2:]})
}

// A reader who types what README says, in this order, on a machine without LocalPort, sees what it shows. A block that is new in README
// must be run here, or be in readmeNotRun.
func TestReadme_CommandsDoWhatItSays(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"bash", "zsh"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			newReadmeRun(t, kind).follow()
		})
	}
}

func newReadmeRun(t *testing.T, kind string) *readmeRun {
	t.Helper()
	for _, program := range []string{"go", "python3", "curl"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed", program)
		}
	}
	w := newTestEnv(t)
	clone, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	// What Go has downloaded and compiled stays; a copy of the tree need not be a git repository.
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPROXY"} {
		value, err := exec.Command("go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		w.env = append(w.env, name+"="+strings.TrimSpace(string(value)))
	}
	w.env = append(w.env, "GOFLAGS=-buildvcs=false")
	return &readmeRun{
		testEnv: w, t: t, kind: kind, clone: clone, handled: make(map[string]bool),
		ports: strings.NewReplacer("8080", fmt.Sprint(ports.FreePort(t)), "18099", fmt.Sprint(ports.FreePort(t))),
	}
}

func (r *readmeRun) follow() {
	blocks, configs := readmeBlocks(r.t)

	// The installation, which may take minutes.
	for line := range strings.Lines(r.block(blocks, "CGO_ENABLED=0 go install ")) {
		cmd := exec.Command(r.kind, "-c", line)
		cmd.Dir, cmd.Env = r.clone, r.env
		if o := r.run(cmd); o.code != 0 {
			r.t.Fatalf("%s: exit %d\n%s%s", line, o.code, o.stdout, o.stderr)
		}
	}
	if path, err := filepath.Glob(r.home + "/go/bin/localport"); err != nil || len(path) != 1 {
		r.t.Fatalf("localport was not installed: %q, %v", path, err)
	}
	rc := r.block(blocks, "export PATH=")
	if r.kind == "bash" { // as README says
		rc = strings.ReplaceAll(rc, "hook zsh", "hook bash")
	}

	// The project, and the server that it forwards to, in a terminal of its own.
	root := filepath.Join(r.home, "shop")
	if err := os.Mkdir(root, 0o700); err != nil {
		r.t.Fatal(err)
	}
	r.writeFile(root, ".localport.toml", r.ports.Replace(findConfig(r.t, configs, "[services.docs]")))
	server := r.open("", r.home)
	server.Type(r.ports.Replace(strings.TrimSpace(r.block(blocks, "python3 -m http.server"))) + "\r")
	eventually(r.t, "the server answers", func() bool {
		_, err := ask(r.ports.Replace("127.0.0.1:18099"), "HEAD / HTTP/1.0\n")
		return err == nil
	})

	r.shell = r.open(rc, r.home)
	r.followSession(r.block(blocks, "$ cd ~/shop\nlocalport: the config"))
	for _, block := range blocks {
		if !r.handled[block] && readmeNotRun[block] == "" {
			r.t.Errorf("a block of README is not run, and is not in readmeNotRun:\n%s", block)
		}
	}
	for block := range readmeNotRun {
		if !strings.Contains(strings.Join(blocks, "\n"), block) {
			r.t.Errorf("readmeNotRun has a block that README does not have:\n%s", block)
		}
	}
	if status := r.shell.Run("localport demo"); status != 0 {
		r.t.Errorf("localport demo: exit %d\n%s", status, r.shell.Screen())
	}
}

// findConfig returns the config that has a line.
func findConfig(t *testing.T, configs []string, line string) string {
	t.Helper()
	for _, config := range configs {
		if strings.Contains(config, line+"\n") && strings.Contains(config, "remote_port = 18099\n") {
			return config
		}
	}
	t.Fatalf("README has no config with %s", line)
	return ""
}

// followSession types the commands of a block, which follow "$ ", and compares what they print with the lines below them.
func (r *readmeRun) followSession(block string) {
	r.t.Helper()
	auto := ""
	for _, part := range strings.Split("\n"+block, "\n$ ")[1:] {
		command, want, _ := strings.Cut(part, "\n")
		want = r.normalize(want, "")
		got := ""
		show := func() bool {
			r.shell.Run(r.ports.Replace(command))
			output := r.shell.Output()
			if m := regexp.MustCompile(`docs +:(\d+)`).FindStringSubmatch(output); m != nil {
				auto = m[1]
			}
			got = r.normalize(output, auto)
			return got == want
		}
		r.t.Cleanup(func() {
			if r.t.Failed() {
				r.t.Logf("%s: at last\n%s", command, got)
			}
		})
		if strings.HasPrefix(command, "localport status") { // some seconds later for a reader: the services are healthy
			eventually(r.t, "the services are healthy", show)
		} else if !show() {
			r.t.Errorf("%s: got\n%s\nREADME says\n%s", command, got, want)
		}
	}
}

// normalize replaces what differs from run to run: ports, directories, durations, the widths of columns, and whether a service is still starting.
func (r *readmeRun) normalize(text, auto string) string {
	reverse := []string{r.home, "/home/you", r.ports.Replace("8080"), "8080", r.ports.Replace("18099"), "18099"}
	if auto != "" {
		reverse = append(reverse, auto, "32486")
	}
	text = strings.ReplaceAll(strings.NewReplacer(reverse...).Replace(text), " (starting)", "")
	text = regexp.MustCompile(`\bfor \d+s\b`).ReplaceAllString(text, "for 6s")
	return strings.TrimSpace(regexp.MustCompile(` {2,}`).ReplaceAllString(text, " "))
}
