// Command localport gives each project its own port forwards: they run while a shell is in the project and end when the last one
// leaves.
package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/localport-sh/localport/cmd/localport/internal/leaseholder"
	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/cmd/localport/internal/prompt"
	"github.com/localport-sh/localport/cmd/localport/internal/promptclient"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/forwarder/handoff"
	"github.com/localport-sh/localport/forwarder/ssh/askpass"
	"github.com/localport-sh/localport/forwarder/ssh/wrapper"
)

// app is what commands share: the directory or config that they act on, and their output. Results go to out, everything else to err. A
// command's Run may also take a commandProject, which kong gets from findProject, and a context that ends after client.CommandTimeout.
type app struct {
	out, err      *output.Writer
	config        string // -c
	dir           string // from -C, or the current directory; empty if that was deleted
	dirFlag       string // -C
	deletedConfig string // the config of the running project whose deleted directory -C names
	logLevel      string // of the supervisor's log; empty: unchanged, or info for a new supervisor

	project        *client.Project // set once the project was found
	endsWithReader bool            // the command goes on until nobody reads its output
	// superviseProject runs the supervisor; only the command supervise sets it. It is called after that command has returned, when the
	// memory of the command line's parser, 0.2 MB, can be freed.
	superviseProject func() error
}

func main() {
	askpass.Main()
	wrapper.Main()
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	stdout, stderr := output.NewWriter(os.Stdout), output.NewWriter(os.Stderr)
	code := runCommand(args, stdout, stderr)
	_ = stdout.Flush()
	_ = stderr.Flush()
	return code
}

func runCommand(args []string, stdout, stderr *output.Writer) int {
	a := &app{out: stdout, err: stderr}
	if len(args) > 0 {
		switch args[0] {
		case "export":
			if prompt.IsHookCommand(args) {
				if status, ok := promptclient.Run(args[1:]); ok { // again, unless this build counts coverage
					return status
				}
				return prompt.Export(args[1:])
			}
			args = append([]string{"config", "export"}, args[1:]...)
		case handoff.Arg:
			return handoff.Main()
		case client.DetachedArg:
			return output.PrintError(stderr, client.Detach(args[1:]))
		case "hook":
			args = loginShellName(args)
		}
	} else {
		args = []string{"--help"}
	}
	if len(args) > 1 && args[0] == "__complete" { // without kong: it must be there before the next key
		return completeNames(a, args[1:])
	}
	if len(args) > 1 && args[0] == prompt.MistakeArg {
		return printMistake(a, args[1])
	}
	code := parseAndRun(a, args)
	if a.superviseProject != nil {
		return output.PrintError(stderr, a.superviseProject())
	}
	return code
}

// parseAndRun runs the command that args name, and returns the exit code.
func parseAndRun(a *app, args []string) int {
	output.FindCallingShell = sync.OnceValue(func() string { _, shell, _ := leaseholder.FindShell(); return shell })
	ctx, cancel := context.WithTimeout(context.Background(), client.CommandTimeout())
	defer cancel()
	if err := checkEmpty(args); err != nil {
		return output.PrintError(a.err, err)
	}
	var g grammar
	command, err := parse(ctx, a, &g, args)
	if isStdoutError(err) { // of the help
		return output.PrintError(a.err, output.DescribeWriteError(err))
	}
	if err != nil {
		path := ""
		if parseError, ok := errors.AsType[*kong.ParseError](err); ok {
			path = commandPath(parseError.Context)
		}
		return output.PrintError(a.err, withExecExitCode(explainArguments(err, path), path))
	}
	if err := checkExecFlags(g.Exec.Command); err != nil {
		return output.PrintError(a.err, withExecExitCode(err, "exec"))
	}
	a.config, a.logLevel = g.Config, g.LogLevel
	a.out.SetColor(g.Color)
	a.err.SetColor(g.Color)
	if g.Verbose {
		a.logLevel = "debug"
	}
	if err := a.resolveDir(g.Dir); err != nil {
		return output.PrintError(a.err, withExecExitCode(err, commandPath(command)))
	}
	startTime := time.Now()
	err = a.addWriteError(output.WithHelp(command.Run(), commandPath(command)))
	if a.project != nil {
		p := commandProject{a.project}
		err = p.explainNotAllowed(p.explainNoAnswer(err, startTime))
	}
	return output.PrintError(a.err, err)
}

// withExecExitCode returns the error that a command met before it ran: of exec, with an exit code that is not one of the program's.
func withExecExitCode(err error, command string) error {
	if command != "exec" {
		return err
	}
	return output.WithExitCode(err, output.ExitExecFailed)
}

// addWriteError returns the error of a command whose result is err: if its output could not be written, that one.
func (a *app) addWriteError(err error) error {
	writeErr := a.out.Err()
	isBrokenPipe := errors.Is(writeErr, syscall.EPIPE) || errors.Is(err, syscall.EPIPE)
	switch {
	case a.endsWithReader && isBrokenPipe:
		return nil
	case writeErr == nil:
		return err
	case isBrokenPipe && a.out.HasWritten(): // such as head, which has seen enough
		return output.WithExitCode(output.ErrReported, output.ExitFailed)
	}
	return output.DescribeWriteError(writeErr)
}

// isStdoutError reports whether an error is one of writing to the standard output.
func isStdoutError(err error) bool {
	pathErr, ok := errors.AsType[*fs.PathError](err)
	return ok && pathErr.Op == "write" && pathErr.Path == os.Stdout.Name()
}

// commandPath returns the command as far as it was recognized, such as "daemon stop".
func commandPath(command *kong.Context) string {
	if node := command.Selected(); node != nil {
		return nodePath(node)
	}
	return ""
}

// nodePath returns a command's names, such as "daemon stop". kong's own Path adds aliases.
func nodePath(node *kong.Node) string {
	if node.Parent == nil || node.Parent.Type != kong.CommandNode {
		return node.Name
	}
	return nodePath(node.Parent) + " " + node.Name
}

// resolveDir sets the directory in which the command acts: that of -C, or the current one. A deleted current directory is no error
// here, because not every command needs one. Nor is a deleted directory given by -C if its project is still running.
func (a *app) resolveDir(dir string) error {
	a.dirFlag = dir
	if dir == "" {
		a.dir, _ = os.Getwd()
		return nil
	}
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if config := findLiveConfigAbove(dir); config != "" {
			a.deletedConfig = config
			return nil
		}
		return err
	case err != nil:
		return err
	case !info.IsDir():
		return &os.PathError{Op: "chdir", Path: dir, Err: errors.New("not a directory")}
	}
	a.dir, err = filepath.Abs(dir)
	if err != nil { // -C is relative, and the current directory was deleted
		a.dir = ""
		return nil
	}
	return nil
}
