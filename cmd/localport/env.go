package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/environ"
	"github.com/localport-sh/localport/shellhook"
)

type envCmd struct {
	Format string `enum:"sh,fish,json,dotenv" default:"sh" help:"Output format: ${enum}."`
	JSON   bool   `help:"Same as --format=json."`
}

// Run prints the project's variables. It starts nothing: of a stopped project it prints the ports that it would use.
func (c envCmd) Run(ctx context.Context, a *app, p commandProject) error {
	view, omitted, err := p.projectView(ctx)
	if err != nil {
		return err
	}
	base := environ.Undo(environ.Parse(os.Environ()))
	pairs, err := client.Variables(view, base)
	if err != nil {
		return err
	}
	if c.JSON {
		c.Format = "json"
	}
	text, err := formatVariables(c.Format, pairs)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprint(a.out.Data(), text); err != nil || omitted == nil {
		return err
	}
	return errors.Join(omitted...)
}

// projectView returns the supervisor's view of the services or, if no supervisor is running, what the config declares. omitted has the
// errors of omittedServices.
func (p commandProject) projectView(ctx context.Context) (view api.ProjectView, omitted []error, err error) {
	running, status, err := p.FindSupervisor(ctx)
	if err != nil {
		return view, nil, err
	}
	if running != nil {
		view, err = running.Join(ctx, p.NewJoinRequest())
		return view, omittedServices(status), err
	}
	parsed, err := p.parseAllowed()
	if err != nil {
		return view, nil, err
	}
	return plannedView(parsed), nil, nil
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

// plannedView returns the view that a stopped project would have if it ran and held all its ports.
func plannedView(parsed *project.Project) api.ProjectView {
	view := api.ProjectView{Env: parsed.Env, DotEnv: parsed.DotEnv}
	for _, svc := range parsed.Services {
		addr := svc.Addresses()[0]
		view.Services = append(view.Services, api.ServiceView{
			Name: svc.Name, Host: addr.Addr().String(), Port: int(addr.Port()), Held: svc.Enabled && !svc.Reverse,
		})
	}
	return view
}

func formatVariables(format string, pairs []project.Variable) (string, error) {
	var b strings.Builder
	if format == "json" {
		object := make(map[string]string, len(pairs))
		for _, pair := range pairs {
			object[pair.Name] = pair.Value
		}
		err := output.JSON(&b, object)
		return b.String(), err
	}
	fish, err := shellhook.Lookup("fish")
	if err != nil {
		return "", err
	}
	for _, pair := range pairs {
		switch format {
		case "fish":
			b.WriteString(fish.Export(pair.Name, pair.Value))
		case "dotenv":
			fmt.Fprintf(&b, "%s=%s\n", pair.Name, quoteDotenv(pair.Value))
		default:
			fmt.Fprintf(&b, "export %s=%s\n", pair.Name, shellhook.Quote(pair.Value))
		}
	}
	return b.String(), nil
}

// quoteDotenv quotes a value for .env files: in single quotes, in which nothing is expanded, or, if it holds a single quote or a line
// break, in double quotes with escapes.
func quoteDotenv(value string) string {
	if !strings.ContainsAny(value, "'\n\r") {
		return "'" + value + "'"
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", `\r`, "$", `\$`).Replace(value) + `"`
}
