// Package manpage writes the manual page localport(1), in the macros of man(7), from the program's command line.
package manpage

import (
	_ "embed"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

//go:embed header.man
var headerText string // the sections before the commands

//go:embed footer.man
var footerText string // the sections after the global options

// Page returns the manual page. date is that of the program, 2026-01-31; it may be empty.
func Page(model *kong.Application, date string) string {
	p := &page{}
	p.raw(`.TH LOCALPORT 1 "` + date + `" "LocalPort" "User Commands"` + "\n")
	p.raw(headerText)
	p.macro("SH", "COMMANDS")
	for _, group := range groupsOf(model.Node) {
		if group.title != "" {
			p.macro("SS", group.title)
		}
		for _, command := range group.commands {
			p.command(command)
		}
	}
	p.macro("SH", "GLOBAL OPTIONS")
	p.text("Every command accepts these.")
	p.flags(model.Flags)
	p.raw(footerText)
	return p.String()
}

type group struct {
	title    string
	commands []*kong.Node
}

// groupsOf returns the commands that are not hidden, in the groups and the order of the help.
func groupsOf(root *kong.Node) (groups []group) {
	for _, command := range root.Children {
		if command.Hidden || command.Type != kong.CommandNode {
			continue
		}
		title := ""
		if command.Group != nil {
			title = strings.TrimSuffix(command.Group.Title, ":")
		}
		at := slices.IndexFunc(groups, func(g group) bool { return g.title == title })
		if at < 0 {
			at = len(groups)
			groups = append(groups, group{title: title})
		}
		groups[at].commands = append(groups[at].commands, command)
	}
	return groups
}

// command writes a command, or those below it.
func (p *page) command(node *kong.Node) {
	if children := slices.DeleteFunc(slices.Clone(node.Children), func(child *kong.Node) bool {
		return child.Hidden || child.Type != kong.CommandNode
	}); len(children) > 0 {
		for _, child := range children {
			p.command(child)
		}
		return
	}
	p.item(synopsis(node))
	p.text(node.Help)
	if len(node.Aliases) > 0 {
		p.text("Also: " + strings.Join(node.Aliases, ", ") + ".")
	}
	rest := &page{}
	rest.arguments(node)
	rest.flags(node.Flags)
	rest.detail(node.Detail)
	if rest.Len() > 0 {
		p.macro("RS")
		p.raw(rest.String())
		p.macro("RE")
	}
}

// arguments writes the arguments of a command.
func (p *page) arguments(node *kong.Node) {
	for _, argument := range node.Positional {
		p.item("<" + argument.Name + ">")
		p.text(kong.DefaultHelpValueFormatter(argument))
	}
}

// synopsis is a command with its arguments: "logs [<service> ...]".
func synopsis(node *kong.Node) string {
	words := []string{node.Name}
	for parent := node.Parent; parent != nil && parent.Type == kong.CommandNode; parent = parent.Parent {
		words = append([]string{parent.Name}, words...)
	}
	for _, argument := range node.Positional {
		words = append(words, argument.Summary())
	}
	return strings.Join(words, " ")
}

// flags writes the flags that are not hidden.
func (p *page) flags(flags []*kong.Flag) {
	for _, flag := range flags {
		if flag.Hidden {
			continue
		}
		p.item(flagNames(flag))
		p.text(kong.DefaultHelpValueFormatter(flag.Value))
	}
}

// flagNames is a flag as it is written, with all its names: "-n, --lines=N".
func flagNames(flag *kong.Flag) string {
	names := ""
	if flag.Short != 0 {
		names = "-" + string(flag.Short) + ", "
	}
	names += "--"
	if flag.Negated || flag.Tag.Negatable != "" {
		names += "[no-]"
	}
	names += flag.Name
	if !flag.IsBool() && !flag.IsCounter() && flag.Name != "version" {
		names += "=" + strings.Trim(flag.FormatPlaceHolder(), `"`)
	}
	return names
}
