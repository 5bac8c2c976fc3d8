package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/localport-sh/localport/cmd/localport/internal/envformat"
	"github.com/localport-sh/localport/cmd/localport/internal/leaseholder"
	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/bridge"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/environ"
)

type envCmd struct {
	Format string `enum:"sh,fish,json,dotenv,github,docker" default:"sh" help:"Output format: ${enum}."`
	JSON   bool   `help:"Same as --format=json."`
	Lease  bool   `env:"-" help:"Start the project, and keep it running until the process that runs this command ends: the agent, editor or shell."`
}

// Help is the text below the usage.
func (envCmd) Help() string {
	return `Of a stopped project, the ports that it would use are printed. A variable that cannot be set is left out.

  localport env
  localport env --format github >> "$GITHUB_ENV"

Exit codes: 0 printed; 1 not printed, or a service has no variables; 2 wrong usage; 3 the config is invalid, or a variable that [env] refers to is not set; 4 the config is not allowed.`
}

// Run prints the project's variables. Without --lease it starts nothing: of a stopped project it prints the ports that it would use.
func (c envCmd) Run(ctx context.Context, a *app) error {
	if c.Lease {
		return c.printLeased(ctx, a, leaseholder.Find, false)
	}
	p, err := a.findProject()
	if err != nil {
		return err
	}
	view, omitted, err := p.projectView(ctx, a)
	if err != nil {
		return err
	}
	return c.print(a, view, omitted)
}

// print prints the variables of a view. Its error is that of the services that have none.
func (c envCmd) print(a *app, view api.ProjectView, omitted []error) error {
	if c.JSON {
		c.Format = "json"
	}
	var unreachable []string
	if c.Format == "docker" {
		var missing []error
		view, unreachable, missing = containerView(view)
		omitted = append(omitted, missing...)
	}
	a.printWarnings(project.EnvAdvice(view.Env))
	pairs, err := client.Variables(view, environ.Undo(environ.Parse(os.Environ())))
	if err != nil {
		omitted = append(omitted, err)
	}
	text, unrepresented, err := envformat.Format(c.Format, pairs)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprint(a.out.Data(), text); err != nil {
		return err
	}
	if len(unreachable) > 0 {
		output.Warn(a.err, fmt.Sprintf("a container reaches %s only with --network host: for an address on docker's or podman's bridge, write bridge = \"auto\" in %s, or in [defaults]",
			joinWords(unreachable), joinWords(serviceTables(unreachable))))
	}
	for _, v := range unrepresented {
		omitted = append(omitted, fmt.Errorf("no line for %s: %s, which the format %s cannot express", v.Name, v.Reason, c.Format))
	}
	return errors.Join(omitted...)
}

// warnVariables prints a warning for each entry of [env] that prompts and "env" cannot set in this shell, or whose value is probably not what is meant.
func (a *app) warnVariables(view api.ProjectView) {
	_, err := client.Variables(view, environ.Undo(environ.Parse(os.Environ())))
	if invalid, ok := errors.AsType[*project.InvalidError](err); ok {
		a.printWarnings(invalid.Diagnostics)
	}
	a.printWarnings(project.EnvAdvice(view.Env))
}

// containerView returns the view with the addresses that containers connect to. unreachable are the services that listen on this machine's
// loopback alone, which only containers with --network host reach. missing has an error for each service that lacks the address that the config
// asks for: it has no variables.
func containerView(view api.ProjectView) (_ api.ProjectView, unreachable []string, missing []error) {
	view.Services = slices.Clone(view.Services)
	for i := range view.Services {
		svc := &view.Services[i]
		switch {
		case !svc.Held:
		case svc.Bridge == nil:
			unreachable = append(unreachable, svc.Name)
		case svc.Bridge.Address == "":
			svc.Held = false
			err := fmt.Errorf("no variables for service %q, which has no address for containers: %s", svc.Name, svc.Bridge.Reason)
			missing = append(missing, output.WithHint(err, svc.Bridge.Hint))
		default:
			if addr, err := netip.ParseAddrPort(svc.Bridge.Address); err == nil {
				svc.Host, svc.Port = addr.Addr().String(), int(addr.Port())
			}
		}
	}
	return view, unreachable, missing
}

// serviceTables are the headers of services' tables in the config.
func serviceTables(names []string) (tables []string) {
	for _, name := range names {
		tables = append(tables, "[services."+name+"]")
	}
	return tables
}

// joinWords joins words for a sentence: "a, b and c".
func joinWords(words []string) string {
	last := len(words) - 1
	if last < 1 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:last], ", ") + " and " + words[last]
}

// projectView returns the supervisor's view of the services or, if no supervisor is running, what the config declares. omitted has the
// errors of omittedServices.
func (p commandProject) projectView(ctx context.Context, a *app) (view api.ProjectView, omitted []error, err error) {
	running, status, err := p.FindSupervisor(ctx)
	if sandbox, ok := errors.AsType[*client.SandboxError](err); ok && p.CheckNetwork() == nil && sandbox.Recorded != nil && sandbox.Recorded.Services != nil {
		output.Warn(a.err, p.recordedStatus(sandbox, sandbox.Recorded).Warnings[0])
		view, omitted = p.recordedView(sandbox)
		return view, omitted, nil
	}
	if err != nil {
		return view, nil, err
	}
	if running != nil {
		if err := p.CheckNetwork(); err != nil {
			return view, nil, err
		}
		view, err = running.Join(ctx, p.NewJoinRequest())
		return view, omittedServices(status), err
	}
	parsed, err := p.parseAllowed()
	if err != nil {
		return view, nil, err
	}
	view, omitted = plannedView(parsed)
	return view, omitted, nil
}

// recordedView returns what a supervisor that cannot be asked from here has recorded. omitted has an error for what the record does not have: the
// variables of [env], and the services without a port.
func (p commandProject) recordedView(cause *client.SandboxError) (view api.ProjectView, omitted []error) {
	status := p.recordedStatus(cause, cause.Recorded)
	for _, svc := range status.Services {
		addr, err := netip.ParseAddrPort(svc.Address)
		if err != nil {
			continue
		}
		view.Services = append(view.Services, api.ServiceView{Name: svc.Name, Host: addr.Addr().String(), Port: int(addr.Port()), Held: svc.Held})
		if !svc.Held {
			omitted = append(omitted, fmt.Errorf("no variables for service %q: %s", svc.Name, svc.LastError))
		}
	}
	names := "the variables"
	if parsed, err := p.parseAllowed(); err == nil {
		list := make([]string, 0, len(parsed.Env))
		for _, entry := range parsed.Env {
			list = append(list, entry.Name)
		}
		names = strings.Join(list, ", ")
	}
	if names != "" {
		omitted = append(omitted, output.WithHint(fmt.Errorf("omitted %s of [env]: the state file has no values", names), output.Hints(cause)...))
	}
	return view, omitted
}

// omittedServices returns an error for each service without variables: those that should run but do not hold their port.
func omittedServices(status api.Status) (omitted []error) {
	for _, svc := range status.Services {
		if svc.Held || svc.Reverse || svc.State == forwarder.Stopped {
			continue
		}
		text := fmt.Sprintf("no variables for service %q, which %s", svc.Name, output.DescribeState(svc.State))
		if svc.LastError != "" {
			text += ": " + svc.LastError
		}
		omitted = append(omitted, errors.New(text))
	}
	return omitted
}

// plannedView returns the view that a stopped project would have if it ran and held all its ports that no other program has. omitted has an
// error for each of the others.
func plannedView(parsed *project.Project) (view api.ProjectView, omitted []error) {
	view = api.ProjectView{Env: parsed.Env, DotEnv: parsed.DotEnv}
	for _, svc := range parsed.Services {
		addr := svc.Addresses()[0]
		isHeld := svc.Enabled && !svc.Reverse
		if isHeld {
			if owner, isTaken := findPortOwner(addr); isTaken {
				isHeld = false
				omitted = append(omitted, output.WithHint(fmt.Errorf("no variables for service %q: %s", svc.Name, owner), freePortHint))
			}
		}
		service := api.ServiceView{Name: svc.Name, Host: addr.Addr().String(), Port: int(addr.Port()), Held: isHeld}
		if svc.Bridge != "" {
			service.Bridge = plannedBridge(svc)
		}
		view.Services = append(view.Services, service)
	}
	return view, omitted
}

// plannedBridge is where containers could connect to a service if the project ran.
func plannedBridge(svc project.Service) *api.BridgeStatus {
	status := &api.BridgeStatus{Name: svc.Bridge}
	addr, err := bridge.Find(svc.Bridge)
	if notFound, ok := errors.AsType[*bridge.Error](err); ok {
		status.Reason, status.Hint = notFound.Reason, notFound.Hint
		return status
	}
	address := netip.AddrPortFrom(addr, uint16(svc.LocalPort))
	if owner, isTaken := findPortOwner(address); isTaken {
		status.Reason, status.Hint = owner, freePortHint
		return status
	}
	status.Address = address.String()
	return status
}
