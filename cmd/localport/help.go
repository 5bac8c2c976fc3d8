package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/localport-sh/localport/cmd/localport/help"
	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/project"
)

// helpCmd is "localport help". Its words are not parsed: showHelp ignores flags among them.
type helpCmd struct {
	Words []string `arg:"" optional:"" help:"A topic or a command."`
}

// Help is the text below the usage.
func (helpCmd) Help() string {
	return `Example: localport help config

Exit codes: 0 shown; 1 not shown; 2 there is no such topic or command.`
}

func (c helpCmd) Run(a *app) error {
	if code := showHelp(a, c.Words); code != 0 {
		return output.WithExitCode(output.ErrReported, code)
	}
	return nil
}

// showHelp prints the help of what words name, a topic or a command; without words, that of the program. It returns the exit code.
func showHelp(a *app, words []string) int {
	words = slices.DeleteFunc(slices.Clone(words), func(word string) bool { return strings.HasPrefix(word, "-") })
	if len(words) == 0 {
		return parseAndRun(a, []string{"--help"})
	}
	if err, ok := printTopic(a, words); ok {
		return output.PrintError(a.err, err)
	}
	model := newParser(context.Background(), a, &grammar{}).Model
	if !isCommand(words, model) {
		return output.PrintError(a.err, unknownTopicError(words, model))
	}
	return parseAndRun(a, append(words, "--help"))
}

// printTopic prints the help topic that words name; false if there is none: they may name a command.
func printTopic(a *app, words []string) (error, bool) {
	topic, ok := help.Find(words)
	if !ok {
		return nil, false
	}
	columns, _ := a.out.Size()
	_, err := io.WriteString(a.out.File(), topic.Render(textColumns(columns), a.out.IsColored()))
	if isStdoutError(err) {
		err = output.DescribeWriteError(err)
	}
	return err, true
}

// textColumns is the width of help: a terminal's columns; 80 elsewhere.
func textColumns(columns int) int {
	if columns == 0 {
		return 80
	}
	return columns
}

// unknownTopicError says that words are neither a topic nor a command.
func unknownTopicError(words []string, model *kong.Application) error {
	known := help.Names()
	for _, node := range model.Children {
		if !node.Hidden {
			known = append(append(known, node.Name), node.Aliases...)
		}
	}
	word := strings.Join(words, " ")
	text := fmt.Sprintf("no command or help topic %q", word)
	if near := project.NearestName(word, known); near != "" {
		text += fmt.Sprintf("; did you mean %q?", near)
	}
	return output.WithHint(output.Usage(errors.New(text)), `"localport help" lists them`)
}

// isCommand reports whether words begin with the name of a command.
func isCommand(words []string, model *kong.Application) bool {
	return slices.ContainsFunc(model.Children, func(node *kong.Node) bool {
		return node.Name == words[0] || slices.Contains(node.Aliases, words[0])
	})
}

// printHelp is kong's help; that of the program itself also lists the help topics.
func printHelp(options kong.HelpOptions, ctx *kong.Context) error {
	output.CatchBrokenPipe() // kong writes to os.Stdout itself
	if err := kong.DefaultHelpPrinter(options, ctx); err != nil || ctx.Selected() != nil || ctx.Empty() {
		return err
	}
	return printTopicList(ctx.Stdout)
}

func printTopicList(w io.Writer) error {
	topics := help.Topics()
	width := 0
	for _, t := range topics {
		width = max(width, len(t.Name))
	}
	var b strings.Builder
	b.WriteString("\nHelp topics (localport help TOPIC):\n\n")
	for _, t := range topics {
		fmt.Fprintf(&b, "  %-*s    %s\n", width, t.Name, t.Summary)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
