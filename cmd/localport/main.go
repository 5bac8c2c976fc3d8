// Command localport gives each project its own port forwards: they run while a shell is in the project and end when the last one
// leaves.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/localport-sh/localport/cmd/localport/internal/leaseholder"
	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/cmd/localport/internal/prompt"
	"github.com/localport-sh/localport/cmd/localport/internal/promptclient"
	"github.com/localport-sh/localport/cmd/localport/internal/version"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/forwarder/handoff"
	"github.com/localport-sh/localport/forwarder/ssh/askpass"
	"github.com/localport-sh/localport/forwarder/ssh/wrapper"
)

// grammar is the command line as kong parses it. It lacks export, the hook's command: kong would double the time that a prompt takes.
// Every flag can also be given by a LOCALPORT_* variable, except those that act, such as --fix and --all (env:"-").
type grammar struct {
	Config   string           `short:"c" placeholder:"FILE" type:"path" help:"Use this config file instead of the nearest .localport.toml."`
	Dir      string           `short:"C" placeholder:"DIR" type:"path" help:"Run as if started in DIR."`
	Verbose  bool             `short:"v" help:"Write debug messages to the log; same as --log-level=debug."`
	LogLevel string           `enum:",debug,info,warn,error" default:"" placeholder:"LEVEL" help:"Log level of the supervisor, also if it is running: debug, info, warn or error."`
	Color    output.ColorMode `enum:"auto,always,never" default:"auto" placeholder:"WHEN" help:"Use colours: auto, always or never."`
	Version  versionFlag      `env:"-" help:"Print the version."`

	Forward forwardCmd `cmd:"" group:"Daily" help:"Forward a port without a project: kubectl's or ssh's own arguments, in the foreground."`
	Allow   allowCmd   `cmd:"" group:"Daily" help:"Approve the current contents of the project's files."`
	Status  statusCmd  `cmd:"" group:"Daily" aliases:"ps" help:"Show the project's services."`
	Start   startCmd   `cmd:"" group:"Daily" aliases:"up" help:"Start services and keep them running without a shell."`
	Stop    stopCmd    `cmd:"" group:"Daily" aliases:"down" help:"Stop services; without names, the whole project."`
	Restart restartCmd `cmd:"" group:"Daily" help:"Reconnect services; their ports stay open."`
	Exec    execCmd    `cmd:"" group:"Daily" help:"Run a command when the project's services are healthy."`
	Env     envCmd     `cmd:"" group:"Daily" help:"Print the project's environment variables."`
	Logs    logsCmd    `cmd:"" group:"Daily" help:"Print the services' logs."`

	Init       initCmd       `cmd:"" group:"Config" help:"Write a .localport.toml: interactively, or from a cluster, compose file, ssh config or example."`
	Add        addCmd        `cmd:"" group:"Config" help:"Add a service: paste a kubectl port-forward or ssh command, or a URL."`
	Remove     removeCmd     `cmd:"" group:"Config" aliases:"rm" help:"Remove services from the config."`
	Edit       editCmd       `cmd:"" group:"Config" help:"Edit the config in your editor, and check it."`
	Hook       hookCmd       `cmd:"" group:"Config" help:"Print the shell hook; put it into your rc file: eval \"$(localport hook zsh)\"."`
	Completion completionCmd `cmd:"" group:"Config" help:"Print the completion script of a shell."`
	Deny       denyCmd       `cmd:"" group:"Config" help:"Revoke the approval and stop the project's forwards."`
	ConfigCmd  configCmd     `cmd:"" group:"Config" name:"config" help:"Check, show, export, migrate, back up and restore the config."`
	Recipes    recipesCmd    `cmd:"" group:"Config" help:"Print ready-made services for Cloud SQL, AWS, IAP, Teleport and Azure."`

	Doctor  doctorCmd  `cmd:"" group:"Diagnose" help:"Check what LocalPort depends on, and say how to fix what is wrong."`
	Why     whyCmd     `cmd:"" group:"Diagnose" help:"Explain a service's state, and say what to do next."`
	Top     topCmd     `cmd:"" group:"Diagnose" help:"Show the services, their traffic and connections full screen; keys restart, stop and log in."`
	Ls      lsCmd      `cmd:"" group:"Diagnose" aliases:"list" help:"List all of your projects that run, and their services."`
	Events  eventsCmd  `cmd:"" group:"Diagnose" help:"Print what happened to the services: failures, recoveries, changes of state."`
	Login   loginCmd   `cmd:"" group:"Diagnose" help:"Log in to services that need it, in this terminal."`
	Daemon  daemonCmd  `cmd:"" group:"Diagnose" help:"Control the supervisor."`
	Metrics metricsCmd `cmd:"" group:"Diagnose" help:"Print metrics in the Prometheus text format."`

	Lease      leaseCmd     `cmd:"" group:"Advanced" help:"Keep the project running for a process, such as an agent or an editor, and print its variables."`
	Port       portCmd      `cmd:"" group:"Advanced" help:"Print a service's local port."`
	Demo       demoCmd      `cmd:"" group:"Advanced" help:"Show how LocalPort works, on a temporary project."`
	Uninstall  uninstallCmd `cmd:"" group:"Advanced" help:"Show what LocalPort keeps on disk, and remove it."`
	VersionCmd versionCmd   `cmd:"" group:"Advanced" name:"version" help:"Print the version."`

	Help      helpCmd      `cmd:"" hidden:"" passthrough:"" help:"Show a help topic, or the help of a command."`
	Man       manCmd       `cmd:"" hidden:"" help:"Print the manual page."`
	Supervise superviseCmd `cmd:"" hidden:"" help:"Run as a project's supervisor."`
	Standby   standbyCmd   `cmd:"" hidden:"" help:"Start a supervisor here when that of another container ends."`

	// Other names of "localport config …".
	Schema  schemaCmd  `cmd:"" hidden:"" help:"Print the JSON Schema of .localport.toml, for editors."`
	Migrate migrateCmd `cmd:"" hidden:"" help:"Convert an older config, or that of the Python LocalPort."`
	Backup  backupCmd  `cmd:"" hidden:"" help:"Copy the config into localport's data directory."`
	Restore restoreCmd `cmd:"" hidden:"" help:"Restore the config from a backup."`
}

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
	catchBrokenPipe()
	code := parseAndRun(a, args)
	if a.superviseProject != nil {
		return output.PrintError(stderr, a.superviseProject())
	}
	return code
}

// catchBrokenPipe makes a write to a pipe without a reader return EPIPE. A program that exec runs does not inherit that.
func catchBrokenPipe() { signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) }

// newParser returns the parser of the command line, which fills g.
func newParser(ctx context.Context, a *app, g *grammar) *kong.Kong {
	// kong writes its help to os.Stdout itself: it takes the width of a terminal from an *os.File only.
	return kong.Must(g, append(keepArgumentBytes(),
		kong.Name("localport"),
		kong.Description("Port forwards for each project: started when you cd into it, stopped when the last shell leaves."),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
		kong.Help(printHelp),
		kong.ExplicitGroups([]kong.Group{
			{Key: "Daily", Title: "Daily:"}, {Key: "Config", Title: "Config:"}, {Key: "Diagnose", Title: "Diagnose:"}, {Key: "Advanced", Title: "Advanced:"},
		}),
		kong.DefaultEnvars("LOCALPORT"),
		kong.Vars{"version": version.Own()},
		kong.Bind(a),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.BindToProvider(a.findProject),
	)...)
}

// parseAndRun runs the command that args name, and returns the exit code.
func parseAndRun(a *app, args []string) int {
	output.FindCallingShell = sync.OnceValue(func() string { _, shell, _ := leaseholder.FindShell(); return shell })
	ctx, cancel := context.WithTimeout(context.Background(), client.CommandTimeout())
	defer cancel()
	var g grammar
	parser := newParser(ctx, a, &g)
	if err := checkEmpty(args); err != nil {
		return output.PrintError(a.err, err)
	}
	command, err := parser.Parse(args)
	if isStdoutError(err) { // of the help
		return output.PrintError(a.err, describeWriteError(err))
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
	return describeWriteError(writeErr)
}

// isStdoutError reports whether an error is one of writing to the standard output.
func isStdoutError(err error) bool {
	pathErr, ok := errors.AsType[*fs.PathError](err)
	return ok && pathErr.Op == "write" && pathErr.Path == os.Stdout.Name()
}

func describeWriteError(err error) error {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		err = pathErr.Err
	}
	return output.WithHint(fmt.Errorf("write to the standard output: %w", err))
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
