package main

import (
	"bufio"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"go.yaml.in/yaml/v3"

	"github.com/localport-sh/localport/cmd/localport/internal/recipes"
	"github.com/localport-sh/localport/testdata/dockerengine"
	"github.com/localport-sh/localport/testdata/executable"
)

// setupEnv is a project for a recipe of internal/recipes/setups, with localport in a directory of PATH.
type setupEnv struct {
	*testEnv
	t     *testing.T
	text  string // the recipe
	root  string
	port  int    // of the service web
	bin   string // the directory that has localport
	agent int    // the process that runs the recipe's commands and lives on: an agent, an editor
	in    io.WriteCloser
	out   *bufio.Reader
}

// editorScript is a process that runs commands as editors and agents do, each in a shell of its own, and prints their exit codes.
const editorScript = `#!/bin/sh
echo $$
while read -r shell command; do
	"$shell" -c "$command" </dev/null >>"$LOG" 2>&1
	echo $?
done
`

func newSetupEnv(t *testing.T, name string) *setupEnv {
	t.Helper()
	w := newTestEnv(t)
	root, port := w.leasedProject(t)
	s := &setupEnv{testEnv: w, t: t, root: root, port: port, bin: filepath.Join(w.home, "go", "bin")}
	s.text = w.mustRun(w.home, "recipes", name)
	if err := os.MkdirAll(s.bin, 0o700); err != nil {
		t.Fatal(err)
	}
	s.writeProgram("localport", fmt.Sprintf("#!/bin/sh\n%s=1 exec %s \"$@\"\n", mainVariable, w.exe))
	s.env = append(s.env, "PATH="+s.bin+":"+os.Getenv("PATH"))
	// Below a terminal, at which the search for the process of a lease ends: what is above the tests does not count.
	cmd := exec.Command(s.writeProgram("xterm", "#!/bin/sh\n\"$@\"\nexit $?\n"), s.writeProgram("editor", editorScript))
	cmd.Dir, cmd.Env = root, append(slices.Clone(s.env), "LOG="+filepath.Join(w.home, "editor.log"))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.in, s.out = stdin, bufio.NewReader(stdout)
	t.Cleanup(func() { stdin.Close(); _ = cmd.Wait() })
	if _, err := fmt.Fscanln(s.out, &s.agent); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *setupEnv) writeProgram(name, text string) (path string) {
	s.t.Helper()
	path = filepath.Join(s.bin, name)
	if err := executable.WriteFile(path, []byte(text), 0o700); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// runInEditor has the editor run a command in a shell, in the project, and fails the test if the command does.
func (s *setupEnv) runInEditor(shell, command string) {
	s.t.Helper()
	fmt.Fprintln(s.in, shell, command)
	code, err := s.out.ReadString('\n')
	if err != nil || code != "0\n" {
		log, _ := os.ReadFile(filepath.Join(s.home, "editor.log"))
		s.t.Fatalf("%s -c %q: %q, %v\n%s", shell, command, code, err, log)
	}
}

// checkLeased checks that the editor has the only lease of a process, and ends it: the forwards end with it.
func (s *setupEnv) checkLeased() {
	s.t.Helper()
	if got := s.processLeases(s.root); !slices.Equal(got, []int{s.agent}) {
		s.t.Errorf("the leases are for %v, want %d", got, s.agent)
	}
	if answer, err := ask(fmt.Sprintf("127.0.0.1:%d", s.port), "you"); answer != "hello you\n" {
		s.t.Errorf("through the forward: %q, %v", answer, err)
	}
	supervisor := s.supervisor(s.root)
	s.in.Close()
	s.waitExit(supervisor)
}

// checkPort checks what a program of the recipe has written into a file of the project: the service's port.
func (s *setupEnv) checkPort(name string) {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.root, name))
	if err != nil || string(text) != strconv.Itoa(s.port)+"\n" {
		s.t.Errorf("%s has %q, %v; want %d", name, text, err, s.port)
	}
}

// writeSetup writes the recipe into a file of the project.
func (s *setupEnv) writeSetup(name string) {
	s.t.Helper()
	if err := os.MkdirAll(filepath.Dir(filepath.Join(s.root, name)), 0o700); err != nil {
		s.t.Fatal(err)
	}
	s.writeFile(s.root, name, s.text)
}

// decodeJSONC decodes JSON with comments that take whole lines.
func decodeJSONC(t *testing.T, text string, value any) {
	t.Helper()
	text = regexp.MustCompile(`(?m)^\s*//.*$`).ReplaceAllString(text, "")
	if err := json.Unmarshal([]byte(text), value); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
}

// lines are the recipe's lines that are no comments.
func (s *setupEnv) lines() (lines []string) {
	for line := range strings.Lines(s.text) {
		if !strings.HasPrefix(line, "#") {
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		}
	}
	return lines
}

const writePort = "echo $WEB_PORT >port"

// setupTests use each recipe as the program does that it is for.
var setupTests = map[string]func(*setupEnv){
	"direnv": func(s *setupEnv) {
		s.writeSetup(".envrc")
		s.runInEditor("sh", "direnv allow && direnv exec . sh -c '"+writePort+"'")
		s.checkPort("port")
		s.checkLeased()
	},
	"script": func(s *setupEnv) {
		for _, shell := range []string{"sh", "bash", "zsh"} {
			s.runInEditor(shell, s.lines()[0]+"; "+writePort)
			s.checkPort("port")
		}
		s.checkLeased()
	},
	"agent-env-file": func(s *setupEnv) {
		s.runInEditor("sh", "ENV_FILE=env-file; "+s.lines()[0])
		for range 2 {
			s.runInEditor("bash", ". ./env-file; "+writePort)
			s.checkPort("port")
		}
		s.checkLeased()
	},
	"bash-env": func(s *setupEnv) {
		s.writeSetup("bash-env")
		s.runInEditor("sh", "export BASH_ENV=$PWD/bash-env; bash -c '"+writePort+"'")
		s.checkPort("port")
		s.checkLeased()
	},
	"zshenv": func(s *setupEnv) {
		s.writeFile(s.home, ".zshenv", s.text)
		s.runInEditor("zsh", writePort)
		s.checkPort("port")
		s.checkLeased()
	},
	"cron": func(s *setupEnv) {
		s.writeReport("report", "port")
		// cron(8) gives a job four variables and those of the table, and runs it by the shell in the home directory.
		path, line := "", ""
		for _, text := range s.lines() {
			if value, isPath := strings.CutPrefix(text, "PATH="); isPath {
				path = value
				continue
			}
			line = text
		}
		fields := regexp.MustCompile(`^(\S+\s+){5}`)
		if !fields.MatchString(line) || strings.Contains(line, "%") {
			s.t.Fatalf("%q is no line of a crontab", line)
		}
		line = s.localize(fields.ReplaceAllString(line, ""))
		cmd := exec.Command("/bin/sh", "-c", line)
		cmd.Dir = s.home
		cmd.Env = []string{"HOME=" + s.home, "LOGNAME=you", "USER=you", "SHELL=/bin/sh", "PATH=" + s.localize(path)}
		for _, entry := range s.env { // else the test would have files outside of its directory
			if strings.HasPrefix(entry, "XDG_") && !strings.HasPrefix(entry, "XDG_RUNTIME_DIR=") || strings.HasPrefix(entry, "GOCOVERDIR=") {
				cmd.Env = append(cmd.Env, entry)
			}
		}
		s.mustRun(s.root, "start") // in a session that has a runtime directory, which cron has not
		if o := s.run(cmd); o.code != 0 {
			s.t.Fatalf("%s: exit %d\n%s%s", line, o.code, o.stdout, o.stderr)
		}
		s.checkPort("port")
	},
	"systemd": func(s *setupEnv) {
		s.writeReport("worker", "port")
		unit := map[string]string{}
		for _, line := range s.lines() {
			if name, value, isSetting := strings.Cut(line, "="); isSetting {
				unit[name] = s.localize(value)
			}
		}
		argv := strings.Fields(unit["ExecStart"]) // without a shell
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Dir, cmd.Env = unit["WorkingDirectory"], append(slices.DeleteFunc(slices.Clone(s.env), func(entry string) bool { return strings.HasPrefix(entry, "PATH=") }), "PATH=/usr/bin:/bin")
		if o := s.run(cmd); o.code != 0 {
			s.t.Fatalf("%s: exit %d\n%s%s", argv, o.code, o.stdout, o.stderr)
		}
		s.checkPort("port")
	},
	"github": func(s *setupEnv) {
		var steps []struct{ Run string }
		if err := yaml.Unmarshal([]byte(s.text), &steps); err != nil || len(steps) != 1 {
			s.t.Fatalf("%v in %s", err, s.text)
		}
		s.mustRun(s.root, "deny")
		s.writeFile(s.root, "step.sh", steps[0].Run) // the runner's `shell: bash` without options
		s.runInEditor("sh", "GITHUB_ENV=github-env bash -e step.sh")
		if text, err := os.ReadFile(filepath.Join(s.root, "github-env")); err != nil || !strings.Contains(string(text), fmt.Sprintf("WEB_PORT=%d\n", s.port)) {
			s.t.Errorf("%q, %v", text, err)
		}
	},
	"docker": func(s *setupEnv) {
		engine := dockerengine.Start(s.t)
		for _, line := range s.lines() {
			cmd := exec.Command("sh", "-c", strings.Replace(line, "IMAGE", "image", 1))
			cmd.Dir, cmd.Env = s.root, append(slices.Clone(s.env), "DOCKER_HOST="+engine.Host)
			if o := s.run(cmd); o.code != 0 && !strings.HasPrefix(line, "docker ") {
				s.t.Fatalf("%s: exit %d\n%s%s", line, o.code, o.stdout, o.stderr)
			}
		}
		if env := engine.Environment(); env["WEB_PORT"] != strconv.Itoa(s.port) {
			s.t.Errorf("the container has %v", env)
		}
	},
	"devcontainer": func(s *setupEnv) {
		engine := dockerengine.Start(s.t)
		s.writeSetup(".devcontainer/devcontainer.json")
		var config struct {
			InitializeCommand string
			RunArgs           []string
		}
		decodeJSONC(s.t, s.text, &config)
		s.runInEditor("/bin/sh", config.InitializeCommand)
		args := []string{"run"}
		for _, arg := range config.RunArgs {
			args = append(args, strings.ReplaceAll(arg, "${localWorkspaceFolder}", s.root))
		}
		cmd := exec.Command("docker", append(args, "image")...)
		cmd.Dir, cmd.Env = s.home, append(slices.Clone(s.env), "DOCKER_HOST="+engine.Host)
		o := s.run(cmd)
		if env := engine.Environment(); env["WEB_PORT"] != strconv.Itoa(s.port) {
			s.t.Errorf("the container has %v; %s", env, o.stderr)
		}
	},
	"vscode": func(s *setupEnv) {
		s.writeSetup(".vscode/tasks.json")
		s.writeProgram("npm", "#!/bin/sh\necho \"$*\"; "+writePort+"\n")
		var config struct {
			Version string
			Tasks   []struct{ Label, Type, Command string }
		}
		decodeJSONC(s.t, s.text, &config)
		if config.Version != "2.0.0" || len(config.Tasks) != 2 {
			s.t.Fatalf("the tasks are %+v", config)
		}
		for _, task := range config.Tasks {
			if task.Type != "shell" {
				s.t.Errorf("%s is of type %s", task.Label, task.Type)
			}
			s.runInEditor("/bin/bash", task.Command) // as TerminalTaskSystem does with the user's shell
		}
		s.checkEnvFile(".vscode/localport.env")
		s.checkPort("port")
		s.checkLeased()
	},
	"jetbrains": func(s *setupEnv) {
		s.writeSetup(".idea/tools.xml")
		var tools struct {
			Tool []struct {
				Options []struct {
					Name  string `xml:"name,attr"`
					Value string `xml:"value,attr"`
				} `xml:"exec>option"`
			} `xml:"tool"`
		}
		if err := xml.Unmarshal([]byte(s.text), &tools); err != nil || len(tools.Tool) != 1 {
			s.t.Fatalf("%v in %s", err, s.text)
		}
		options := map[string]string{}
		for _, option := range tools.Tool[0].Options {
			options[option.Name] = option.Value
		}
		// ParametersListUtil.parse: blanks separate parameters, except between double quotes.
		parameters := regexp.MustCompile(`^-c "(.*)"$`).FindStringSubmatch(options["PARAMETERS"])
		if parameters == nil || options["WORKING_DIRECTORY"] != "$ProjectFileDir$" {
			s.t.Fatalf("the tool is %v", options)
		}
		s.runInEditor(options["COMMAND"], parameters[1])
		s.checkEnvFile(".idea/localport.env")
		s.checkLeased()
	},
}

// writeReport writes a program of the user that writes the port into a file.
func (s *setupEnv) writeReport(name, file string) {
	s.t.Helper()
	if err := executable.WriteFile(filepath.Join(s.root, name), []byte("#!/bin/sh\necho $WEB_PORT >"+file+"\n"), 0o700); err != nil {
		s.t.Fatal(err)
	}
}

// localize replaces the paths of a recipe by those of the test.
func (s *setupEnv) localize(text string) string {
	return strings.NewReplacer("/home/you/go/bin", s.bin, "/home/you/shop", s.root).Replace(text)
}

// checkEnvFile checks a file in the form of .env that an editor reads.
func (s *setupEnv) checkEnvFile(name string) {
	s.t.Helper()
	path := filepath.Join(s.root, name)
	env, err := dotenv.Read(path)
	if err != nil || env["WEB_PORT"] != strconv.Itoa(s.port) {
		s.t.Errorf("%s has %v, %v", name, env, err)
	}
}

func TestSetups_WorkAsTheirProgramsUseThem(t *testing.T) {
	t.Parallel()
	if names := slices.Sorted(maps.Keys(setupTests)); !slices.Equal(names, slices.Sorted(slices.Values(recipes.SetupNames()))) {
		t.Errorf("the tests are for %v, the recipes are %v", names, recipes.SetupNames())
	}
	for _, name := range recipes.SetupNames() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if test := setupTests[name]; test != nil {
				test(newSetupEnv(t, name))
			}
		})
	}
}

// The table of recipes in the help topic agents is that of internal/recipes: go test ./cmd/localport -run Setups -update.
func TestSetups_AreInTheHelpTopic(t *testing.T) {
	const header = "| where | what to write |\n| --- | --- |\n"
	path := filepath.Join("help", "topics", "agents.md")
	topic, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, isFound := strings.Cut(string(topic), header)
	if !isFound {
		t.Fatalf("%s has no table that begins with %q", path, header)
	}
	_, after, _ := strings.Cut(rest, "\n\n")
	var rows strings.Builder
	for _, setup := range recipes.Setups() {
		fmt.Fprintf(&rows, "| %s | %s |\n", setup.Title, setup.Summary())
	}
	want := before + header + rows.String() + "\n" + after
	if want == string(topic) {
		return
	}
	if !*update {
		t.Fatalf("the table is not\n%s\nif the change is intended: go test ./cmd/localport -run Setups -update", rows.String())
	}
	if err := os.WriteFile(path, []byte(want), 0o644); err != nil { //nolint:gosec // as git creates it
		t.Fatal(err)
	}
}
