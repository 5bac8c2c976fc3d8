package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"mvdan.cc/sh/v3/syntax"

	"github.com/localport-sh/localport/cmd/localport/help"
)

// shownText is a text that shows commands and configs: a help topic, README, or the help of a command.
type shownText struct {
	name, text string
}

// documentations returns all of them.
func documentations(t *testing.T) (documents []shownText) {
	t.Helper()
	for _, topic := range help.Topics() {
		documents = append(documents, shownText{"localport help " + topic.Name, topic.Markdown()})
	}
	for _, name := range []string{"README.md", ".github/CONTRIBUTING.md", ".github/SECURITY.md"} {
		data, err := os.ReadFile(filepath.Join("../..", name))
		if err != nil {
			t.Fatal(err)
		}
		documents = append(documents, shownText{name, string(data)})
	}
	for _, command := range newParser(context.Background(), &app{}, &grammar{}).Model.Leaves(false) {
		// The example of a page is a line of prose there, and hints are quoted.
		text := regexp.MustCompile(`(?m)^Example: `).ReplaceAllString(command.Detail, "    ")
		text = regexp.MustCompile(`(?m)^ {2,}`).ReplaceAllString(text, "    ")
		documents = append(documents, shownText{"localport " + nodePath(command) + " --help", regexp.MustCompile(`"(localport [^"\n]*)"`).ReplaceAllString(text, "`$1`")})
	}
	return documents
}

var (
	fencedBlock   = regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$")
	indentedBlock = regexp.MustCompile(`(?m)(?:^ {4}.*(?:\n|\z))+`)
	codeSpan      = regexp.MustCompile("``([^\n]+?)``|`([^`]+)`")
	// shownCommand is localport with its arguments, up to what ends a command in one of the shells.
	shownCommand = regexp.MustCompile("(?:^|[\\s(`|&;])localport((?: +(?:'[^']*'|\"[^\"]*\"|\\$\\$|[^\\s'\"`|&;()<>#]+))+)")
)

// code returns the texts of a document that are code.
func (d shownText) code() (texts []string) {
	for _, m := range fencedBlock.FindAllStringSubmatch(d.text, -1) {
		texts = append(texts, strings.Split(m[2], "\n")...)
	}
	text := fencedBlock.ReplaceAllString(d.text, "")
	for _, block := range indentedBlock.FindAllString(text, -1) {
		texts = append(texts, strings.Split(block, "\n")...)
	}
	for _, m := range codeSpan.FindAllStringSubmatch(indentedBlock.ReplaceAllString(text, "\n"), -1) {
		texts = append(texts, strings.ReplaceAll(m[1]+m[2], "\n", " "))
	}
	for i, text := range texts {
		texts[i] = strings.ReplaceAll(text, `\|`, "|") // in a table
	}
	return texts
}

// Each command line that a page shows is one that localport accepts: its commands, flags and arguments exist.
func TestDocumentation_CommandLinesParse(t *testing.T) {
	t.Parallel()
	count := 0
	for _, d := range documentations(t) {
		for _, text := range d.code() {
			for _, m := range shownCommand.FindAllStringSubmatch(text, -1) {
				args := shellWords(t, m[1])
				if len(args) == 0 || args[0] == "COMMAND" {
					continue
				}
				count++
				if err := checkArguments(args); err != nil {
					t.Errorf("%s: localport%s: %v", d.name, m[1], err)
				}
			}
		}
	}
	if count < 150 {
		t.Errorf("only %d command lines were found", count)
	}
}

// checkArguments reports what is wrong with a command line, without running it.
func checkArguments(args []string) error {
	if args[0] == "export" { // the hook's, which is not kong's, or config export
		args = append([]string{"config"}, args...)
	}
	isHelp := args[len(args)-1] == "--help"
	parser := newParser(context.Background(), &app{}, &grammar{})
	command, err := kong.Trace(parser, args)
	if err == nil && !isHelp {
		err = command.Error
	}
	for _, step := range []func() error{command.Reset, command.Resolve, func() error { _, err := command.Apply(); return err }, command.Validate} {
		if err == nil && !isHelp && command.Selected() != nil { // a group alone, such as "localport daemon", has its help
			err = step()
		}
	}
	if isHelp && !isCommand(args[:len(args)-1], parser.Model) {
		return errors.New("no such command")
	}
	if err == nil && args[0] == "help" && len(args) > 1 && args[1] != "TOPIC" && args[1] != "COMMAND" {
		if _, found := help.Find(args[1:]); !found && !isCommand(args[1:], parser.Model) {
			return errors.New("no such topic")
		}
	}
	return err
}

// shellWords splits a command line as a shell does, without expanding variables.
func shellWords(t *testing.T, line string) (words []string) {
	t.Helper()
	file, err := syntax.NewParser().Parse(strings.NewReader("localport"+line), "")
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	syntax.Walk(file, func(node syntax.Node) bool {
		if word, ok := node.(*syntax.Word); ok {
			words = append(words, wordText(word))
			return false
		}
		return true
	})
	return words[1:]
}

func wordText(word *syntax.Word) string {
	var b strings.Builder
	syntax.Walk(word, func(node syntax.Node) bool {
		switch node := node.(type) {
		case *syntax.Lit:
			b.WriteString(node.Value)
		case *syntax.SglQuoted:
			b.WriteString(node.Value)
		case *syntax.ParamExp:
			b.WriteString("1") // such as $$, the pid of a shell
			return false
		}
		return true
	})
	return b.String()
}

// excerptContexts has what surrounds a config of a page that is only a part of one, by its first line.
var excerptContexts = map[string]string{
	"[env]": "[services.postgres]\ntechnology = \"tcp\"\nlocal_port = 5432\nremote_port = 5432\nconnection.remote_host = \"127.0.0.1\"\n",
	`health_check = { type = "postgres", user = "app", password = "${PASSWORD}" }`: "[services.postgres]\ntechnology = \"tcp\"\nlocal_port = 5432\n" +
		"remote_port = 5432\nconnection.remote_host = \"127.0.0.1\"\n",
}

// userConfigs has the first lines of configs that are the user's own.
var userConfigs = []string{`verbosity = "normal"`, "[trust] terminal = true"}

// Each config that a page shows is valid, alone or in its context.
func TestDocumentation_ConfigsAreValid(t *testing.T) {
	t.Parallel()
	isConfig := regexp.MustCompile(`^(\[[a-z.-]+\]|[a-z_]+ = [^(])`)
	for _, d := range documentations(t) {
		var configs []string
		for _, m := range fencedBlock.FindAllStringSubmatch(d.text, -1) {
			configs = append(configs, m[2])
		}
		for _, block := range indentedBlock.FindAllString(fencedBlock.ReplaceAllString(d.text, ""), -1) {
			if block = regexp.MustCompile(`(?m)^ {4}`).ReplaceAllString(block, ""); isConfig.MatchString(block) {
				configs = append(configs, block)
			}
		}
		for _, m := range codeSpan.FindAllStringSubmatch(d.text, -1) {
			if isUserConfig(m[2]) {
				configs = append(configs, m[2])
			}
		}
		for _, config := range configs {
			first, _, _ := strings.Cut(config, "\n")
			if isUserConfig(first) {
				checkUserConfigIsValid(t, d.name, config)
			} else {
				checkConfigIsValid(t, d.name, excerptContexts[first]+config)
			}
		}
	}
}

func isUserConfig(text string) bool {
	for _, start := range userConfigs {
		if strings.HasPrefix(text, start) {
			return true
		}
	}
	return false
}

// checkUserConfigIsValid runs validate on a valid project with the user's own config.
func checkUserConfigIsValid(t *testing.T, source, config string) {
	t.Helper()
	w := newTestEnv(t)
	root := w.project("[services.web]\ntechnology = \"tcp\"\nlocal_port = 5432\nremote_port = 5432\nconnection.remote_host = \"127.0.0.1\"\n")
	w.writeUserConfig(strings.ReplaceAll(config, "[trust] ", "[trust]\n"))
	if o := w.localport(root, "config", "validate"); o.code != 0 {
		t.Errorf("%s: exit %d\n%s\n%s", source, o.code, o.stderr, config)
	}
	w.writeUserConfig(strings.ReplaceAll(config, "[trust] ", "[trust]\n") + "\nnonsense = 1\n")
	if o := w.localport(root, "config", "validate"); o.code == 0 {
		t.Error("the user's own config is not looked at")
	}
}

// Keys that pages name in code, such as `local_port = "auto"`, exist in the schema.
func TestDocumentation_KeysExist(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../../project/schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema any
	if err := json.Unmarshal(data, &schema); err != nil {
		t.Fatal(err)
	}
	keys := make(map[string]bool)
	addKeys(schema, keys)
	assignment := regexp.MustCompile(`^(?:connection\.|health_check\.)?([a-z][a-z_]+) = `)
	for _, d := range documentations(t) {
		for _, m := range codeSpan.FindAllStringSubmatch(indentedBlock.ReplaceAllString(fencedBlock.ReplaceAllString(d.text, ""), "\n"), -1) {
			if key := assignment.FindStringSubmatch(m[2]); key != nil && !keys[key[1]] {
				t.Errorf("%s names the key %s, in %q", d.name, key[1], m[2])
			}
		}
	}
}

// addKeys adds the names of all properties of a JSON Schema.
func addKeys(schema any, keys map[string]bool) {
	switch schema := schema.(type) {
	case map[string]any:
		if properties, ok := schema["properties"].(map[string]any); ok {
			for name := range properties {
				keys[name] = true
			}
		}
		for _, child := range schema {
			addKeys(child, keys)
		}
	case []any:
		for _, child := range schema {
			addKeys(child, keys)
		}
	}
}
