package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/project"
)

// forwardReport prints what happens to the services of "localport forward": each address once, then every change.
type forwardReport struct {
	out, err  io.Writer
	parsed    *project.Project
	isVerbose bool
	services  map[string]*reportedService
}

// reportedService is what was printed about a service.
type reportedService struct {
	isListed    bool // its address was printed
	state       forwarder.State
	lastError   string
	lastErrorAt time.Time
	wasReady    bool
	failedAt    time.Time // since when it is not ready, after it was
	clients     uint64
	open        int
	waiting     int
}

func newForwardReport(out, err io.Writer, parsed *project.Project, isVerbose bool) *forwardReport {
	r := &forwardReport{out: out, err: err, parsed: parsed, isVerbose: isVerbose, services: make(map[string]*reportedService)}
	for _, svc := range parsed.Services {
		r.services[svc.Name] = &reportedService{}
	}
	return r
}

// show prints what has changed since the last status. The error is that of writing to stdout.
func (r *forwardReport) show(status api.Status) error {
	for _, svc := range status.Services {
		known := r.services[svc.Name]
		if known == nil {
			continue
		}
		if !known.isListed && isLocated(svc) {
			known.isListed = true
			if _, err := fmt.Fprintln(r.out, output.EscapeLine(r.addressLine(svc))); err != nil {
				return err
			}
		}
		r.showState(svc, known)
		if r.isVerbose {
			r.showClients(svc, known)
		}
	}
	return nil
}

// isLocated reports whether the target of a service is known: a context and a namespace are chosen when the first tunnel is opened.
func isLocated(svc api.ServiceStatus) bool {
	if svc.Technology == "kubectl" && svc.State == forwarder.Starting {
		parts := kubernetesTargetPattern().FindStringSubmatch(svc.Target)
		return parts != nil && parts[1] != ""
	}
	return true
}

// kubernetesTargetPattern matches the target of a Kubernetes service: context, namespace, resource and port.
var kubernetesTargetPattern = project.LazyRegexp(`^kubectl (?:(.*)/)?([^/ ]+) ((?:\S+/|pods -l ).*):([^:]+)$`)

// shortTypes are kubectl's short names of resource types.
var shortTypes = strings.NewReplacer("service/", "svc/", "deployment/", "deploy/", "statefulset/", "sts/", "replicaset/", "rs/", "daemonset/", "ds/")

// addressLine is the address of a service and where it leads.
func (r *forwardReport) addressLine(svc api.ServiceStatus) string {
	target := svc.Target
	if parts := kubernetesTargetPattern().FindStringSubmatch(target); parts != nil {
		target = fmt.Sprintf("%s %s (context %s, namespace %s)", shortTypes.Replace(parts[3]), parts[4], parts[1], parts[2])
		if parts[1] == "" {
			target = fmt.Sprintf("%s %s (namespace %s)", shortTypes.Replace(parts[3]), parts[4], parts[2])
		}
	}
	if svc.Reverse { // the target is where the far side listens, and the local address
		return target
	}
	return svc.Address + " -> " + target
}

// errorInterval is the time between two different errors of one service: some differ at each attempt, by a pod's name for example.
const errorInterval = 5 * time.Second

// showState prints a change of a service's state, and its error.
func (r *forwardReport) showState(svc api.ServiceStatus, known *reportedService) {
	state := svc.EffectiveState()
	before := known.state
	known.state = state
	switch {
	case svc.IsReady():
		r.showReady(svc, known, before)
	case svc.LastError == "":
		if known.wasReady && before != state && known.failedAt.IsZero() {
			known.failedAt = time.Now()
			output.Info(r.err, "%s: connection lost; new clients wait", svc.Name)
		}
	case svc.LastError == known.lastError && before == state,
		before == state && time.Since(known.lastErrorAt) < errorInterval:
	default:
		r.showError(svc, known)
	}
}

func (r *forwardReport) showReady(svc api.ServiceStatus, known *reportedService, before forwarder.State) {
	switch {
	case !known.wasReady:
		output.Info(r.err, "%s: connected", svc.Name)
	case !known.failedAt.IsZero():
		output.Info(r.err, "%s: connected again after %s", svc.Name, time.Since(known.failedAt).Round(100*time.Millisecond))
	case !before.IsReady():
		output.Info(r.err, "%s: connected again", svc.Name)
	}
	known.wasReady, known.failedAt, known.lastError = true, time.Time{}, ""
}

func (r *forwardReport) showError(svc api.ServiceStatus, known *reportedService) {
	isNewHint := svc.LastError != known.lastError
	known.lastError, known.lastErrorAt = svc.LastError, time.Now()
	if known.wasReady && known.failedAt.IsZero() {
		known.failedAt = time.Now()
	}
	text := strings.TrimSuffix(output.JoinLines(svc.LastError), ".")
	switch known.state {
	case forwarder.Failed:
		output.Info(r.err, "%s: failed: %s", svc.Name, text)
	case forwarder.NeedsAttention:
		output.Info(r.err, "%s: needs attention: %s", svc.Name, text)
	case forwarder.Unhealthy:
		output.Info(r.err, "%s: unhealthy: %s", svc.Name, text)
	default:
		output.Info(r.err, "%s: %s; trying again", svc.Name, text)
	}
	if svc.Hint != "" && isNewHint {
		fmt.Fprintln(r.err, "hint:", output.JoinLines(forwardHint(svc.Hint)))
	}
}

// showClients prints how many clients have connected and left.
func (r *forwardReport) showClients(svc api.ServiceStatus, known *reportedService) {
	connections := svc.Connections
	if connections.Total == known.clients && connections.Open == known.open && connections.Waiting == known.waiting {
		return
	}
	text := fmt.Sprintf("%d open, %d since the start", connections.Open, connections.Total)
	if connections.Waiting > 0 {
		text += fmt.Sprintf(", %d waiting", connections.Waiting)
	}
	output.Info(r.err, "%s: connections: %s", svc.Name, text)
	known.clients, known.open, known.waiting = connections.Total, connections.Open, connections.Waiting
}

// forgetError has the next error of services printed even if it is the same.
func (r *forwardReport) forgetError(names []string) {
	for _, name := range names {
		r.services[name].lastError, r.services[name].state = "", ""
	}
}

// wasAnyReady reports whether a service was ready before.
func (r *forwardReport) wasAnyReady() bool {
	for _, known := range r.services {
		if known.wasReady {
			return true
		}
	}
	return false
}

// cannotStart reports whether only another command line, or a person, can get the service started.
func (r *forwardReport) cannotStart(svc api.ServiceStatus) bool {
	state := svc.EffectiveState()
	return !r.services[svc.Name].wasReady && (state == forwarder.Failed || state == forwarder.NeedsAttention)
}

// startError returns an error if no service has ever been ready and none can be without a person: waiting would not help.
func (r *forwardReport) startError(status api.Status) error {
	var problems []error
	var hints hintList
	for _, svc := range status.Services {
		if !r.cannotStart(svc) {
			return nil
		}
		problems = append(problems, fmt.Errorf("%s: %s", svc.Name, output.JoinLines(svc.LastError)))
		hints.add(svc.Name, forwardHint(svc.Hint))
	}
	if problems == nil {
		return nil
	}
	return output.WithHint(errors.Join(problems...), hints.lines(len(problems))...)
}

var (
	loginHintPattern   = project.LazyRegexp(`"localport login[^"]*"`)
	restartHintPattern = project.LazyRegexp(`"localport restart[^"]*"`)
)

// forwardHint returns a service's hint for a command without a project.
func forwardHint(hint string) string {
	hint, _, _ = strings.Cut(hint, "; "+project.HintLocal("context"))
	hint = strings.ReplaceAll(hint, "set the service's connection.kubeconfig", "add --kubeconfig FILE")
	hint = strings.ReplaceAll(hint, "the service's connection.kubeconfig", "that of --kubeconfig")
	hint = strings.ReplaceAll(hint, `another local_port, or a local_address such as "127.0.0.2"`, "another local port")
	hint = loginHintPattern().ReplaceAllString(hint, "this command in a terminal")
	return restartHintPattern().ReplaceAllString(hint, "this command again")
}
