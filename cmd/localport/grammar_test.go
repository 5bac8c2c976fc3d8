package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/alecthomas/kong"
	"pgregory.net/rapid"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
)

// parsed is what a parser has made of a command line.
type parsed struct {
	command string // the path, such as "daemon stop"
	flags   globalFlags
	values  any    // the field of the grammar that has the command
	exited  bool   // after the version
	isHelp  bool   // the help was asked for
	err     string // "" if the command line is valid
	printed string // of the version
}

// errExit replaces the end of the process.
var errExit = errors.New("exit")

// parseWith parses args with the parser that newParser returns; false if that is none.
func parseWith(args []string, newParser func(context.Context, *app, *grammar) *kong.Kong) (p parsed, ok bool) {
	var printed bytes.Buffer
	var g grammar
	parser := newParser(context.Background(), &app{out: output.NewWriter(&printed), err: output.NewWriter(io.Discard)}, &g)
	if parser == nil {
		return parsed{}, false
	}
	parser.Stdout = io.Discard // the help
	parser.Exit = func(int) { panic(errExit) }
	defer func() {
		if r := recover(); r != nil {
			if err, ok := r.(error); !ok || !errors.Is(err, errExit) {
				panic(r)
			}
			p, ok = parsed{exited: true, isHelp: printed.Len() == 0, printed: printed.String()}, true
		}
	}()
	command, err := parser.Parse(args)
	if errors.Is(err, errHelp) {
		return parsed{exited: true, isHelp: true}, true
	}
	if err != nil {
		return parsed{err: err.Error()}, true
	}
	return parsed{command: commandPath(command), flags: g.globalFlags, values: topCommand(command.Selected()).Target.Interface()}, true
}

// compareParsers parses with both parsers, and reports whether that of one command is enough.
func (c commandLine) compareParsers(t *testing.T) (isEnough bool) {
	t.Helper()
	for _, entry := range c.variables {
		name, value, _ := strings.Cut(entry, "=")
		t.Setenv(name, value)
	}
	// As help does: it starts a goroutine, which must not be one of the test's.
	output.CatchBrokenPipe()
	synctest.Test(t, func(t *testing.T) { // so that "10m ago" is the same time for both
		whole, _ := parseWith(c.args, newParser)
		alone, ok := parseWith(c.args, func(ctx context.Context, a *app, g *grammar) *kong.Kong { return newCommandParser(ctx, a, g, c.args) })
		if !ok {
			return
		}
		if (alone.err == "") != (whole.err == "") || alone.err == "" && !reflect.DeepEqual(alone, whole) {
			t.Fatalf("%q:\nthe whole grammar: %+v\none command: %+v", c, whole, alone)
		}
		isEnough = alone.err == "" && !alone.isHelp
	})
	return isEnough
}

// topCommand returns the command of which another one is part, such as "daemon" of "daemon stop".
func topCommand(node *kong.Node) *kong.Node {
	for node.Parent.Type == kong.CommandNode {
		node = node.Parent
	}
	return node
}

// wordsOf returns words for command lines of a command: its flags in every form, those of every command, and values that some of them accept.
func wordsOf(leaf *kong.Node) (words, variables []string) {
	values := strings.Fields("web 5s 3 true no 2026-01-31 /tmp ~/x debug - -- --nothing -y -h --help --version --version=false a=b 10m export config up \xff")
	words = append(slices.Clone(values), "")
	for _, group := range leaf.AllFlags(false) {
		for _, flag := range group {
			names := []string{"--" + flag.Name}
			for _, alias := range flag.Aliases {
				names = append(names, "--"+alias)
			}
			accepted := append(strings.Split(flag.Enum, ","), "5s", "bogus")
			if flag.Short != 0 {
				words = append(words, "-"+string(flag.Short), "-"+string(flag.Short)+accepted[0], "-v"+string(flag.Short))
			}
			for _, name := range names {
				words = append(words, name, name+"="+accepted[0], name+"=5s", name+"=bogus")
			}
			words = append(words, accepted...)
			for _, variable := range flag.Envs {
				for _, value := range append(accepted, "true", "web,db") {
					variables = append(variables, variable+"="+value)
				}
			}
		}
	}
	return words, variables
}

// commandLine are arguments, and variables of the environment in which they are parsed.
type commandLine struct{ args, variables []string }

// commandLinesOf generates command lines of a command, of which some are valid.
func commandLinesOf(leaf *kong.Node) *rapid.Generator[commandLine] {
	path := strings.Fields(nodePath(leaf))
	global, variables := wordsOf(leaf.Parent)
	words, own := wordsOf(leaf)
	names := append(slices.Clone(topCommand(leaf).Aliases), path[0], path[0])
	return rapid.Custom(func(t *rapid.T) commandLine {
		args := rapid.SliceOfN(rapid.SampledFrom(global), 0, 2).Draw(t, "before")
		args = append(append(args, rapid.SampledFrom(names).Draw(t, "name")), path[1:]...)
		args = append(args, rapid.SliceOfN(rapid.SampledFrom(words), 0, 3).Draw(t, "after")...)
		return commandLine{args, rapid.SliceOfN(rapid.SampledFrom(append(own, variables...)), 0, 2).Draw(t, "variables")}
	})
}

// The parser that knows only the command that is named parses its command lines as the parser of all commands does: flags before and after the
// command and its aliases, "--", values from the environment.
func TestGrammar_OneCommandIsParsedAsInTheWholeGrammar(t *testing.T) {
	enough := 0
	for _, leaf := range newParser(context.Background(), &app{}, &grammar{}).Model.Leaves(false) {
		generator := commandLinesOf(leaf)
		for range 25 {
			t.Run(nodePath(leaf), func(t *testing.T) {
				if generator.Example(rand.Int()).compareParsers(t) {
					enough++
				}
			})
		}
	}
	t.Logf("%d command lines need one command", enough)
	if enough < 100 {
		t.Errorf("only %d command lines were parsed without the whole grammar", enough)
	}
}

func TestGrammar_OneCommandIsEnough(t *testing.T) {
	for _, test := range []struct {
		args     string
		isEnough bool
	}{
		{"env", true},
		{"env --json", true},
		{"--color=never --dir=/tmp env", true},
		{"--color never env", true},
		{"-C/tmp env", false}, // rare
		{"-v -C /tmp -c x env --format fish", true},
		{"-C /tmp exec -- true", true},
		{"exec -C /tmp -- true -C x", true},
		{"exec true --json", true},
		{"exec -s web -- true", true},
		{"port web -o json", true},
		{"status", true},
		{"ps web", true},
		{"up --tag a web", true},
		{"down", true},
		{"rm web", true},
		{"list", true},
		{"version", true},
		{"--version", false},
		{"status --version", true},
		{"daemon status", true},
		{"config export", true},
		{"help", true},
		{"help status", true},
		{"status --help", false},
		{"status -h", false},
		{"-h status", false},
		{"status --nothing", false},
		{"stat", false},
		{"sttus", false},
		{"-C", false},
		{"-C status", false},
		{"daemon", false},
		{"daemon nothing", false},
		{"port", false},
		{"port web db", false},
		{"add tcp h:1", false},
		{"-- status", false},
	} {
		if isEnough := (commandLine{args: strings.Fields(test.args)}).compareParsers(t); isEnough != test.isEnough {
			t.Errorf("localport %s: parsed without the whole grammar: %v, want %v", test.args, isEnough, test.isEnough)
		}
	}
}

// Each command is found by its name and its aliases, except those that get kong's context: they may print help, or read the model of all commands.
func TestGrammar_EveryCommandThatNeedsNoModelIsFound(t *testing.T) {
	for _, leaf := range newParser(context.Background(), &app{}, &grammar{}).Model.Leaves(false) {
		run, ok := leaf.Target.Addr().Type().MethodByName("Run")
		if !ok {
			t.Fatalf("%s has no Run", nodePath(leaf))
		}
		needsModel := false
		for in := range run.Type.Ins() {
			needsModel = needsModel || in == reflect.TypeFor[*kong.Context]() || in == reflect.TypeFor[*kong.Kong]()
		}
		top := topCommand(leaf)
		for _, name := range append(top.Aliases, top.Name) {
			if field, isFound := findCommandField([]string{name}); isFound == needsModel || isFound && commandName(field) != top.Name {
				t.Errorf("%s: found: %v (%s), needs kong's model: %v", name, isFound, field.Name, needsModel)
			}
		}
	}
}
