package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/cmd/localport/internal/version"
	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/forwarder/supervisor"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/trust"
	"github.com/localport-sh/localport/shellhook"
)

// outputFormat are the flags of a command that can print its data as JSON.
type outputFormat struct {
	Output string `short:"o" enum:"table,json,text" default:"table" help:"Output format: ${enum}."`
	JSON   bool   `help:"Same as --output=json."`
}

func (o outputFormat) isJSON() bool { return o.JSON || o.Output == "json" }

type statusCmd struct {
	outputFormat
	Watch bool `short:"w" help:"Keep showing the status until Ctrl-C; if the output is not a terminal, print each change."`
}

// Run shows the project, also if it is stopped.
func (c statusCmd) Run(ctx context.Context, a *app, p commandProject) error {
	if c.Watch {
		return c.watch(a, p)
	}
	status, err := p.queryOrReadStatus(ctx)
	if err != nil {
		return err
	}
	status.Draining = p.Draining()
	if err := p.CheckNetwork(); err != nil && status.State == api.StateRunning {
		status.Warnings = append(status.Warnings, err.Error())
	}
	if status.Supervisor != nil && status.RecordedAt == nil {
		if text, _ := describeOtherEnvironment(ctx, client.Client{Socket: status.Supervisor.Socket}); text != "" {
			status.Warnings = append(status.Warnings, text)
		}
	}
	if c.isJSON() {
		status.Project, status.Config = output.JSONText(status.Project), output.JSONText(status.Config)
		return output.JSON(a.out, status)
	}
	if c.Output == "text" {
		for _, svc := range status.Services {
			fmt.Fprintln(a.out, formatLine(svc))
		}
		return nil
	}
	columns, _ := a.out.Size()
	printStatus(a.out, status, columns)
	p.printDeathOnce(a.out, status.Supervisor)
	if status.RecordedAt != nil {
		return nil
	}
	if exe, err := os.Executable(); err == nil && status.Supervisor != nil {
		if skew := describeSkew(*status.Supervisor, version.Own(), client.BuildTime(exe)); skew != "" {
			printWrapped(a.out, columns, "warning: "+output.EscapeLine(skew))
		}
	}
	return nil
}

// formatLine formats a service as a line for scripts: name, state, address.
func formatLine(svc api.ServiceStatus) string {
	return fmt.Sprintf("%s %s %s", svc.Name, svc.State, svc.Address)
}

// queryStatus returns the supervisor's status or, if none runs, that of a stopped project.
func (p commandProject) queryStatus(ctx context.Context) (api.Status, error) {
	client, status, err := p.FindSupervisor(ctx)
	if err != nil || client != nil {
		return status, err
	}
	return p.stoppedStatus(ctx)
}

// queryOrReadStatus is queryStatus or, in a sandbox from which a running supervisor cannot be asked, what that has recorded in the state file.
func (p commandProject) queryOrReadStatus(ctx context.Context) (api.Status, error) {
	status, err := p.queryStatus(ctx)
	sandbox, ok := errors.AsType[*client.SandboxError](err)
	if !ok || sandbox.Recorded == nil || sandbox.Recorded.Services == nil {
		return status, err
	}
	return p.recordedStatus(sandbox, sandbox.Recorded), nil
}

// unknownState is the state of a service in recordedStatus.
const unknownState forwarder.State = "unknown"

// recordedStatus is the status of a running project as far as the state file has it. cause is why its supervisor cannot be asked.
func (p commandProject) recordedStatus(cause error, recorded *lockstate.Supervisor) api.Status {
	state := p.Dir.ReadOrZero()
	state.PruneLeases()
	status := api.Status{
		Project: p.Root, Config: p.Config, State: api.StateRunning, Leases: client.WireLeases(state.Leases), RecordedAt: &recorded.ServicesAt,
		Supervisor: &api.SupervisorStatus{
			PID: recorded.PID, Run: recorded.Run, Version: recorded.Version, Since: recorded.Since, Socket: recorded.Socket, Log: p.Dir.LogPath("supervisor"),
			Keeper: recorded.Keeper,
		},
		Warnings: []string{fmt.Sprintf("%v; the services are those of the state file, recorded %s ago", cause, formatAge(recorded.ServicesAt))},
	}
	for _, svc := range recorded.Services {
		service := api.ServiceStatus{Name: svc.Name, State: unknownState, Addresses: svc.Addresses, Held: svc.Held, Reverse: len(svc.Addresses) == 0, Log: p.Dir.LogPath(svc.Name)}
		if len(svc.Addresses) > 0 {
			service.Address = svc.Addresses[0]
		}
		for _, text := range svc.Addresses {
			if addr, err := netip.ParseAddrPort(text); err == nil {
				service.Port = int(addr.Port())
			}
		}
		if !svc.Held && !service.Reverse {
			service.LastError = "its port is not open"
		}
		status.Services = append(status.Services, service)
	}
	return status
}

// compareTimeout bounds the comparison of environments, for which the supervisor reads files.
const compareTimeout = 500 * time.Millisecond

// describeOtherEnvironment says in which variables this shell's environment chooses another target than the supervisor's. It is empty if there are
// none. It is not ok if the supervisor does not know this request or does not answer in time.
func describeOtherEnvironment(ctx context.Context, running client.Client) (text string, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, compareTimeout)
	defer cancel()
	names, err := running.CompareEnvironment(ctx, client.ShellEnvironment())
	last := len(names) - 1
	switch {
	case err != nil:
		return "", false
	case last < 0:
		return "", true
	case last == 0:
		return fmt.Sprintf("this shell's %s differs; \"localport restart\" uses it", names[0]), true
	}
	return fmt.Sprintf("this shell's %s and %s differ; \"localport restart\" uses them", strings.Join(names[:last], ", "), names[last]), true
}

// stoppedStatus returns the status of a project that has no supervisor: all services of the config, stopped.
func (p commandProject) stoppedStatus(ctx context.Context) (api.Status, error) {
	verdict, files, err := p.AskTrust()
	state := p.Dir.ReadOrZero()
	state.PruneLeases()
	if errors.Is(err, fs.ErrNotExist) && len(state.Leases) > 0 {
		return api.Status{}, output.WithHint(fmt.Errorf("the project is not running: %w", err),
			"localport -c "+shellhook.Quote(p.Config)+" stop")
	}
	if err != nil {
		return api.Status{}, err
	}
	parsed, err := p.parseConfig(files)
	if err != nil {
		return api.Status{}, err
	}
	status := api.Status{
		Project: p.Root, Config: p.Config, State: api.StateStopped,
		Services: stoppedServices(ctx, p, parsed), Leases: client.WireLeases(state.Leases), Failure: state.Failure,
	}
	if verdict != trust.Allowed {
		status.Pending = "not allowed: review the config, then run \"localport allow\""
	}
	return status, nil
}

func stoppedServices(ctx context.Context, p commandProject, parsed *project.Project) []api.ServiceStatus {
	services := make([]api.ServiceStatus, 0, len(parsed.Services))
	for _, svc := range parsed.Services {
		status := api.ConfiguredStatus(svc)
		status.Target, status.Log = supervisor.Target(ctx, p.Root, svc), p.Dir.LogPath(svc.Name)
		services = append(services, status)
	}
	return services
}

// printStatus prints the status as text: a line about the project, the table, then hints and warnings. width is the terminal's, in
// columns; 0 if there is none.
func printStatus(w io.Writer, status api.Status, width int) {
	fmt.Fprintf(w, "%s: %s", output.EscapeLine(filepath.Base(status.Project)), status.State)
	if s := status.Supervisor; s != nil {
		fmt.Fprintf(w, " for %s, %s", formatAge(s.Since), describeLeases(status.Leases))
	}
	fmt.Fprintln(w)
	printTable(w, status, width)
	for _, line := range describeBridges(status.Services) {
		printWrapped(w, width, line)
	}
	for _, svc := range status.Services {
		if text := describeSharing(svc); text != "" {
			printWrapped(w, width, svc.Name+": "+text)
		}
	}
	for _, svc := range status.Services {
		hint := svc.Hint
		if hint == "" && showsRefusal(svc) {
			hint = svc.LastRefusal.Hint
		}
		if hint != "" {
			printWrapped(w, width, fmt.Sprintf("%s: %s", svc.Name, output.JoinLines(hint)))
		}
	}
	for _, cluster := range status.Clusters {
		for _, line := range []string{cluster.Trouble, cluster.Hint} {
			if line != "" {
				name := output.EscapeLine(cmp.Or(cluster.Context, cluster.Server))
				printWrapped(w, width, fmt.Sprintf("cluster %s: %s", name, output.JoinLines(line)))
			}
		}
	}
	for _, d := range status.Draining {
		printWrapped(w, width, describeDraining(d))
	}
	for _, line := range []string{status.Failure, status.Pending} {
		if line != "" {
			printWrapped(w, width, output.JoinLines(line))
		}
	}
	for _, warning := range status.Warnings {
		printWrapped(w, width, "warning: "+output.JoinLines(warning))
	}
}

// describeBridges says where containers can connect to which services, and to which they cannot although the config asks for it, and why.
func describeBridges(services []api.ServiceStatus) (lines []string) {
	var addresses, reasons []string
	lacking := make(map[string][]string) // the names of services, by reason
	for _, svc := range services {
		switch {
		case svc.Bridge == nil:
		case svc.Bridge.Address != "":
			addresses = append(addresses, svc.Name+" at "+svc.Bridge.Address)
		default:
			reason := svc.Bridge.Reason
			if svc.Bridge.Hint != "" {
				reason += "; " + svc.Bridge.Hint
			}
			if lacking[reason] == nil {
				reasons = append(reasons, reason)
			}
			lacking[reason] = append(lacking[reason], svc.Name)
		}
	}
	if len(addresses) > 0 {
		lines = append(lines, "containers connect to "+joinWords(addresses))
	}
	for _, reason := range reasons {
		lines = append(lines, fmt.Sprintf("warning: containers cannot connect to %s: %s", joinWords(lacking[reason]), output.JoinLines(reason)))
	}
	return lines
}

// describeDraining says which connections of an earlier supervisor are open, and until when.
func describeDraining(d api.Draining) string {
	services := make([]string, 0, len(d.Services))
	total := 0
	for _, svc := range d.Services {
		services = append(services, fmt.Sprintf("%d on %s", svc.Open, output.EscapeLine(svc.Name)))
		total += svc.Open
	}
	text := fmt.Sprintf("earlier %s still open (pid %d): %s", plural("connection", total), d.PID, strings.Join(services, ", "))
	if d.Until != nil {
		text += "; closed at " + d.Until.Local().Format("15:04") + " at the latest"
	}
	return text
}

// printDeathOnce prints how the previous supervisor died, unless status has printed that before.
func (p commandProject) printDeathOnce(w io.Writer, running *api.SupervisorStatus) {
	if running == nil || running.PredecessorDeath == nil {
		return
	}
	death := running.PredecessorDeath
	path := filepath.Join(p.Dir.Path, "reported-death")
	if reported, _ := os.ReadFile(path); string(reported) == death.Run {
		return
	}
	when := ""
	if death.At != nil {
		when = " " + formatAge(*death.At) + " ago"
	}
	fmt.Fprintf(w, "the previous supervisor (pid %d) ended%s: %s\n", death.PID, when, output.JoinLines(death.Reason))
	_ = os.WriteFile(path, []byte(death.Run), 0o600) // else it is printed again
}

// describeSkew says how a supervisor's program differs from this one: in its version or, if that does not name one build, in the time at
// which it was built. Empty if nothing is known to differ.
func describeSkew(running api.SupervisorStatus, ownVersion string, ownBuilt time.Time) string {
	switch {
	case client.Supersedes(running.Version, ownVersion):
		return fmt.Sprintf("the supervisor is version %s, which is newer than this one, %s", running.Version, ownVersion)
	case running.Version != ownVersion:
		return fmt.Sprintf("the supervisor is version %s, this command is %s; %s", running.Version, ownVersion, replaceHint(running))
	case client.IsRelease(ownVersion) || running.Built == nil || ownBuilt.IsZero() || running.Built.Equal(ownBuilt):
		return ""
	}
	return fmt.Sprintf("the supervisor is the %s build of %s, this command is that of %s; %s", ownVersion,
		running.Built.Local().Format(time.DateTime), ownBuilt.Local().Format(time.DateTime), replaceHint(running))
}

// replaceHint says how a supervisor is replaced by this program, and what that costs.
func replaceHint(running api.SupervisorStatus) string {
	switch {
	case running.LoginLoss != nil:
		return fmt.Sprintf("it was not replaced, because %s; to replace it all the same: %s", running.LoginLoss, running.LoginLoss.Remedy())
	case len(running.LoggedIn) > 0:
		return fmt.Sprintf(`"localport daemon restart" replaces it with this one, unless %s would need another login`, strings.Join(running.LoggedIn, ", "))
	}
	return `"localport daemon restart" replaces it with this one`
}

// describeLeases says who holds the leases: "used by 1 shell and 2 commands".
func describeLeases(leases []api.Lease) string {
	counts := make(map[string]int)
	for _, lease := range leases {
		counts[lease.Kind]++
	}
	var holders []string
	for _, kind := range []struct{ lease, singular, plural string }{
		{api.ShellLease, "shell", "shells"},
		{api.ExecLease, "command", "commands"},
		{api.ProcessLease, "process", "processes"},
		{api.BorrowedLease, "other project", "other projects"},
	} {
		switch n := counts[kind.lease]; {
		case n == 1:
			holders = append(holders, "1 "+kind.singular)
		case n > 1:
			holders = append(holders, fmt.Sprintf("%d %s", n, kind.plural))
		}
	}
	if counts[api.StartLease] > 0 {
		holders = append(holders, "\"localport start\"")
	}
	switch last := len(holders) - 1; last {
	case -1:
		return "not in use"
	case 0:
		return "used by " + holders[0]
	default:
		return "used by " + strings.Join(holders[:last], ", ") + " and " + holders[last]
	}
}

func plural(word string, n int) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

// defaultErrorWidth is the width of the column "last error", in characters, if the output is not a terminal.
const defaultErrorWidth = 60

// The columns of the table that are left out of a narrow terminal.
const (
	technologyColumn = "technology" // the target begins with it
	targetColumn     = "target"
	healthColumn     = "health"
	uptimeColumn     = "up"
	restartsColumn   = "restarts"
	lastErrorColumn  = "last error"
)

// minTargetWidth is the width below which targets are not shortened; the health checks are left out instead.
const minTargetWidth = 16

var tableHeader = table.Row{
	"service", "state", technologyColumn, "local address", targetColumn, healthColumn, uptimeColumn, restartsColumn, "conns", lastErrorColumn,
}

// printTable prints a table of the services. On a terminal, each service is one line; errors that do not fit into it follow below the table.
func printTable(w io.Writer, status api.Status, width int) {
	rows := make([]table.Row, 0, len(status.Services))
	longestError := 0
	for _, svc := range status.Services {
		rows = append(rows, table.Row{
			svc.Name, formatState(svc), svc.Technology, formatLocalAddress(svc), output.EscapeLine(svc.Target), output.EscapeLine(formatHealth(svc)), formatUptime(svc), svc.Restarts,
			formatConnections(svc), formatLastError(svc),
		})
		longestError = max(longestError, text.RuneWidthWithoutEscSequences(formatLastError(svc)))
	}
	columns := []table.ColumnConfig{{Name: lastErrorColumn, WidthMax: defaultErrorWidth, WidthMaxEnforcer: text.WrapSoft}}
	areErrorsBelow := false
	if width > 0 {
		columns = []table.ColumnConfig{{Name: lastErrorColumn, WidthMax: max(len(lastErrorColumn), longestError)}}
		if areErrorsBelow = tableWidth(rows, columns) > width; areErrorsBelow {
			columns = narrowColumns(rows, width)
		}
	}
	for line := range strings.Lines(formatTable(rows, columns)) {
		fmt.Fprintln(w, strings.TrimRight(line, " \n"))
	}
	for _, svc := range status.Services {
		if areErrorsBelow && formatLastError(svc) != "" {
			printWrapped(w, width, svc.Name+": "+formatLastError(svc))
		}
	}
}

// narrowColumns returns columns with which a table without errors fits into width, if possible: less important ones are left out, then targets
// are shortened.
func narrowColumns(rows []table.Row, width int) []table.ColumnConfig {
	columns := []table.ColumnConfig{{Name: lastErrorColumn, Hidden: true}}
	for _, name := range []string{technologyColumn, restartsColumn, uptimeColumn} {
		if tableWidth(rows, columns) <= width {
			return columns
		}
		columns = append(columns, table.ColumnConfig{Name: name, Hidden: true})
	}
	targetWidth := 0
	for _, row := range rows {
		target, _ := row[slices.Index(tableHeader, any(targetColumn))].(string)
		targetWidth = max(targetWidth, text.RuneWidthWithoutEscSequences(target))
	}
	excess := tableWidth(rows, columns) - width
	if targetWidth-excess < minTargetWidth {
		columns = append(columns, table.ColumnConfig{Name: healthColumn, Hidden: true})
		excess = tableWidth(rows, columns) - width
	}
	if excess <= 0 {
		return columns
	}
	shorten := func(target string, width int) string { return text.Snip(target, width, "…") }
	return append(columns, table.ColumnConfig{Name: targetColumn, WidthMax: max(minTargetWidth, targetWidth-excess), WidthMaxEnforcer: shorten})
}

// tableWidth returns the width of the widest line of a table.
func tableWidth(rows []table.Row, columns []table.ColumnConfig) int {
	width := 0
	for line := range strings.Lines(formatTable(rows, columns)) {
		width = max(width, text.RuneWidthWithoutEscSequences(strings.TrimRight(line, " \n")))
	}
	return width
}

func formatTable(rows []table.Row, columns []table.ColumnConfig) string {
	t := table.NewWriter()
	style := table.StyleLight
	style.Options = table.OptionsNoBordersAndSeparators
	style.Format.Header = text.FormatUpper
	t.SetStyle(style)
	t.SetColumnConfigs(columns)
	t.AppendHeader(tableHeader)
	t.AppendRows(rows)
	return t.Render() + "\n"
}

// printWrapped prints a line. On a terminal, of width columns, it is broken between words.
func printWrapped(w io.Writer, width int, line string) {
	if width > 0 {
		line = text.WrapSoft(line, width)
	}
	for part := range strings.SplitSeq(line, "\n") {
		fmt.Fprintln(w, strings.TrimRight(part, " "))
	}
}

// formatState returns the state. Of a shared service it adds the state at the holder, unless that is ready.
func formatState(svc api.ServiceStatus) string {
	if svc.State != forwarder.Shared || svc.IsReady() {
		return string(svc.State)
	}
	return fmt.Sprintf("%s (%s)", svc.State, svc.EffectiveState())
}

// describeSharing says which other project has the port of a service, or which others use the service of this one; empty if none does.
func describeSharing(svc api.ServiceStatus) string {
	switch {
	case svc.Shared != nil:
		return "shared: project " + output.EscapeLine(svc.Shared.Project) + " has the port"
	case len(svc.SharedWith) > 0:
		return "shared with " + output.EscapeLine(strings.Join(svc.SharedWith, ", "))
	}
	return ""
}

func formatHealth(svc api.ServiceStatus) string {
	if svc.Health.Checked == nil {
		return "-"
	}
	latency := time.Duration(svc.Health.Latency * float64(time.Second))
	return fmt.Sprintf("%s %s, %s ago", svc.Health.Check, latency.Round(100*time.Microsecond), formatAge(*svc.Health.Checked))
}

func formatUptime(svc api.ServiceStatus) string {
	if svc.UpSince == nil {
		return "-"
	}
	return formatAge(*svc.UpSince)
}

// formatLastError returns what fails now, or else the last request that was refused.
func formatLastError(svc api.ServiceStatus) string {
	if showsRefusal(svc) {
		return fmt.Sprintf("request failed %s ago: %s", formatAge(svc.LastRefusal.Time), output.JoinLines(svc.LastRefusal.Reason))
	}
	return output.JoinLines(svc.LastError)
}

// showsRefusal reports whether the last request that was refused is shown: nothing else fails.
func showsRefusal(svc api.ServiceStatus) bool {
	return svc.LastError == "" && svc.LastRefusal != nil && svc.State != forwarder.Stopped
}

// formatConnections returns the number of open connections, and how many of them wait for the tunnel.
func formatConnections(svc api.ServiceStatus) string {
	if svc.State == forwarder.Stopped {
		return "-"
	}
	if svc.Connections.Waiting > 0 {
		return fmt.Sprintf("%d (%d waiting)", svc.Connections.Open, svc.Connections.Waiting)
	}
	return fmt.Sprint(svc.Connections.Open)
}

// formatAge returns how long ago t was, in one unit from seconds to days.
func formatAge(t time.Time) string {
	d := max(time.Since(t), 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours())/24)
}

// formatLocalAddress returns the address that clients connect to; a reverse forward has none.
func formatLocalAddress(svc api.ServiceStatus) string {
	if svc.Reverse {
		return "(reverse)"
	}
	return svc.Address
}
