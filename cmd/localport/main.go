// Command localport gives each project its own port forwards: up while a shell is in the project, gone with the
// last one out.
package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/alecthomas/kong"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/cmd/localport/internal/prompt"
	"github.com/localport-sh/localport/cmd/localport/internal/version"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/forwarder/handoff"
	"github.com/localport-sh/localport/forwarder/ssh/askpass"
	"github.com/localport-sh/localport/forwarder/ssh/wrapper"
)

// grammar is the command line, but for export: the hook's command is read without kong, which costs a prompt as much
// as all the rest of it. Every flag can be given by a LOCALPORT_* variable too.
type grammar struct {
	Config   string           `short:"c" placeholder:"FILE" type:"path" help:"Use this config file instead of the nearest .localport.toml."`
	Dir      string           `short:"C" placeholder:"DIR" type:"path" help:"Act as if started in DIR."`
	Verbose  bool             `short:"v" help:"Log in detail: the same as --log-level=debug."`
	LogLevel string           `enum:",debug,info,warn,error" default:"" placeholder:"LEVEL" help:"Level of the supervisor's log, also of one that runs: debug, info, warn or error."`
	Version  kong.VersionFlag `env:"-" help:"Print the version."`

	Hook   hookCmd   `cmd:"" help:"Print the hook for a shell's rc: eval \"$(localport hook zsh)\"."`
	Allow  allowCmd  `cmd:"" help:"Allow the project's files as they are now."`
	Deny   denyCmd   `cmd:"" help:"Forget that the project was allowed, and end its forwards."`
	Status statusCmd `cmd:"" help:"Show the project's services."`
	Start  startCmd  `cmd:"" help:"Bring services up, and keep them up without a shell."`
	Stop   stopCmd   `cmd:"" help:"Stop services, or with no name the whole project."`

	Restart restartCmd `cmd:"" help:"Open services' tunnels anew; their ports stay open."`
	Login   loginCmd   `cmd:"" help:"Go through the logins that services wait for, on this terminal."`
	Exec    execCmd    `cmd:"" help:"Run a command with the project's forwards up."`
	Env     envCmd     `cmd:"" help:"Print the project's variables."`
	Port    portCmd    `cmd:"" help:"Print a service's local port."`
	Logs    logsCmd    `cmd:"" help:"Print what the services' tunnels said."`
	Events  eventsCmd  `cmd:"" help:"Print what happened to the services."`
	Daemon  daemonCmd  `cmd:"" help:"Control the supervisor itself."`
	Conf    configCmd  `cmd:"" name:"config" help:"Look at the config."`
	Recipes recipesCmd `cmd:"" help:"Print services that go through Cloud SQL, AWS, IAP, Teleport or Azure, for your config."`
	Metrics metricsCmd `cmd:"" help:"Print the figures of the project's services for Prometheus."`
	Demo    demoCmd    `cmd:"" help:"Show it all on a project made for the purpose."`
	Ver     versionCmd `cmd:"" name:"version" help:"Print the version."`

	Supervise superviseCmd `cmd:"" hidden:"" help:"Be a project's supervisor."`
}

// app is what every command needs: where it was asked to act, and where its output goes. Results go to out,
// everything else to err.
type app struct {
	out, err *output.Writer
	config   string // -c
	dir      string // the directory to act in; empty if the current one cannot be told
	gone     string // the config of the project that -C names, whose directory is not there any more
	level    string // of the supervisor's log; empty: as it is, info for a new one

	place *client.Place // the project, once it was found
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
	if len(args) > 0 {
		switch args[0] {
		case "export":
			return prompt.Export(args[1:])
		case handoff.Arg:
			return handoff.Main()
		case client.DetachedArg:
			return output.Exit(stderr, client.Detach(args[1:]))
		}
	}
	var g grammar
	parser := kong.Must(&g,
		kong.Name("localport"),
		kong.Description("Port forwards that follow you: each project's own, up on cd, gone with the last shell out."),
		kong.UsageOnError(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
		kong.Writers(stdout, stderr),
		kong.DefaultEnvars("LOCALPORT"),
		kong.Vars{"version": version.Own()},
	)
	ctx, err := parser.Parse(args)
	if err != nil {
		return output.Exit(stderr, output.Usage(err))
	}
	a := &app{out: stdout, err: stderr, config: g.Config, level: g.LogLevel}
	if g.Verbose {
		a.level = "debug"
	}
	if err := a.enter(g.Dir); err != nil {
		return output.Exit(stderr, err)
	}
	began := time.Now()
	err = ctx.Run(a)
	if a.place != nil {
		err = here{a.place}.Explain(err, began)
	}
	return output.Exit(stderr, err)
}

// enter resolves -C. Without it a current directory that was deleted is not an error yet: not every command needs it. With
// it, neither is a directory that is gone and has been a project's that is still up.
func (a *app) enter(dir string) error {
	if dir == "" {
		a.dir, _ = os.Getwd()
		return nil
	}
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if config := knownBelow(dir); config != "" {
			a.gone = config
			return nil
		}
		return err
	case err != nil:
		return err
	case !info.IsDir():
		return &os.PathError{Op: "chdir", Path: dir, Err: errors.New("not a directory")}
	}
	a.dir, err = filepath.Abs(dir)
	if err != nil { // "." where the current directory was deleted
		a.dir = ""
		return nil
	}
	return nil
}
