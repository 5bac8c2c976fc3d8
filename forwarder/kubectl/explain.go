package kubectl

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/kubectl/native"
	"github.com/localport-sh/localport/forwarder/kubectl/session"
	"github.com/localport-sh/localport/forwarder/tasks"
	"github.com/localport-sh/localport/project"
)

// explain says which cluster a service leads to, and what that has recorded of its pods.
func explain(ctx context.Context, svc project.Service, run forwarder.Run) []forwarder.Fact {
	s := newService(newServiceSpec(svc))
	facts := []forwarder.Fact{{Label: "cluster", Text: s.describeLocation(run)}}
	for _, event := range s.listEvents(ctx, run) {
		age := ""
		if !event.Time.IsZero() {
			age = formatAge(time.Since(event.Time)) + " ago, "
		}
		facts = append(facts, forwarder.Fact{Label: forwarder.EventFact, Text: age + event.String()})
	}
	return facts
}

// describeLocation names the context and the namespace, and says where they come from if the config leaves them open.
func (s *service) describeLocation(run forwarder.Run) string {
	files := session.KubeconfigFiles(s.kubeconfig, run.Env, run.Dir)
	location := s.completeLocation(files, run)
	var parts []string
	switch {
	case location.Context != "" && s.configured.Context == "":
		parts = append(parts, fmt.Sprintf("context %s, the current one of %s", location.Context, strings.Join(files, ", ")))
	case location.Context != "":
		parts = append(parts, "context "+location.Context)
	default:
		parts = append(parts, fmt.Sprintf("no context in %s", strings.Join(files, ", ")))
	}
	switch {
	case location.Namespace != "" && s.configured.Namespace == "":
		parts = append(parts, fmt.Sprintf("namespace %s, which is that context's", location.Namespace))
	case location.Namespace != "":
		parts = append(parts, "namespace "+location.Namespace)
	}
	return strings.Join(parts, "; ")
}

const (
	eventsTimeout = 2 * time.Second
	shownEvents   = 3
)

// listEvents returns the newest warnings of the cluster about the service or, if there are none, the newest event. It returns none if the cluster
// does not answer, or does not show events to the user.
func (s *service) listEvents(ctx context.Context, run forwarder.Run) []native.Event {
	ctx, cancel := context.WithTimeout(ctx, eventsTimeout)
	defer cancel()
	run.Log = io.Discard
	group := tasks.New(ctx)
	defer group.Close()
	ref := session.ResourceRef{Resource: s.target.Resource(), Kubeconfig: s.kubeconfig, Location: s.resolveLocation(run)}
	opened, release, err := session.NewRegistry(group).Open(newSource(run, ref))
	if err != nil {
		return nil
	}
	defer release()
	events, err := native.ListEvents(ctx, opened, s.target, ref)
	if err != nil {
		return nil
	}
	var warnings []native.Event
	for _, event := range events {
		if event.IsWarning() && len(warnings) < shownEvents {
			warnings = append(warnings, event)
		}
	}
	if warnings == nil {
		return events[:min(1, len(events))]
	}
	return warnings
}

// formatAge returns a duration in one unit.
func formatAge(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	}
	return fmt.Sprintf("%dh", int(d.Hours()))
}
