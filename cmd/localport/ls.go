package main

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/localport-sh/localport/cmd/localport/internal/layout"
	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/cmd/localport/internal/version"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/client"
)

type lsCmd struct{ outputFormat }

// Help is the text below the usage.
func (lsCmd) Help() string {
	return "It works in any directory. A project whose supervisor does not answer is listed as such.\n\n" +
		"Example: localport ls --json | jq -r '.[].project'\n\n" +
		"Exit codes: 0 listed, also if there is none; 1 the list could not be written; 2 wrong usage."
}

// listedProject is a project that runs, as ls --json prints it. Other programs depend on its names.
type listedProject struct {
	api.Status
	Error string `json:"error,omitempty"` // why the project did not answer; Services is empty then
	hints []string
}

// stateNoAnswer is the state of a listed project that did not answer.
const stateNoAnswer = "no_answer"

// Run lists the user's projects that run, whether the current directory is in one or not. A project that does not answer is listed as such.
func (c lsCmd) Run(ctx context.Context, a *app) error {
	projects := listProjects(ctx)
	switch {
	case c.isJSON():
		return output.JSON(a.out, projects)
	case c.Output == "text":
		for _, p := range projects {
			for _, svc := range p.Services {
				fmt.Fprintln(a.out, output.EscapeLine(p.Project), formatLine(svc))
			}
		}
		return nil
	case len(projects) == 0:
		output.Info(a.err, "no project runs")
		return nil
	}
	columns, _ := a.out.Size()
	if columns == 0 {
		return a.out.PrintLines(listTable(projects))
	}
	var lines []output.Line
	for i, p := range projects {
		if i > 0 {
			lines = append(lines, output.Line{})
		}
		lines = append(lines, p.lines(columns)...)
	}
	return a.out.PrintLines(lines)
}

// listProjects asks all projects that run for their status, at the same time, and returns them in the order of their paths.
func listProjects(ctx context.Context) []listedProject {
	ctx, cancel := context.WithTimeout(ctx, client.PromptTimeout())
	defer cancel()
	configs := liveConfigs()
	slices.Sort(configs)
	projects := make([]listedProject, len(configs))
	var wg sync.WaitGroup
	for i, config := range configs {
		wg.Go(func() { projects[i] = queryProject(ctx, config) })
	}
	wg.Wait()
	return slices.DeleteFunc(projects, func(p listedProject) bool { return p.State == api.StateStopped })
}

func queryProject(ctx context.Context, config string) listedProject {
	listed := listedProject{Status: api.Status{Project: filepath.Dir(config), Config: config, State: stateNoAnswer}}
	p, err := client.Open(config, func(string) {}, "", version.Own())
	if err == nil {
		var running *client.Client
		var status api.Status
		running, status, err = p.FindSupervisor(ctx)
		if err == nil && running == nil {
			status.State = api.StateStopped
		}
		if err == nil {
			status.Project, status.Config = listed.Project, listed.Config
			listed.Status = status
		}
	}
	if err != nil {
		listed.Error, listed.hints = output.JoinLines(err.Error()), output.Hints(err)
		listed.Services, listed.Leases = []api.ServiceStatus{}, []api.Lease{}
	}
	listed.Project, listed.Config = output.JSONText(listed.Project), output.JSONText(listed.Config)
	return listed
}

// lines returns a project with its services as lines that fit into width.
func (p listedProject) lines(width int) []output.Line {
	if p.Error != "" {
		lines := layout.Wrap(output.Line{{Style: output.Heading, Text: p.Project}, {Text: ": "}, {Style: output.Failure, Text: p.Error}}, width, messageIndent)
		for _, hint := range p.hints {
			lines = append(lines, layout.Wrap(output.PlainLine("hint: "+p.localHint(hint)), width, messageIndent)...)
		}
		return lines
	}
	lines := layout.Wrap(projectLine(p.Project, p.Status), width, messageIndent)
	lines = append(lines, tableLines(p.Services, width)...)
	for _, message := range problemMessages(p.Services, true) {
		lines = append(lines, layout.Wrap(message, width, messageIndent)...)
	}
	return lines
}

// localHint is a hint for a command that is called outside of the project.
func (p listedProject) localHint(hint string) string {
	if command, ok := strings.CutPrefix(hint, "localport "); ok {
		return "localport -c " + output.ShellQuote(p.Config) + " " + command
	}
	return hint
}

// listTable returns one line for each service, with everything, for other programs.
func listTable(projects []listedProject) []output.Line {
	t := layout.Table{Titles: []string{"PROJECT", serviceTitle, stateTitle, addressTitle, targetTitle, "USED BY", errorTitle}}
	for _, p := range projects {
		if p.Error != "" {
			t.Rows = append(t.Rows, []output.Span{{Text: p.Project}, {Text: "-"}, {Text: p.State}, {Text: "-"}, {Text: "-"}, {Text: "-"}, {Text: p.Error}})
		}
		usedBy := strings.TrimPrefix(describeLeases(p.Leases), "used by ")
		for _, svc := range p.Services {
			t.Rows = append(t.Rows, []output.Span{
				{Text: p.Project}, {Text: svc.Name}, stateSpan(svc), {Text: formatLocalAddress(svc)}, {Text: cmp.Or(svc.Target, "-")}, {Text: usedBy}, {Text: formatLastError(svc)},
			})
		}
	}
	return t.Lines(0)
}
