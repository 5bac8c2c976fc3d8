package main

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/localport-sh/localport/cmd/localport/help"
	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/testdata/executable"
)

// Every topic, as printed to a pipe.
func TestHelpTopics_Golden(t *testing.T) {
	var b strings.Builder
	for _, topic := range help.Topics() {
		text := topic.Render(80, false)
		for line := range strings.Lines(text) {
			if utf8.RuneCountInString(strings.TrimSuffix(line, "\n")) > 80 {
				t.Errorf("%s: a line has more than 80 columns: %s", topic.Name, line)
			}
		}
		b.WriteString("=== localport help " + topic.Name + "\n\n" + text + "\n")
	}
	checkGolden(t, "topics.txt", b.String())
}

// The configs that topics show are accepted, and the whole example has every key.
func TestHelpTopics_ConfigsAreValid(t *testing.T) {
	t.Parallel()
	fence := regexp.MustCompile("(?s)```toml\n(version.*?)```")
	indented := regexp.MustCompile(`(?m)(?:^    (?:\[services.*|[a-z_]+ = .*)\n)+`)
	for _, topic := range help.Topics() {
		var configs []string
		for _, m := range fence.FindAllStringSubmatch(topic.Markdown(), -1) {
			configs = append(configs, m[1])
		}
		for _, text := range indented.FindAllString(topic.Markdown(), -1) {
			if strings.Contains(text, "[services") {
				configs = append(configs, strings.ReplaceAll(text, "    ", ""))
			}
		}
		for _, config := range configs {
			checkConfigIsValid(t, topic.Name, config)
		}
	}
}

func TestReadme_ConfigsAreValid(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	configs := regexp.MustCompile("(?s)```toml\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	if len(configs) == 0 {
		t.Fatal("no config found")
	}
	for _, m := range configs {
		checkConfigIsValid(t, "README.md", m[1])
	}
}

// checkConfigIsValid runs validate on a config, where its variables are set and its program is installed.
func checkConfigIsValid(t *testing.T, source, config string) {
	t.Helper()
	w := newTestEnv(t)
	root := w.project(config)
	w.writeFile(root, ".env", "PASSWORD=x\nPOSTGRES_PASSWORD=x\nPGPASSWORD=x\n")
	if err := executable.WriteFile(filepath.Join(root, "cloud-sql-proxy"), []byte("#!/bin/sh\n"), 0o755); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	cmd := w.command(root, "config", "validate")
	cmd.Env = append(cmd.Env, "PATH="+root+":"+os.Getenv("PATH"))
	if o := w.run(cmd); o.code != 0 {
		t.Errorf("%s: exit %d\n%s\n%s", source, o.code, o.stderr, config)
	}
}

// The commands and topics that topics name exist.
func TestHelpTopics_NameCommandsThatExist(t *testing.T) {
	t.Parallel()
	model := newParser(context.Background(), &app{}, &grammar{}).Model
	used := regexp.MustCompile("(?:`|    |\\$\\()localport (?:-C [^ ]+ |-v )?([a-z]+)(?: ([a-z-]+))?")
	for _, topic := range help.Topics() {
		for _, m := range used.FindAllStringSubmatch(topic.Markdown(), -1) {
			if m[1] == "help" {
				if _, ok := help.Find([]string{m[2]}); !ok {
					t.Errorf("%s names the topic %q", topic.Name, m[2])
				}
				continue
			}
			if !isCommand(m[1:2], model) {
				t.Errorf("%s names the command %q", topic.Name, m[1])
			}
		}
	}
}

// The help of each command says what it does, and has an example and the exit codes.
func TestHelp_HasSentenceExampleAndExitCodes(t *testing.T) {
	t.Parallel()
	example := regexp.MustCompile(`(?m)^(?: {2,}|Example: )localport `) // kong indents examples by four spaces
	leaves := newParser(context.Background(), &app{}, &grammar{}).Model.Leaves(true)
	if len(leaves) == 0 {
		t.Fatal("no command found")
	}
	for _, node := range leaves {
		switch {
		case node.Help == "":
			t.Errorf("%s: no sentence", node.FullPath())
		case !example.MatchString(node.Detail):
			t.Errorf("%s: no example", node.FullPath())
		case !strings.Contains(node.Detail, "\n\nExit codes: 0 ") && node.Name != "exec":
			t.Errorf("%s: no exit codes", node.FullPath())
		case strings.ContainsFunc(node.Detail, func(r rune) bool { return r > unicode.MaxASCII }):
			t.Errorf("%s: not only ASCII", node.FullPath())
		}
	}
}

func TestHelpTopics_AreFoundByTheWordsThatPeopleUse(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	for words, title := range map[string]string{
		"config": "The config: .localport.toml", "health checks": "Health checks", "CI": "Scripts and continuous integration", "WSL": "Windows Subsystem for Linux",
		"coming from kubectl": "Coming from kubectl port-forward", "autossh": "Coming from autossh and ssh -L", "direnv": "Coming from direnv or mise",
		"Python LocalPort": "Coming from the Python LocalPort", "shells": "The shell hook", "docker": "Containers",
	} {
		if got := w.mustRun("/", append([]string{"help"}, strings.Fields(words)...)...); !strings.HasPrefix(got, title+"\n") {
			t.Errorf("help %s: %q", words, got[:min(len(got), 100)])
		}
	}
	if got := w.mustRun("/", "help", "status"); !strings.HasPrefix(got, "Usage: localport status") {
		t.Errorf("help status: %q", got)
	}
	o := w.localport("/", "help", "helth")
	if want := "localport: no command or help topic \"helth\"; did you mean \"health\"?\nhint: \"localport help\" lists them\n"; o.code != output.ExitUsage || o.stderr != want {
		t.Errorf("exit %d, %q", o.code, o.stderr)
	}
}

func TestHelpTopics_AreBoldAsTheUserWants(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	for _, tt := range []struct {
		env, flag string
		want      bool
	}{
		{"", "", false}, // not a terminal
		{"CLICOLOR_FORCE=1", "", true},
		{"CLICOLOR_FORCE=1", "--color=never", false},
		{"NO_COLOR=1", "--color=always", true},
		{"LOCALPORT_COLOR=always", "", true},
	} {
		args := []string{"help", "wsl"}
		if tt.flag != "" {
			args = append([]string{tt.flag}, args...)
		}
		cmd := w.command("/", args...)
		cmd.Env = append(cmd.Env, tt.env)
		if o := w.run(cmd); o.code != 0 || strings.HasPrefix(o.stdout, "\x1b[1m") != tt.want {
			t.Errorf("%s localport %v: exit %d, %q", tt.env, args, o.code, o.stdout[:min(len(o.stdout), 50)])
		}
	}
}

// No name of a topic leads to two of them.
func TestHelpTopics_HaveNamesOfTheirOwn(t *testing.T) {
	t.Parallel()
	names := help.Names()
	slices.Sort(names)
	if compact := slices.Compact(slices.Clone(names)); len(compact) != len(names) {
		t.Errorf("names are used twice: %v", names)
	}
	if near := project.NearestName("kubernets", names); near != "kubernetes" {
		t.Errorf("near %q", near)
	}
}
