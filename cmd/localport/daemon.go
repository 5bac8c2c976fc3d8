package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/cmd/localport/internal/version"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project/trust"
)

// daemonCmd groups the commands that control the supervisor itself.
type daemonCmd struct {
	Start   daemonStartCmd   `cmd:"" help:"Start the supervisor and keep it running without a shell."`
	Stop    daemonStopCmd    `cmd:"" help:"Stop the supervisor, even if shells use the project."`
	Restart daemonRestartCmd `cmd:"" help:"Replace the supervisor with a new one; all ports stay open."`
	Reload  daemonReloadCmd  `cmd:"" help:"Reload the config and print the result."`
	Status  daemonStatusCmd  `cmd:"" help:"Show the supervisor's pid, version, uptime, socket, log, memory, and what uses it."`
}

type daemonStartCmd struct{}

// Help is the text below the usage.
func (daemonStartCmd) Help() string {
	return `It returns when the ports are open, and does not wait for the services to become healthy.

Example: localport daemon start

Exit codes: 0 running; 1 not started; 2 wrong usage; 3 the config is invalid; 4 it is not allowed.`
}

// Run takes a lease that no shell holds. It returns when every port accepts connections.
func (daemonStartCmd) Run(ctx context.Context, a *app, p commandProject) error {
	verdict, _, err := p.AskTrust()
	if err != nil {
		return err
	}
	j, err := p.Join(ctx, client.JoinOptions{
		RestartStopped: true, Allowed: verdict == trust.Allowed, AnyNetwork: true,
		Lease: lockstate.Lease{Kind: lockstate.StartLease, Since: time.Now().UTC()},
	})
	if err != nil {
		return err
	}
	outcome := "already running"
	if j.Started {
		outcome = "started"
	}
	return a.printDaemon(ctx, j.Client, outcome)
}

// printDaemon prints one line about the running supervisor.
func (a *app) printDaemon(ctx context.Context, client client.Client, outcome string) error {
	status, err := client.Status(ctx)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.out, "%s: pid %d, %s\n", outcome, status.Supervisor.PID, output.EscapeLine(status.Config))
	return err
}

type daemonStopCmd struct{}

// Help is the text below the usage.
func (daemonStopCmd) Help() string {
	return `Same as "localport stop" without names.

Example: localport daemon stop

Exit codes: 0 stopped, also if it was not running; 1 it could not be stopped; 2 wrong usage.`
}

// Run stops the supervisor. Prompts do not start it again.
func (daemonStopCmd) Run(ctx context.Context, a *app, p commandProject) error {
	return p.shutDown(ctx, a.err)
}

type daemonRestartCmd struct{}

// Help is the text below the usage.
func (daemonRestartCmd) Help() string {
	return `The new supervisor has the environment of this shell. If none is running, one is started.

Example: localport daemon restart

Exit codes: 0 restarted; 1 not restarted; 2 wrong usage; 3 the config is invalid; 4 it is not allowed.`
}

// replaceTimeout is how long a new supervisor may take to be ready, and a little more. A keeper that is busy starting one is not
// terminated sooner: it holds the clients.
const replaceTimeout = 30 * time.Second

// Run hands leases, ports and waiting clients over to a new supervisor. If none is running, one is started; one that does not answer is
// stopped first.
func (daemonRestartCmd) Run(ctx context.Context, a *app, p commandProject) error {
	if err := p.RequireControl(ctx); err != nil {
		return err
	}
	running, status, err := p.FindSupervisor(ctx)
	if err == nil && running != nil && p.CheckNetwork() != nil {
		return p.restartHere(ctx, a)
	}
	if err == nil && running == nil {
		return daemonStartCmd{}.Run(ctx, a, p)
	}
	if err == nil {
		err = p.replaceAndPrint(a, running, status)
	}
	if isNoAnswerError(err) {
		return p.restartUnresponsive(a, err)
	}
	return err
}

// replaceAndPrint has a supervisor replaced by this program with this shell's environment, and prints the new one.
func (p commandProject) replaceAndPrint(a *app, running *client.Client, before api.Status) error {
	if p.Dir.ReadOrZero().Down { // a "stop" that was interrupted has recorded that: the new supervisor would end
		ctx, cancel := context.WithTimeout(context.Background(), client.CommandTimeout())
		defer cancel()
		if _, err := p.Dir.Update(ctx, func(tx *lockstate.Tx) error { tx.Down = false; return nil }); err != nil {
			return fmt.Errorf("restart: %w", err)
		}
	}
	next, err := p.replaceSupervisor(a.err, running, before)
	if err != nil {
		return fmt.Errorf("restart: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), client.CommandTimeout())
	defer cancel()
	return a.printDaemon(ctx, *next, "restarted")
}

// replaceSupervisor has a supervisor replaced and returns a client of the new one.
func (p commandProject) replaceSupervisor(w *output.Writer, running *client.Client, before api.Status) (*client.Client, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), replaceTimeout)
	defer cancel()
	report := newWaitReport(w, replaceTimeout)
	stopReport := report.start()
	report.update([]waitReason{{text: "the new supervisor is starting"}})
	err = running.Replace(ctx, api.ReplaceRequest{Exe: exe, Version: version.Own(), IsRequested: true, Environment: client.ShellEnvironment()})
	summary := ""
	if err == nil {
		summary = "the supervisor was replaced"
	}
	stopReport(summary)
	if !isNoAnswerError(err) {
		return running, err
	}
	// It may have been replaced, and be stuck itself.
	ctx, cancel = context.WithTimeout(context.Background(), client.CommandTimeout())
	defer cancel()
	next, status, findErr := p.FindSupervisor(ctx)
	switch {
	case findErr != nil:
		return nil, findErr
	case next != nil && before.Supervisor != nil && status.Supervisor.Run != before.Supervisor.Run:
		return next, nil
	}
	return nil, fmt.Errorf("the supervisor is busy: %w", errors.New(err.Error()))
}

// restartUnresponsive stops a supervisor that does not answer. A working keeper starts the next one, which takes over the ports; without
// one, a supervisor is started as for any command.
func (p commandProject) restartUnresponsive(a *app, cause error) error {
	processes := p.Processes()
	if len(processes) == 0 {
		return cause
	}
	if last := processes[len(processes)-1]; last.Role == client.SupervisorRole {
		if err := terminateProcess(a.err, last); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), replaceTimeout)
	defer cancel()
	running, status, err := p.FindSupervisor(ctx)
	if running != nil { // started by the keeper, from the program and with the environment of the one that was stopped
		return p.replaceAndPrint(a, running, status)
	}
	if isNoAnswerError(err) {
		err = p.endUnresponsive(a.err, err)
	} else if err == nil {
		err = p.removeLeftovers()
	}
	if err != nil {
		return err
	}
	ctx, cancel = context.WithTimeout(context.Background(), client.CommandTimeout())
	defer cancel()
	return p.restartHere(ctx, a)
}

// restartHere starts a supervisor, also if one runs in another network namespace, and prints it. Without a lease it would soon end.
func (p commandProject) restartHere(ctx context.Context, a *app) error {
	verdict, _, err := p.AskTrust()
	if err != nil {
		return err
	}
	joined, err := p.Join(ctx, client.JoinOptions{RestartStopped: true, Allowed: verdict == trust.Allowed, AnyNetwork: true, OnUpdate: func(tx *lockstate.Tx, _ bool) {
		if len(tx.Leases) == 0 {
			tx.AddLease(lockstate.Lease{Kind: lockstate.StartLease, Since: time.Now().UTC()})
		}
	}})
	if err != nil {
		return err
	}
	if !joined.Started { // a prompt has started it meanwhile, with the environment of its shell
		return p.replaceAndPrint(a, &joined.Client, api.Status{})
	}
	return a.printDaemon(ctx, joined.Client, "restarted")
}

type daemonReloadCmd struct{}

// Help is the text below the usage.
func (daemonReloadCmd) Help() string {
	return `A config that is rejected changes nothing: the previous one stays in use.

Example: localport daemon reload

Exit codes: 0 reloaded; 1 rejected, or the project is not running; 2 wrong usage; 3 the config is invalid; 4 it is not allowed.`
}

// Run reloads the config, and returns when the change has been applied or rejected.
func (daemonReloadCmd) Run(ctx context.Context, a *app, p commandProject) error {
	running, _, err := p.findRunning(ctx)
	if err != nil {
		return err
	}
	if _, err := p.parseAllowed(); err != nil {
		return err // it lists every mistake with its line, which the supervisor does not report
	}
	reload, err := running.Reload(ctx)
	if err != nil {
		return fmt.Errorf("reload: %w", err)
	}
	_, err = fmt.Fprintln(a.out, output.JoinLines(reload.Summary()))
	return err
}

// findRunning returns a client of the supervisor and its status, or an error if none is running.
func (p commandProject) findRunning(ctx context.Context) (*client.Client, api.Status, error) {
	client, status, err := p.FindSupervisor(ctx)
	if err == nil && client == nil {
		err = output.WithHint(errors.New("the project is not running"), "localport start")
	}
	return client, status, err
}

type daemonStatusCmd struct{ outputFormat }

// Help is the text below the usage.
func (daemonStatusCmd) Help() string {
	return `Example: localport daemon status --json

Exit codes: 0 running; 1 not running, or it does not answer; 2 wrong usage.`
}

// Run shows the supervisor. If none is running, the exit code is 1, for scripts.
func (c daemonStatusCmd) Run(ctx context.Context, a *app, p commandProject) error {
	_, status, err := p.findRunning(ctx)
	if err != nil {
		return err
	}
	if c.isJSON() {
		return output.JSON(a.out, struct {
			*api.SupervisorStatus
			Config string      `json:"config"`
			Leases []api.Lease `json:"leases"`
		}{status.Supervisor, output.JSONText(status.Config), status.Leases})
	}
	printSupervisor(a.out, status)
	return nil
}

func printSupervisor(w io.Writer, status api.Status) {
	s := status.Supervisor
	row := func(name string, value any) { fmt.Fprintf(w, "%-9s %s\n", name, output.EscapeLine(fmt.Sprint(value))) }
	row("config", status.Config)
	row("pid", s.PID)
	row("run", s.Run)
	row("version", s.Version)
	row("uptime", formatAge(s.Since))
	row("socket", s.Socket)
	row("log", s.Log)
	if s.Memory > 0 {
		row("memory", fmt.Sprintf("%.1f MB", float64(s.Memory)/1e6))
	}
	if s.Keeper > 0 {
		row("keeper", fmt.Sprintf("pid %d", s.Keeper))
	}
	row("used by", strings.TrimPrefix(describeLeases(status.Leases), "used by "))
	for _, lease := range status.Leases {
		if lease.Kind == api.StartLease {
			fmt.Fprintf(w, "  %-5s for %s, until \"localport stop\"\n", lease.Kind, formatAge(lease.Since))
			continue
		}
		fmt.Fprintf(w, "  %-5s pid %d for %s in %s\n", lease.Kind, lease.PID, formatAge(lease.Since), output.EscapeLine(lease.Dir))
	}
}
