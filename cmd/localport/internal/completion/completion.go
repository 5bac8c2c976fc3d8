// Package completion writes the completion scripts of shells. They are static: each has the commands, flags and words of the program's command
// line. Only names that the user has chosen, of services, tags and contexts, are asked for by "localport __complete KIND".
package completion

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// The kinds of words that are asked for.
const (
	Services = "services"
	Tags     = "tags"
	Logs     = "logs"     // the services, and the supervisor
	Contexts = "contexts" // of the kubeconfig
)

// Words that a script itself knows how to complete.
const (
	files       = "files"
	directories = "directories"
	program     = "command" // and its arguments
	anything    = "any"
)

// value is what may be written for a flag's value or an argument: one of the words, or of a kind. The zero value is none, as of a flag that is a
// switch.
type value struct {
	kind  string
	words []string
}

// code is the value as the scripts have it: the kind, or "words" and the words.
func (v value) code() string {
	if len(v.words) > 0 {
		return "words " + strings.Join(v.words, " ")
	}
	return v.kind
}

type flag struct {
	names []string // with their dashes
	help  string
	value value
}

type command struct {
	path     string // "daemon stop"; empty: the program itself
	help     string
	commands []command
	flags    []flag // without those of all commands
	argument value
}

// Words are the values that kong does not know: of arguments and flags by their names. A key is "COMMAND NAME" or "NAME".
type Words map[string][]string

// kinds are the kinds of arguments and flags, by the names that the commands use.
var kinds = map[string]string{
	"service": Services, "tag": Tags, "logs service": Logs, "context": Contexts, "kubeconfig": files, "init from": files, "init ssh-file": files, "remove name": Services, "config": files, "dir": directories, "exec command": program,
}

// Script returns the completion script of a shell: bash, zsh or fish.
func Script(shell string, model *kong.Application, words Words) (string, error) {
	root := describe(model.Node, words)
	switch shell {
	case "bash":
		return bashScript(root), nil
	case "zsh":
		return zshScript(root), nil
	case "fish":
		return fishScript(root), nil
	}
	return "", fmt.Errorf("there is no completion for %q (bash, zsh, fish)", shell)
}

// describe describes a command and those below it, without hidden ones.
func describe(node *kong.Node, words Words) command {
	c := command{path: strings.TrimSpace(nodePath(node)), help: firstSentence(node.Help)}
	for _, f := range node.Flags {
		if !f.Hidden {
			c.flags = append(c.flags, newFlag(c.path, f, words))
		}
	}
	slices.SortFunc(c.flags, func(a, b flag) int { return cmp.Compare(a.names[0], b.names[0]) })
	if len(node.Positional) > 0 {
		c.argument = newValue(c.path, node.Positional[0].Name, node.Positional[0], words)
	}
	for _, child := range node.Children {
		if !child.Hidden && child.Type == kong.CommandNode {
			c.commands = append(c.commands, describe(child, words))
		}
	}
	slices.SortFunc(c.commands, func(a, b command) int { return cmp.Compare(a.path, b.path) })
	return c
}

// nodePath is the command without the program's name.
func nodePath(node *kong.Node) string {
	if node.Type != kong.CommandNode {
		return ""
	}
	return nodePath(node.Parent) + " " + node.Name
}

func newFlag(path string, f *kong.Flag, words Words) flag {
	described := flag{names: []string{"--" + f.Name}, help: firstSentence(f.Help)}
	if f.Short != 0 {
		described.names = append(described.names, "-"+string(f.Short))
	}
	if !f.IsBool() && f.Name != "version" {
		described.value = newValue(path, f.Name, f.Value, words)
	}
	return described
}

func newValue(path, name string, v *kong.Value, words Words) value {
	if values := nonEmpty(v.EnumSlice()); len(values) > 0 {
		return value{words: values}
	}
	key := path + " " + name
	if values := cmp.Or(len(words[key]), len(words[name])); values > 0 {
		return value{words: append(words[key], words[name]...)}
	}
	return value{kind: cmp.Or(kinds[key], kinds[name], anything)}
}

func nonEmpty(values []string) []string {
	return slices.DeleteFunc(slices.Clone(values), func(text string) bool { return text == "" })
}

// firstSentence is the help as a list of completions shows it.
func firstSentence(help string) string {
	sentence, _, _ := strings.Cut(strings.ReplaceAll(help, "\n", " "), ". ")
	sentence, _, _ = strings.Cut(sentence, "; ")
	return strings.TrimSuffix(sentence, ".")
}

// all returns the command and all below it.
func (c command) all() []command {
	list := []command{c}
	for _, child := range c.commands {
		list = append(list, child.all()...)
	}
	return list
}

// valueCases are the patterns "PATH FLAG" of the flags that have a value, and its code. Flags of the program itself count in every command.
func (c command) valueCases() map[string]string {
	cases := make(map[string]string)
	for _, cmd := range c.all() {
		for _, f := range cmd.flags {
			for _, name := range f.names {
				if code := f.value.code(); code != "" {
					cases[cmd.path+" "+name] = code
				}
			}
		}
	}
	return cases
}

// name is the last word of a command's path.
func (c command) name() string { return c.path[strings.LastIndexByte(c.path, ' ')+1:] }

// sortedKeys makes the scripts the same each time.
func sortedKeys[T any](m map[string]T) []string { return slices.Sorted(maps.Keys(m)) }

// quote quotes text for bash and zsh.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
