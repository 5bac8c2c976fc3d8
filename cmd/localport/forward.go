package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/forwarder/ephemeral"
	"github.com/localport-sh/localport/forwarder/supervisor"
	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/draft"
	"github.com/localport-sh/localport/project/environ"
	"github.com/localport-sh/localport/project/paste"
)

type forwardCmd struct {
	Namespace  string   `short:"n" env:"-" help:"Kubernetes namespace; by default, that of the context."`
	Context    string   `env:"-" help:"Kubernetes context; by default, the current one."`
	Kubeconfig string   `env:"-" placeholder:"FILE" help:"Kubeconfig file."`
	Save       bool     `env:"-" help:"Also write the services into the project's .localport.toml, or a new one in the current directory."`
	Name       string   `env:"-" help:"The service's name; by default, that of its target."`
	Args       []string `arg:"" optional:"" passthrough:"" name:"forward" help:"TYPE/NAME [LOCAL:]REMOTE, the command line of kubectl port-forward or ssh, tcp HOST:PORT [LOCAL], or NAME URL."`
}

// Help says what can be forwarded, and how it ends.
func (forwardCmd) Help() string {
	return "No config and no approval is needed. As in a project, the port stays open while the server is down: clients wait, and are then connected. " +
		"Ctrl-C, SIGTERM and SIGHUP end it, and nothing is left behind. The addresses are printed on stdout, everything else on stderr; -v prints each client.\n\n" +
		"--save and --name NAME may stand anywhere, also after kubectl's or ssh's own arguments, but not after the words of a remote command or \"--\". " +
		"A target that the config has already is not saved a second time, unless you give it a name of its own.\n\n" +
		"  localport forward svc/postgres 5432 -n db --context staging\n" +
		"  localport forward deploy/api 8080:80 9090\n" +
		"  localport forward ssh -L 6379:10.0.0.5:6379 bastion\n" +
		"  localport forward tcp db.internal:5432 15432 --save\n\n" +
		"Exit codes: 0 ended by a signal; 1 a port is in use, or no service can be reached as asked; 2 wrong usage."
}

// forward is a project that exists as long as the command runs.
type forward struct {
	*app
	pasted    paste.Result
	isSaved   bool // the services are written into the project's config too
	isVerbose bool // each client is reported
	temporary *ephemeral.Project
	project   commandProject
	parsed    *project.Project
	isJoining bool // a supervisor may run, also if the signal to end comes before it has answered
	joined    *client.JoinedProject
	report    *forwardReport
	isAsked   map[string]bool // services whose login has been asked for since they were ready last
}

// Run starts the services in a project of their own, and reports what happens to them until a signal comes.
func (c forwardCmd) Run(a *app, command *kong.Context) error {
	words, own := c.words()
	if own.help {
		return command.PrintUsage(false)
	}
	const saveFlag = "--save"
	options := a.pasteOptions(command, saveFlag)
	options.Name = c.Name
	options.Ports.Substitute = substitutePort
	pasted, err := paste.Parse(words, options)
	if err != nil {
		return describePasteError(err)
	}
	for _, note := range pasted.Notes {
		output.Info(a.err, "%s", note)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends this process at once; the supervisor removes what is left
	f := &forward{
		app: a, pasted: pasted, isSaved: c.Save || slices.Contains(pasted.Flags, saveFlag), isVerbose: own.verbose || a.logLevel == "debug", isAsked: make(map[string]bool),
	}
	err = f.run(ctx)
	endInterruptedLine(ctx, a.err)
	return errors.Join(err, f.remove())
}

// pasteOptions returns the options of a command that reads a pasted command line, with those of its flags without a value that may stand anywhere.
func (a *app) pasteOptions(command *kong.Context, flags ...string) paste.Options {
	options := paste.Options{Flags: flags, Ports: &draft.LocalPorts{Privileged: canOpenPort(1)}, Dir: a.dir}
	options.Home, _ = os.UserHomeDir() // else paths are written in full
	anywhere := slices.Concat(flags, []string{"--name", "--namespace", "--context", "--kubeconfig"})
	for _, group := range command.Selected().AllFlags(true) {
		for _, flag := range group {
			if name := "--" + flag.Name; !slices.Contains(anywhere, name) {
				options.OtherFlags = append(options.OtherFlags, name)
			}
		}
	}
	return options
}

// ownFlags are the short flags of this program, and those that every command has, among the arguments, after the first of which kong parses none.
type ownFlags struct{ verbose, help bool }

// words returns the arguments for paste.Parse: the flags that kong has parsed follow the others. In the command lines of other programs, -v and
// --help are theirs.
func (c forwardCmd) words() (words []string, own ownFlags) {
	if len(c.Args) > 0 && c.Args[0] == "--" {
		c.Args = c.Args[1:]
	}
	isOthers := len(c.Args) > 0 && paste.IsProgram(c.Args[0])
	words = slices.DeleteFunc(slices.Clone(c.Args), func(word string) bool {
		flag := map[string]*bool{"-v": &own.verbose, "--verbose": &own.verbose, "-h": &own.help, "--help": &own.help}[word]
		if isOthers || flag == nil {
			return false
		}
		*flag = true
		return true
	})
	if len(words) == 0 {
		return words, own
	}
	for _, flag := range []struct{ name, value string }{{"--namespace", c.Namespace}, {"--context", c.Context}, {"--kubeconfig", c.Kubeconfig}} {
		if flag.value != "" {
			words = append(words, flag.name, flag.value)
		}
	}
	return words, own
}

func describePasteError(err error) error {
	pasteErr, ok := errors.AsType[*paste.Error](err)
	if !ok || pasteErr.Advice == "" {
		return output.Usage(err)
	}
	return output.WithExitCode(output.WithHint(err, pasteErr.Advice), output.ExitUsage)
}

// canOpenPort reports whether this user may listen on a port; also if another process does.
func canOpenPort(port uint16) bool {
	listener, err := net.Listen("tcp4", netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port).String())
	if err == nil {
		listener.Close()
	}
	return err == nil || errors.Is(err, unix.EADDRINUSE)
}

// privilegedOffset is what is added to a port below 1024 that this user may not open: 80 becomes 8080.
const privilegedOffset = 8000

func substitutePort(port int) int {
	for _, candidate := range []int{port + privilegedOffset, port + 10000} {
		listener, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", candidate))
		if err == nil {
			listener.Close()
			return candidate
		}
	}
	return 0
}

func (f *forward) run(ctx context.Context) error {
	if err := f.create(); err != nil {
		return err
	}
	if err := f.checkPorts(); err != nil {
		return err
	}
	if f.isSaved {
		if err := f.save(); err != nil {
			return err
		}
	}
	f.report = newForwardReport(f.out, f.err, f.parsed, f.isVerbose)
	for ctx.Err() == nil {
		if err := f.join(ctx); err != nil {
			return ignoreEnd(ctx, err)
		}
		if err := f.follow(ctx); err != nil {
			return ignoreEnd(ctx, err)
		}
	}
	return nil
}

// ignoreEnd returns err unless a signal has ended ctx: everything that was under way is interrupted then.
func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// create makes the project. Its services run in the environment of this shell as it is, with what the project has set around it.
func (f *forward) create() (err error) {
	if err := os.Unsetenv(environ.DiffVariable); err != nil {
		return err
	}
	config, dotEnv := forwardConfig(f.pasted)
	if f.temporary, err = ephemeral.Create(config, dotEnv); err != nil {
		return err
	}
	if f.project, err = f.openConfig(f.temporary.Config); err != nil {
		return err
	}
	files, err := project.ReadFiles(f.temporary.Config)
	if err != nil {
		return err
	}
	f.parsed, err = f.project.parseConfig(files)
	if invalid, ok := errors.AsType[*project.InvalidError](err); ok { // the user has not written that file
		return output.WithExitCode(errors.New(invalid.Diagnostics[0].Message), output.ExitInvalid)
	}
	return err
}

// checkPorts returns an error for the first local port that another process has.
func (f *forward) checkPorts() error {
	var ports []project.LocalPort // of the project around this directory
	if config, err := f.findConfig(); err == nil {
		if files, err := project.ReadFiles(config); err == nil {
			ports = files.LocalPorts()
		}
	}
	for _, svc := range f.parsed.Services {
		for _, address := range svc.ListenAddresses() {
			listener, err := net.Listen("tcp", address.String())
			if err == nil {
				listener.Close()
				continue
			}
			if !errors.Is(err, unix.EADDRINUSE) {
				continue // the relay decides
			}
			text := fmt.Sprintf("%s is already in use", address)
			if holder := supervisor.DescribePortHolder(address); holder != "" {
				text += " by " + holder
			}
			if at := slices.IndexFunc(ports, func(p project.LocalPort) bool { return p.Port == svc.LocalPort }); at >= 0 {
				text += fmt.Sprintf("; it is the port of service %q of this project", ports[at].Service)
			}
			return output.WithHint(errors.New(text), "stop it, or "+otherPortHint(svc))
		}
	}
	return nil
}

// otherPortHint says how another local port is written for a service.
func otherPortHint(svc project.Service) string {
	other := svc.LocalPort + 10000
	if other > 65535 {
		other = svc.LocalPort - 10000
	}
	var withPort func(port string) string
	auto := "0"
	settings := svc.Connection.Settings
	target := net.JoinHostPort(cmp.Or(settings.Text("remote_host"), "localhost"), svc.RemotePort)
	switch {
	case svc.Technology == "kubectl":
		auto, withPort = "", func(port string) string { return port + ":" + svc.RemotePort }
	case svc.Technology == "ssh" && settings.Bool("socks"):
		withPort = func(port string) string { return "-D " + port }
	case svc.Technology == "ssh":
		withPort = func(port string) string { return "-L " + port + ":" + target }
	default:
		auto, withPort = "auto", func(port string) string { return "tcp " + target + " " + port }
	}
	return fmt.Sprintf("choose another local port: %s; or let LocalPort choose a free one: %s", withPort(strconv.Itoa(other)), withPort(auto))
}

// join starts the supervisor, or joins the one that runs. Nothing is stopped as long as this process lives.
func (f *forward) join(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, client.CommandTimeout())
	defer cancel()
	lease := lockstate.Lease{Kind: lockstate.ExecLease, Process: lockstate.Self(), Dir: f.dir, Since: time.Now().UTC()}
	f.isJoining = true
	f.joined, err = f.project.Join(ctx, client.JoinOptions{Lease: lease, RestartStopped: true, Allowed: true})
	return err
}

var (
	errLoginNeeded = errors.New("a login is needed")
	errNotRunning  = errors.New("the supervisor has ended")
)

// follow reports what the supervisor says, until it has to be looked for again.
func (f *forward) follow(ctx context.Context) error {
	var last api.Status
	err := statusFollower{f.project, watchInterval}.follow(ctx, func(status api.Status) error {
		if status.State == api.StateStopped {
			return errNotRunning
		}
		last = f.newest(ctx, status)
		if len(f.servicesToLogIn(last)) > 0 {
			return errLoginNeeded
		}
		if err := f.report.startError(last); err != nil {
			return err
		}
		return f.report.show(last)
	})
	switch {
	case errors.Is(err, errLoginNeeded):
		return f.login(ctx, last)
	case errors.Is(err, errNotRunning), isUnreachableError(err):
		wait.Sleep(ctx, 100*time.Millisecond)
		return nil
	}
	return err
}

// newest returns the status with the current counters if each client is reported: a watch does not announce them.
func (f *forward) newest(ctx context.Context, status api.Status) api.Status {
	if !f.report.isVerbose || status.Supervisor == nil {
		return status
	}
	ctx, cancel := context.WithTimeout(ctx, client.PromptTimeout())
	defer cancel()
	if newest, err := (client.Client{Socket: status.Supervisor.Socket}).Status(ctx); err == nil {
		return newest
	}
	return status
}

// servicesToLogIn returns the services that need a login that can be asked for here.
func (f *forward) servicesToLogIn(status api.Status) []string {
	var names []string
	for _, svc := range status.Services {
		switch {
		case svc.IsReady():
			f.isAsked[svc.Name] = false
		case svc.State == forwarder.NeedsAttention && !f.isAsked[svc.Name] && f.hasLogin(svc.Name) && canAsk():
			names = append(names, svc.Name)
		}
	}
	return names
}

// hasLogin reports whether there is something to run or to ask for a service.
func (f *forward) hasLogin(name string) bool {
	svc, ok := f.parsed.FindService(name)
	if !ok {
		return false
	}
	login := supervisor.Login(svc, f.parsed.Root, os.Environ())
	return login.UsesAskSocket || login.Run != nil && !login.HasNoHelper
}

// canAsk reports whether this process may read from its terminal: in the background it would be stopped.
func canAsk() bool {
	terminal, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer terminal.Close()
	group, err := unix.IoctlGetInt(int(terminal.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// login runs the logins of the services that need one, in this terminal.
func (f *forward) login(ctx context.Context, status api.Status) error {
	names := f.servicesToLogIn(status)
	for _, group := range groupLogins(f.parsed, names, pendingServices(status)) {
		for _, name := range group.names {
			f.isAsked[name] = true
		}
		err := group.run(ctx, f.app, f.project, &f.joined.Client, status.Supervisor)
		switch {
		case err == nil:
		case f.report.wasAnyReady(): // the others go on
			output.Info(f.err, "%s", output.JoinLines(err.Error()))
		default:
			return err
		}
	}
	for _, name := range names {
		f.isAsked[name] = true
	}
	f.report.forgetError(names)
	return nil
}

// remove ends the supervisor and the keeper, and removes the project.
func (f *forward) remove() error {
	if f.temporary == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), client.CommandTimeout())
	defer cancel()
	if f.isJoining {
		if err := f.project.shutDownAndWait(ctx, f.err); err != nil {
			return err
		}
	}
	return f.temporary.Remove(ctx)
}

// forwardConfig returns the texts of the config and of .env.
func forwardConfig(pasted paste.Result) (config, dotEnv string) {
	var secrets strings.Builder
	for _, secret := range pasted.Secrets {
		fmt.Fprintf(&secrets, "%s='%s'\n", secret.Name, strings.ReplaceAll(secret.Value, "'", `'"'"'`))
	}
	// After kill -9 of this process nobody would come back.
	return "linger = \"0.2s\"\n\n" + draft.Config{Services: pasted.Services}.Tables(), secrets.String()
}
