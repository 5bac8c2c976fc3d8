package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/trust"
)

// startTimeout is how long start and restart wait for services to become ready.
const startTimeout = 30 * time.Second

// selection are the arguments and flags that select services.
type selection struct {
	Services []string `arg:"" optional:"" name:"service" help:"Services; if none is given, all."`
	Tag      []string `short:"g" aliases:"group" placeholder:"TAG" help:"Services with this tag."`
	All      bool     `short:"a" env:"-" help:"All services."`
}

func (s selection) isWholeProject() bool { return s.All || len(s.Services) == 0 && len(s.Tag) == 0 }

type startCmd struct {
	selection
	Detach bool `hidden:"" short:"d" env:"-" help:"Start in the background, which is the default."`
	Wait   bool `hidden:"" xor:"wait" env:"-" help:"Wait, which is the default."`
	NoWait bool `xor:"wait" help:"Return when the ports are open, without waiting for the services to become healthy."`
}

// Help is the text below the usage.
func (startCmd) Help() string {
	return `Waits at most 30 seconds until the services are healthy. They run until "localport stop".

  localport start
  localport start db cache

Exit codes: 0 healthy, or with --no-wait: the ports are open; 1 a service is unknown or not healthy; 2 wrong usage; 3 the config is invalid; 4 it is not allowed.`
}

// Run records a start lease, which needs no process, and starts the services.
func (c startCmd) Run(ctx context.Context, a *app, p commandProject) error {
	return p.startServices(ctx, a, api.ActionStart, c.selection, !c.NoWait)
}

type restartCmd struct {
	selection
	Wait   bool `hidden:"" xor:"wait" env:"-" help:"Wait, which is the default."`
	NoWait bool `xor:"wait" help:"Return at once, without waiting for the services to become healthy."`
}

// Help is the text below the usage.
func (restartCmd) Help() string {
	return `Waits at most 30 seconds until the services are healthy. A stopped project is started.

Example: localport restart db

Exit codes: 0 healthy, or with --no-wait: reconnecting; 1 a service is unknown or not healthy; 2 wrong usage; 3 the config is invalid; 4 it is not allowed.`
}

// Run reconnects the services; in a stopped project it starts them.
func (c restartCmd) Run(ctx context.Context, a *app, p commandProject) error {
	return p.startServices(ctx, a, api.ActionRestart, c.selection, !c.NoWait)
}

func (p commandProject) startServices(ctx context.Context, a *app, action api.Action, sel selection, wait bool) error {
	if err := p.RequireControl(ctx); err != nil {
		return err
	}
	verdict, files, err := p.AskTrust()
	if err != nil {
		return err
	}
	services, names, err := p.resolveNames(ctx, sel, files, verdict)
	if err != nil {
		return err
	}
	j, err := p.joinAndReport(ctx, a.err, startOptions(names, sel, verdict, action))
	if err != nil {
		return err
	}
	if verdict == trust.Allowed {
		if err := j.ReloadIfChanged(ctx, files); err != nil {
			return err
		}
	}
	if !j.Started || action == api.ActionStart {
		request := api.ActionRequest{Action: action, Names: names, Spawned: j.Started}
		if !j.Started { // it has this shell's environment otherwise
			request.Environment = client.ShellEnvironment()
		}
		affected, err := j.Act(ctx, request)
		if err != nil {
			return err
		}
		names = affected
	}
	a.warnVariables(j.View)
	if !wait {
		return nil
	}
	awaited := awaitedServices(services, names, sel.Services)
	status, err := p.waitAndPrint(context.Background(), a, j.Client, names, awaited)
	if err == nil {
		reportNotAwaited(a.err, status, names, awaited)
	}
	return err
}

// startOptions returns how start and restart join the project: with a start lease, which restart takes only if no supervisor runs. Otherwise
// restart has a lease for as long as it waits for the services. A stopped project starts with the selected services only.
func startOptions(names []string, sel selection, verdict trust.Verdict, action api.Action) client.JoinOptions {
	options := client.JoinOptions{RestartStopped: true, Allowed: verdict == trust.Allowed, AnyNetwork: true}
	options.Lease = lockstate.Lease{Kind: lockstate.ExecLease, Process: lockstate.Self(), Since: time.Now().UTC()}
	lease := lockstate.Lease{Kind: lockstate.StartLease, Since: time.Now().UTC()}
	if action == api.ActionStart {
		options.Lease = lease
	}
	hasStarted := false
	options.OnUpdate = func(tx *lockstate.Tx, isAlive bool) {
		if hasStarted = hasStarted || !isAlive; hasStarted { // the start lease is enough
			tx.RemoveLease(lockstate.ExecLease, lockstate.Self())
		}
		if isAlive {
			return
		}
		tx.AddLease(lease)
		tx.Stopped, tx.Started, tx.Only = nil, nil, nil
		if !sel.isWholeProject() {
			tx.Only = names
		}
	}
	return options
}

type stopCmd struct{ selection }

// Help is the text below the usage.
func (stopCmd) Help() string {
	return `Services that depend on a stopped one are stopped too.

  localport stop
  localport stop db

Exit codes: 0 stopped, without names also if the project is not running; 1 it could not be done; 2 wrong usage.`
}

// Run stops services for every shell, or the whole project.
func (c stopCmd) Run(ctx context.Context, a *app, p commandProject) error {
	if c.isWholeProject() {
		return p.shutDown(ctx, a.err)
	}
	if err := p.RequireControl(ctx); err != nil {
		return err
	}
	client, status, err := p.FindSupervisor(ctx)
	if err != nil {
		return err
	}
	if client == nil {
		return p.explainNotRunning(c.selection)
	}
	names, err := selectServices(status.Services, c.Services, c.Tag)
	if err != nil {
		return err
	}
	affected, err := client.Act(ctx, api.ActionRequest{Action: api.ActionStop, Names: names})
	if err != nil {
		return err
	}
	also := slices.DeleteFunc(affected, func(n string) bool { return slices.Contains(names, n) })
	if len(also) > 0 {
		output.Info(a.err, "also stopped, because they depend on it: %s", strings.Join(also, ", "))
	}
	return nil
}

// explainNotRunning returns the error of a command that cannot stop the selected services of a project that is not running: that one of them does not
// exist, if the config says so.
func (p commandProject) explainNotRunning(sel selection) error {
	if _, files, err := p.AskTrust(); err == nil {
		if parsed, err := p.parseConfig(files); err == nil {
			if _, err := selectServices(declaredServices(parsed), sel.Services, sel.Tag); err != nil {
				return err
			}
		}
	}
	return output.WithHint(errors.New("the project is not running"))
}

// resolveNames returns all services and the names of the selected ones. It selects from the config or, while the config is not allowed,
// from what the supervisor runs.
func (p commandProject) resolveNames(
	ctx context.Context, sel selection, files *project.Files, verdict trust.Verdict,
) (services []api.ServiceStatus, names []string, err error) {
	running, status, err := p.FindSupervisor(ctx)
	if err != nil {
		return nil, nil, err
	}
	services = status.Services
	switch {
	case verdict == trust.Allowed:
		parsed, err := p.parseConfig(files)
		if err != nil {
			return nil, nil, err
		}
		services = declaredServices(parsed)
	case running == nil:
		return nil, nil, &client.NotAllowedError{Config: p.Config}
	}
	names, err = selectServices(services, sel.Services, sel.Tag)
	return services, names, err
}

// declaredServices returns the status that the services of a config have before they are started.
func declaredServices(parsed *project.Project) []api.ServiceStatus {
	services := make([]api.ServiceStatus, 0, len(parsed.Services))
	for _, svc := range parsed.Services {
		services = append(services, api.ConfiguredStatus(svc))
	}
	return services
}

// selectServices returns the names of the services with one of these names or tags; without any, of all that are enabled. A name or tag
// that no service has is an error.
func selectServices(services []api.ServiceStatus, names, tags []string) ([]string, error) {
	var selected, known, knownTags []string
	for _, svc := range services {
		known = append(known, svc.Name)
		knownTags = append(knownTags, svc.Tags...)
		hasTag := slices.ContainsFunc(tags, func(t string) bool { return slices.Contains(svc.Tags, t) })
		isSelectedByDefault := len(names) == 0 && len(tags) == 0 && svc.Enabled
		if isSelectedByDefault || hasTag || slices.Contains(names, svc.Name) {
			selected = append(selected, svc.Name)
		}
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, unknownNameError("service", name, known)
		}
	}
	for _, tag := range tags {
		if !slices.Contains(knownTags, tag) {
			return nil, unknownNameError("tag", tag, knownTags)
		}
	}
	return selected, nil
}

// awaitedServices returns those of the started services that a command waits for: the ones that it names, those that are not optional,
// and what these depend on.
func awaitedServices(services []api.ServiceStatus, started, named []string) []string {
	var awaited []string
	var add func(name string)
	add = func(name string) {
		i := slices.IndexFunc(services, func(svc api.ServiceStatus) bool { return svc.Name == name })
		if slices.Contains(awaited, name) || i < 0 {
			return
		}
		awaited = append(awaited, name)
		for _, dependency := range services[i].DependsOn {
			add(dependency)
		}
	}
	for _, svc := range services {
		if slices.Contains(started, svc.Name) && (!svc.Optional || slices.Contains(named, svc.Name)) {
			add(svc.Name)
		}
	}
	return awaited
}

// reportNotAwaited names, on one line, the started services that are not ready and were not waited for.
func reportNotAwaited(w io.Writer, status api.Status, started, awaited []string) {
	var unready []string
	for _, svc := range status.Services {
		if slices.Contains(started, svc.Name) && !slices.Contains(awaited, svc.Name) && !svc.IsReady() {
			unready = append(unready, fmt.Sprintf("%s (%s)", svc.Name, strings.ReplaceAll(string(svc.EffectiveState()), "_", " ")))
		}
	}
	if len(unready) > 0 {
		output.Info(w, "not waiting for optional %s: %s", plural("service", len(unready)), strings.Join(unready, ", "))
	}
}

// unknownNameError returns an error with a hint: the most similar known name or, if none is similar, all known names.
func unknownNameError(kind, name string, known []string) error {
	err := fmt.Errorf("unknown %s %q", kind, name)
	hint := project.HintKnown(kind, name, known)
	if len(known) == 0 && kind == "tag" {
		hint = fmt.Sprintf("no service has tags; add tags = [%q] to the ones that you mean", name)
	}
	if hint == "" {
		return err
	}
	return output.WithHint(err, hint)
}

// waitAndPrint waits until the awaited services are settled and prints the table of the shown ones. It is an error if an awaited one is
// not ready.
func (p commandProject) waitAndPrint(ctx context.Context, a *app, client client.Client, shown, awaited []string) (api.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	status, err := p.waitReady(ctx, a.err, client, awaited, startTimeout)
	if len(status.Services) > 0 {
		status.Services = slices.DeleteFunc(status.Services, func(s api.ServiceStatus) bool {
			return !slices.Contains(shown, s.Name)
		})
		if printErr := a.printServices(status.Services); printErr != nil {
			return status, printErr
		}
	}
	return status, err
}

// printServices prints a table of services. On a terminal, their errors follow.
func (a *app) printServices(services []api.ServiceStatus) error {
	columns, _ := a.out.Size()
	return a.out.PrintLines(tableLines(services, columns))
}

// errInterrupted is what a command says when a signal has ended it before its result.
var errInterrupted = errors.New("interrupted")

// waitReady returns when the services are ready. Its error names those that are not: as soon as one has failed or needs attention, or at the
// deadline of ctx; errInterrupted if ctx was canceled. A service that is tried again by itself is waited for, and w says so.
func (p commandProject) waitReady(ctx context.Context, w *output.Writer, client client.Client, names []string, limit time.Duration) (api.Status, error) {
	report := newWaitReport(w, limit)
	stopReport := report.start()
	summary := ""
	defer func() { stopReport(summary) }()
	status, err := p.waitSettled(ctx, client, names, func(status api.Status) { report.update(waitReasons(status, names)) })
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return status, errInterrupted
	case err != nil && (ctx.Err() == nil || status.Config == "" || isNoAnswerError(err)):
		return status, err
	}
	timedOut := err != nil
	var problems []error
	var hints hintList
	for _, svc := range status.Services {
		if !slices.Contains(names, svc.Name) || svc.IsReady() || !timedOut && !svc.IsSettled() {
			continue // the wait ended because of another service
		}
		problems = append(problems, notReadyError(svc, timedOut, limit))
		hints.add(svc.Name, svc.Hint)
	}
	if problems == nil {
		summary = joinNames(names) + " ready"
		return status, nil
	}
	return status, output.WithHint(errors.Join(problems...), hints.lines(len(problems))...)
}

// hintList has the hints of services that are not ready, each once, in the order in which they were added.
type hintList []struct {
	text     string
	services []string
}

func (l *hintList) add(service, text string) {
	if text == "" {
		return
	}
	for i := range *l {
		if (*l)[i].text == text {
			(*l)[i].services = append((*l)[i].services, service)
			return
		}
	}
	*l = append(*l, struct {
		text     string
		services []string
	}{text, []string{service}})
}

// lines returns the hints. If several services have problems, each hint names those that it is for, unless it is for all of them.
func (l *hintList) lines(problems int) []string {
	lines := make([]string, 0, len(*l))
	for _, hint := range *l {
		if len(hint.services) == problems {
			lines = append(lines, hint.text)
			continue
		}
		lines = append(lines, strings.Join(hint.services, ", ")+": "+hint.text)
	}
	return lines
}

// waitSettled returns the first status in which each of the services is ready, or one is in a state that only a person can change. See watchUntil.
func (p commandProject) waitSettled(ctx context.Context, running client.Client, names []string, onStatus func(api.Status)) (api.Status, error) {
	return p.watchUntil(ctx, running, func(s api.Status) bool { return areSettled(s, names) }, onStatus)
}

// watchUntil returns the first status for which isDone returns true. When ctx ends first, it returns the last status that it received and the error of
// ctx. If the supervisor ends meanwhile, it continues with the one that its keeper or another command has started. onStatus is called with each status.
func (p commandProject) watchUntil(ctx context.Context, running client.Client, isDone func(api.Status) bool, onStatus func(api.Status)) (status api.Status, err error) {
	startTime := time.Now()
	for {
		err := running.Watch(ctx, func(s api.Status) bool {
			status = s
			onStatus(s)
			return !isDone(s)
		})
		if client.IsUnknownRequest(err) || errors.Is(err, api.ErrTooManyWatchers) {
			err = pollUntil(ctx, running, isDone, func(s api.Status) {
				status = s
				onStatus(s)
			})
		}
		switch {
		case err == nil:
			return status, nil
		case ctx.Err() != nil && status.Config == "": // not even the first snapshot arrived
			return status, p.explainNoAnswer(err, startTime)
		case ctx.Err() != nil:
			return status, ctx.Err()
		case !isUnreachableError(err):
			return status, err
		}
		next, _, err := p.FindSupervisor(ctx)
		if err == nil && next == nil {
			err = errors.New("the supervisor has exited")
		}
		if err != nil {
			return status, err
		}
		running = *next
	}
}

// pollInterval is how often a supervisor that has too many watchers, or is too old to be watched, is asked for its status.
const pollInterval = 200 * time.Millisecond

// pollUntil asks for the status until isDone returns true for one, and calls onStatus with each.
func pollUntil(ctx context.Context, running client.Client, isDone func(api.Status) bool, onStatus func(api.Status)) error {
	for {
		status, err := running.Status(ctx)
		if err != nil {
			return err
		}
		onStatus(status)
		if isDone(status) {
			return nil
		}
		if !wait.Sleep(ctx, pollInterval) {
			return ctx.Err()
		}
	}
}

// areSettled reports whether it is useless to wait longer: each of the services that the project still has is settled, or one of them has
// failed or needs attention.
func areSettled(status api.Status, names []string) bool {
	areAllSettled := true
	for _, svc := range status.Services {
		if !slices.Contains(names, svc.Name) {
			continue
		}
		if state := svc.EffectiveState(); state == forwarder.Failed || state == forwarder.NeedsAttention {
			return true
		}
		areAllSettled = areAllSettled && svc.IsSettled()
	}
	return areAllSettled
}

// notReadyError describes a service that is not ready, with its last error. If timedOut is set, limit is how long the command waited for
// it.
func notReadyError(svc api.ServiceStatus, timedOut bool, limit time.Duration) error {
	text := fmt.Sprintf("service %q %s", svc.Name, output.DescribeState(svc.EffectiveState()))
	if timedOut && !svc.IsSettled() {
		text = fmt.Sprintf("service %q is still %s after %v", svc.Name, svc.EffectiveState(), limit)
	}
	if svc.Shared != nil {
		text += " in the project " + output.EscapeLine(svc.Shared.Project) + ", which shares it"
	}
	if svc.LastError != "" {
		text += ": " + output.JoinLines(svc.LastError)
	}
	if svc.State != forwarder.Stopped {
		text += " (log: " + svc.Log + ")"
	}
	return errors.New(text)
}
