package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/forwarder/eventlog"
	"github.com/localport-sh/localport/forwarder/supervisor"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/environ"
	"github.com/localport-sh/localport/project/trust"
)

type whyCmd struct {
	Service string `arg:"" help:"The service."`
	JSON    bool   `help:"Print JSON."`
}

// Help is the text below the usage.
func (whyCmd) Help() string {
	return `Says in at most 25 lines what the service is configured to do and where each value comes from, what happened, who has the port, and what to do next.

Example: localport why db

Exit codes: 0 if it could be explained, whatever the state of the service; 1 the service is unknown, or the project cannot be read; 2 wrong usage.`
}

// Run explains the state of a service. It changes nothing.
func (c whyCmd) Run(ctx context.Context, a *app, p commandProject) error {
	report, err := p.explainService(ctx, c.Service)
	if err != nil {
		return err
	}
	if c.JSON {
		return output.JSON(a.out, report)
	}
	columns, _ := a.out.Size()
	report.print(a.out, columns)
	return nil
}

// explainTimeout is how long a technology may take to find out about the far end of a service.
const explainTimeout = 2500 * time.Millisecond

// explainService collects what is known of a service. The supervisor need not answer: then it is what the state file has.
func (p commandProject) explainService(ctx context.Context, name string) (*whyReport, error) {
	status, cause, err := p.queryOrReadState(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(status.Services, func(svc api.ServiceStatus) bool { return svc.Name == name })
	if i < 0 {
		known := make([]string, 0, len(status.Services))
		for _, svc := range status.Services {
			known = append(known, svc.Name)
		}
		return nil, unknownNameError("service", name, known)
	}
	svc := status.Services[i]
	report := &whyReport{
		Service: svc, Project: output.JSONText(p.Root), ProjectState: status.State, Pending: describePending(status), Next: output.NextStep(status, svc),
		History: p.readHistory(name),
	}
	if cause != nil {
		report.Unanswered = cause.Error()
		if hints := output.Hints(cause); len(hints) > 0 {
			report.Next = hints[0]
		}
	}
	p.addConfig(ctx, report, name)
	report.Ports = findPortHolders(svc)
	return report, nil
}

// describePending is why the files on disk are not what runs, or else why the last start failed.
func describePending(status api.Status) string { return cmp.Or(status.Pending, status.Failure) }

// queryOrReadState is queryStatus or, if a running supervisor cannot be asked, what that has recorded in the state file; cause is why.
func (p commandProject) queryOrReadState(ctx context.Context) (status api.Status, cause, err error) {
	ctx, cancel := context.WithTimeout(ctx, client.PromptTimeout())
	defer cancel()
	startTime := time.Now()
	status, err = p.queryStatus(ctx)
	if err == nil {
		return status, nil, nil
	}
	err = p.ExplainNoAnswer(err, startTime)
	recorded := p.Dir.ReadOrZero().Supervisor
	_, isSandboxed := errors.AsType[*client.SandboxError](err)
	if !isSandboxed && !isNoAnswerError(err) || recorded == nil || recorded.Services == nil {
		return status, nil, err
	}
	return p.recordedStatus(err, recorded), err, nil
}

// addConfig adds what the config says about a service and, if it is allowed, what its technology finds out. Without a valid config there is none.
func (p commandProject) addConfig(ctx context.Context, report *whyReport, name string) {
	verdict, files, err := p.AskTrust()
	if err != nil {
		return
	}
	report.Allowed = verdict == trust.Allowed
	parsed, settings, err := p.parseSettings(files)
	if err != nil {
		report.Pending = output.JoinLines(err.Error())
		return
	}
	report.Settings = settings[name]
	svc, isConfigured := parsed.FindService(name)
	if !isConfigured {
		return
	}
	report.Defaults = describeDefaults(svc, settings[name])
	if verdict != trust.Allowed {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, explainTimeout)
	defer cancel()
	run := forwarder.Run{Dir: p.Root, Env: environ.Undo(environ.Parse(os.Environ())).List()}
	if p.mayAskAnybody(svc, report.Service) {
		report.Facts = supervisor.Explain(ctx, svc, run)
	}
	if state := report.Service.EffectiveState(); (state == forwarder.Idle || state == forwarder.Stopped) && !report.Service.Ending {
		run.Env = p.tunnelEnviron(parsed)
		report.addPreflight(svc, supervisor.Preflight(svc, run), parsed.Secrets)
	}
	if report.Service.EffectiveState() == forwarder.Healthy {
		report.Facts = slices.DeleteFunc(report.Facts, func(f forwarder.Fact) bool { return f.Label == forwarder.EventFact })
	}
	for i := range report.Facts {
		report.Facts[i].Text = project.Mask(svc.MaskTarget(report.Facts[i].Text), parsed.Secrets)
	}
}

// tunnelEnviron is the environment that the tunnels of the project have: that of the supervisor, if it runs and the system shows it, or else that of
// this shell, in which the project would be started. A supervisor also looks for programs in the PATH of this shell.
func (p commandProject) tunnelEnviron(parsed *project.Project) []string {
	own := environ.Undo(environ.Parse(os.Environ()))
	env := maps.Clone(own)
	if recorded := p.Dir.ReadOrZero().Supervisor; recorded != nil && recorded.IsAlive() {
		if data, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", recorded.PID)); err == nil && len(data) > 0 {
			env = environ.Undo(environ.Parse(strings.Split(string(bytes.TrimRight(data, "\x00")), "\x00")))
			if env["PATH"] != own["PATH"] {
				env["PATH"] += string(os.PathListSeparator) + own["PATH"]
			}
		}
	}
	all := make(environ.Env)
	maps.Copy(all, parsed.DotEnv)
	maps.Copy(all, env)
	return all.List()
}

// mayAskAnybody reports whether a technology may find out about the far end. A login helper that wants a person must not open a browser now.
func (p commandProject) mayAskAnybody(svc project.Service, status api.ServiceStatus) bool {
	return svc.Technology != "kubectl" || status.EffectiveState() != forwarder.NeedsAttention
}

// readHistory returns the last events of a service, oldest first.
func (p commandProject) readHistory(name string) []eventlog.Event {
	reader := eventlog.NewEventReader(p.Dir.LogDir())
	defer reader.Close()
	events, err := reader.Read(time.Time{})
	if err != nil {
		return nil
	}
	events = slices.DeleteFunc(events, func(e eventlog.Event) bool { return e.Service != name || e.Kind != eventlog.StateChanged })
	return events[max(0, len(events)-shownHistory):]
}

// portHolder is a local address of a service, and who listens there.
type portHolder struct {
	Address string `json:"address"`
	Holder  string `json:"holder,omitempty"` // empty: nobody, or the system does not tell
	Own     bool   `json:"own"`              // this project's supervisor, or the one of the project that shares the service
}

// findPortHolders says who listens on each of a service's local addresses.
func findPortHolders(svc api.ServiceStatus) []portHolder {
	holders := make([]portHolder, len(svc.Addresses))
	var wg sync.WaitGroup
	for i, address := range svc.Addresses {
		holders[i] = portHolder{Address: address, Own: svc.Held}
		wg.Go(func() {
			if addr, err := netip.ParseAddrPort(address); err == nil {
				holders[i].Holder = supervisor.DescribePortHolder(addr)
			}
		})
	}
	wg.Wait()
	return holders
}

// describeDefaults names the defaults that matter to somebody who looks for a failure, for the keys that nobody has set.
func describeDefaults(svc project.Service, settings []project.Setting) string {
	isSet := func(prefix string) bool {
		return slices.ContainsFunc(settings, func(s project.Setting) bool { return strings.HasPrefix(s.Key, prefix) })
	}
	var defaults []string
	for _, d := range []struct{ key, text string }{
		{"health_check.type", fmt.Sprintf("health_check.type = %q", svc.HealthCheck.Type)},
		{"health_check.interval", fmt.Sprintf("health_check.interval = %q", formatDuration(svc.HealthCheck.Interval))},
		{"connect_timeout", fmt.Sprintf("connect_timeout = %q", formatDuration(svc.ConnectTimeout))},
	} {
		if !isSet(d.key) {
			defaults = append(defaults, d.text)
		}
	}
	return strings.Join(defaults, ", ")
}

// formatDuration is a duration as configs have it: "30s", "5m".
func formatDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	return text
}
