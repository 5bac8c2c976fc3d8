package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/cmd/localport/internal/prompt"
	"github.com/localport-sh/localport/cmd/localport/internal/uninstall"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/forwarder/ssh/askpass"
	"github.com/localport-sh/localport/lockstate"
)

type uninstallCmd struct {
	Yes     bool `env:"-" help:"Stop all projects and remove what is listed, without asking."`
	RCFiles bool `name:"rc-files" env:"-" help:"Also remove the hook's lines from start-up files, of which a copy is kept, and scripts that you have saved."`
}

// Help says what is kept.
func (uninstallCmd) Help() string {
	return "At a terminal, it shows what LocalPort keeps on disk and what runs, and asks before it stops all of your projects and removes it. " +
		"Without --yes, nothing is changed unless you answer \"yes\" at a terminal.\n\n" +
		"It never removes .localport.toml files, your own config.toml, backups of configs, or the program itself: for that it prints the command.\n\n" +
		"Examples:\n\n  localport uninstall                    # show, and ask\n  localport uninstall --yes --rc-files\n\n" +
		"Exit codes: 0 removed, or only shown; 1 something could not be removed; 2 wrong usage."
}

// Run shows what there is and, if the user wants that, stops all projects and removes it.
func (c uninstallCmd) Run(ctx context.Context, a *app) error {
	inventory, err := uninstall.Find(os.Getenv)
	if err != nil {
		output.Warn(a.err, err.Error())
	}
	printInventory(a, inventory)
	c.printProgram(ctx, a)
	isEmpty := inventory.IsEmpty() && (!c.RCFiles || !inventory.HasHookLines())
	switch {
	case isEmpty:
		return nil
	case !c.Yes:
		_ = a.out.Flush()
		var isAsked bool
		if c.Yes, isAsked, err = confirm("\nStop all projects and remove what is listed?"); err != nil {
			return err
		}
		if !c.Yes {
			output.Info(a.err, "nothing was removed")
			if !isAsked {
				fmt.Fprintln(a.err, "hint: localport uninstall --yes")
			}
			return nil
		}
		if !c.RCFiles && inventory.HasHookLines() {
			if c.RCFiles, _, err = confirm("Remove the lines from start-up files, and the scripts?"); err != nil {
				return err
			}
		}
	}
	return c.remove(a, inventory)
}

// remove stops all projects and removes everything. What cannot be removed does not keep it from removing the rest.
func (c uninstallCmd) remove(a *app, inventory uninstall.Inventory) error {
	var errs []error
	for _, dir := range inventory.Dirs {
		if dir.Kind == lockstate.DirUsed && dir.Config != "" {
			errs = append(errs, a.stopProject(dir.Config))
		}
	}
	errs = append(errs, inventory.RemoveFiles())
	if c.RCFiles {
		backups, err := inventory.RemoveHookLines()
		for _, backup := range backups {
			output.Info(a.err, "kept a copy of a start-up file: %s", shortPath(backup))
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	output.Info(a.err, "removed; close open shells: their hooks would use projects again")
	return nil
}

// stopProject stops a project of which something runs, whichever its directory.
func (a *app) stopProject(config string) error {
	p, err := a.openConfig(config)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), client.CommandTimeout())
	defer cancel()
	startTime, processes := time.Now(), p.Processes()
	if err := p.explainNoAnswer(p.shutDown(ctx, a.err), startTime); err != nil {
		return fmt.Errorf("stop %s: %w", config, err)
	}
	for _, q := range processes { // their last writes come after their answer
		_ = lockstate.WaitExit(ctx, q.Process)
	}
	output.Info(a.err, "stopped %s", shortPath(config))
	return nil
}

// confirm asks a question on the terminal. Without one, it is not asked.
func confirm(question string) (isConfirmed, isAsked bool, err error) {
	if columns, _ := output.NewWriter(os.Stdin).Size(); columns == 0 {
		return false, false, nil
	}
	terminal, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return false, false, nil //nolint:nilerr // there is no terminal
	}
	defer terminal.Close()
	_, err = askUser(context.Background(), terminal, askpass.Question{Text: question, Kind: "confirm"})
	if errors.Is(err, errNoAnswer) {
		return false, true, nil
	}
	return err == nil, true, err
}

// printInventory prints what there is, one thing on a line.
func printInventory(a *app, i uninstall.Inventory) {
	if i.IsEmpty() {
		fmt.Fprintln(a.out, "On disk: nothing")
	} else {
		fmt.Fprintln(a.out, "On disk:")
		printUsage(a, "state and logs", i.State)
		printUsage(a, "approvals", i.Trust)
		for _, usage := range i.Runtime {
			printUsage(a, "sockets", usage)
		}
	}
	for _, path := range i.UserFiles {
		fmt.Fprintf(a.out, "  %-15s %s\n", "kept", shortPath(path))
	}
	counts := make(map[lockstate.DirKind]int)
	for _, dir := range i.Dirs {
		counts[dir.Kind]++
	}
	if len(i.Dirs) > 0 {
		fmt.Fprintf(a.out, "Projects: %d, %d in use, %d whose config no longer exists\n", len(i.Dirs), counts[lockstate.DirUsed], counts[lockstate.DirOrphaned])
	}
	for _, dir := range i.Dirs {
		if dir.Kind == lockstate.DirUsed {
			fmt.Fprintf(a.out, "  %s: %s\n", shortPath(dir.Config), dir.Reason)
		}
	}
	if len(i.Lines) > 0 {
		fmt.Fprintln(a.out, "Lines in start-up files:")
	}
	for _, line := range i.Lines {
		fmt.Fprintln(a.out, "  "+shortPath(line.String()))
		if !line.IsAlone {
			fmt.Fprintln(a.out, "    remove this one by hand: it is part of other code")
		}
	}
	if len(i.Scripts) > 0 {
		fmt.Fprintln(a.out, "Scripts that you have saved:")
	}
	for _, script := range i.Scripts {
		fmt.Fprintln(a.out, "  "+shortPath(script))
	}
}

func printUsage(a *app, what string, usage uninstall.DiskUsage) {
	if usage.Files > 0 {
		fmt.Fprintf(a.out, "  %-15s %s (%d %s, %s)\n", what, shortPath(usage.Path), usage.Files, plural("file", usage.Files), formatBytes(uint64(usage.Bytes)))
	}
}

func (uninstallCmd) printProgram(ctx context.Context, a *app) {
	exe, err := prompt.InvokedPath()
	if err != nil {
		return
	}
	command, installedBy := uninstall.RemovalCommand(ctx, exe, process.QuoteWord(exe))
	if installedBy != "" {
		installedBy = " (" + installedBy + ")"
	}
	fmt.Fprintf(a.out, "Program: %s%s\n  to remove it: %s\n", shortPath(exe), installedBy, output.EscapeLine(command))
}

// shortPath returns a path, and what follows it, as people write it: the home directory is "~".
func shortPath(path string) string {
	if home, err := lockstate.HomeDir(); err == nil && strings.HasPrefix(path, strings.TrimSuffix(home, "/")+"/") {
		path = "~" + path[len(strings.TrimSuffix(home, "/")):]
	}
	return output.EscapeLine(path)
}
