package main

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
)

// grammar is the command line as kong parses it. It lacks export, the hook's command: kong would double the time that a prompt takes.
// Every flag can also be given by a LOCALPORT_* variable, except those that act, such as --fix and --all (env:"-").
type grammar struct {
	globalFlags

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

// globalFlags are the flags of every command.
type globalFlags struct {
	Config   string           `short:"c" placeholder:"FILE" type:"path" help:"Use this config file instead of the nearest .localport.toml."`
	Dir      string           `short:"C" placeholder:"DIR" type:"path" help:"Run as if started in DIR."`
	Verbose  bool             `short:"v" help:"Write debug messages to the log; same as --log-level=debug."`
	LogLevel string           `enum:",debug,info,warn,error" default:"" placeholder:"LEVEL" help:"Log level of the supervisor, also if it is running: debug, info, warn or error."`
	Color    output.ColorMode `enum:"auto,always,never" default:"auto" placeholder:"WHEN" help:"Use colours: auto, always or never."`
	Version  versionFlag      `env:"-" help:"Print the version."`
}

// parse fills g from args. Of a valid command line, the command that it returns has a model of that command only.
func parse(ctx context.Context, a *app, g *grammar, args []string) (*kong.Context, error) {
	if parser := newCommandParser(ctx, a, g, args); parser != nil {
		if command, err := parser.Parse(args); err == nil {
			return command, nil
		}
		*g = grammar{}
	}
	return newParser(ctx, a, g).Parse(args)
}

// newParser returns the parser of the whole command line, which fills g.
func newParser(ctx context.Context, a *app, g *grammar) *kong.Kong {
	// kong writes its help to os.Stdout itself: it takes the width of a terminal from an *os.File only.
	return kong.Must(g, append(parserOptions(ctx, a),
		kong.Description("Port forwards for each project: started when you cd into it, stopped when the last shell leaves."),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
		kong.Help(printHelp),
		kong.ExplicitGroups([]kong.Group{
			{Key: "Daily", Title: "Daily:"}, {Key: "Config", Title: "Config:"}, {Key: "Diagnose", Title: "Diagnose:"}, {Key: "Advanced", Title: "Advanced:"},
		}),
	)...)
}

// parserOptions are the options that decide how arguments are parsed, and what commands are given.
func parserOptions(ctx context.Context, a *app) []kong.Option {
	return append(keepArgumentBytes(),
		kong.Name("localport"),
		kong.DefaultEnvars("LOCALPORT"),
		kong.Bind(a),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.BindToProvider(a.findProject),
	)
}

// errHelp says that the help of a command was asked for, which only the parser of the whole command line prints.
var errHelp = errors.New("help")

// newCommandParser returns a parser of the command that args name, and of the global flags: to build the whole grammar takes 3 ms of CPU, 200 times
// what most commands need. What it parses without an error is parsed the same as by newParser; errors and help are for newParser to print. It
// returns nil if no command is recognized.
func newCommandParser(ctx context.Context, a *app, g *grammar, args []string) *kong.Kong {
	field, ok := findCommandField(args)
	if !ok {
		return nil
	}
	command := reflect.ValueOf(g).Elem().FieldByIndex(field.Index).Addr().Interface()
	return kong.Must(&g.globalFlags, append(parserOptions(ctx, a),
		kong.DynamicCommand(commandName(field), "", "", command, string(field.Tag)),
		kong.Help(func(kong.HelpOptions, *kong.Context) error { return errHelp }),
	)...)
}

// modelCommands are the commands whose Run uses kong's model, which must be that of the whole command line.
var modelCommands = []string{"add", "completion", "forward", "man"}

// findCommandField returns the field of the grammar that has the command that args name; false if that is unclear, or one of modelCommands.
func findCommandField(args []string) (reflect.StructField, bool) {
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		name, _, hasValue := strings.Cut(args[0], "=")
		isLong, takesValue := strings.HasPrefix(name, "--"), slices.Contains(flagsWithValue, name)
		switch {
		case takesValue && !hasValue && len(args) > 1:
			args = args[2:]
		case takesValue && hasValue && isLong, args[0] == "-v", args[0] == "--verbose":
			args = args[1:]
		default:
			return reflect.StructField{}, false
		}
	}
	if len(args) == 0 || slices.Contains(modelCommands, args[0]) {
		return reflect.StructField{}, false
	}
	for field := range reflect.TypeFor[grammar]().Fields() {
		if _, isCommand := field.Tag.Lookup("cmd"); isCommand && (commandName(field) == args[0] || slices.Contains(strings.Split(field.Tag.Get("aliases"), ","), args[0])) {
			return field, true
		}
	}
	return reflect.StructField{}, false
}

// commandName is the name that kong gives to the command of a field.
func commandName(field reflect.StructField) string {
	if name := field.Tag.Get("name"); name != "" {
		return name
	}
	return strings.ToLower(field.Name)
}
