package native

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/kubectl/session"
)

// Target is what a forward leads to: a pod, what pods are chosen by, or a selector.
type Target struct {
	Type     string // "pod", "service", "deployment", …
	Name     string
	Selector string // instead of the two
	Port     string // a number or a name
}

// Resource is TYPE/NAME, or the selector as kubectl get takes it.
func (t Target) Resource() string {
	if t.Selector != "" {
		return "pod -l " + t.Selector
	}
	return t.Type + "/" + t.Name
}

// String is the resource and the port.
func (t Target) String() string { return t.Resource() + ":" + t.Port }

// group is where the API server has the objects of a type.
var group = map[string]string{
	"pod": "/api/v1", "service": "/api/v1",
	"deployment": "/apis/apps/v1", "statefulset": "/apis/apps/v1", "replicaset": "/apis/apps/v1", "daemonset": "/apis/apps/v1",
	"job": "/apis/batch/v1",
}

func path(kind, namespace string) string {
	return group[kind] + "/namespaces/" + url.PathEscape(namespace) + "/" + kind + "s"
}

// owner is a service, or one of those that make pods: what decides which pods are the target's.
type owner struct {
	Metadata session.Meta
	Spec     struct {
		Selector  json.RawMessage // labels of a service, a selector of the others
		ClusterIP string
		Type      string
		Ports     []servicePort
	}
}

type servicePort struct {
	Name       string
	Protocol   string
	Port       int
	TargetPort json.RawMessage // a number or a name; absent: as Port
}

// labels is the selector of the owner's pods, as the API server takes it.
func (o *owner) labels(t Target) (string, error) {
	if t.Type == "service" {
		var labels map[string]string
		_ = json.Unmarshal(o.Spec.Selector, &labels)
		if len(labels) == 0 {
			return "", fmt.Errorf("service %s has no selector, so it has no pods to forward to", t.Name)
		}
		return joinLabels(labels), nil
	}
	var selector struct {
		MatchLabels      map[string]string
		MatchExpressions []struct {
			Key, Operator string
			Values        []string
		}
	}
	_ = json.Unmarshal(o.Spec.Selector, &selector)
	var terms []string
	if text := joinLabels(selector.MatchLabels); text != "" {
		terms = append(terms, text)
	}
	for _, e := range selector.MatchExpressions {
		switch e.Operator {
		case "Exists":
			terms = append(terms, e.Key)
		case "DoesNotExist":
			terms = append(terms, "!"+e.Key)
		default: // In, NotIn
			terms = append(terms, fmt.Sprintf("%s %s (%s)", e.Key, strings.ToLower(e.Operator), strings.Join(e.Values, ",")))
		}
	}
	if len(terms) == 0 {
		return "", fmt.Errorf("%s %s selects no pods", t.Type, t.Name)
	}
	return strings.Join(terms, ","), nil
}

func joinLabels(labels map[string]string) string {
	var terms []string
	for key, value := range labels {
		terms = append(terms, key+"="+value)
	}
	slices.Sort(terms)
	return strings.Join(terms, ",")
}

// port finds the service's port, nil for what is no service.
func (o *owner) port(t Target) (*servicePort, error) {
	if t.Type != "service" {
		return nil, nil
	}
	var have []string
	for i, p := range o.Spec.Ports {
		if strconv.Itoa(p.Port) == t.Port || p.Name == t.Port {
			if p.Protocol != "" && p.Protocol != "TCP" {
				return nil, fmt.Errorf("port %s of service %s is %s; only TCP can be forwarded", t.Port, t.Name, p.Protocol)
			}
			return &o.Spec.Ports[i], nil
		}
		text := strconv.Itoa(p.Port)
		if p.Name != "" {
			text += " (" + p.Name + ")"
		}
		have = append(have, text)
	}
	what := "port "
	if _, err := strconv.Atoi(t.Port); err != nil {
		what = "port named "
	}
	return nil, fmt.Errorf("service %s does not have a %s%s; it has %s", t.Name, what, t.Port, strings.Join(have, ", "))
}

// portOf is the number of the port in a pod.
func (t Target) portOf(p *pod, of *owner) (int, error) {
	if t.Type == "service" && t.Selector == "" {
		sp, err := of.port(t)
		if err != nil {
			return 0, err
		}
		if of.Spec.ClusterIP == "None" { // its clients connect to the pods themselves
			return sp.Port, nil
		}
		var number int
		var name string
		if json.Unmarshal(sp.TargetPort, &number) == nil && number > 0 {
			return number, nil
		}
		if json.Unmarshal(sp.TargetPort, &name) == nil && name != "" {
			return p.port(name)
		}
		return sp.Port, nil
	}
	if number, err := strconv.Atoi(t.Port); err == nil {
		return number, nil
	}
	return p.port(t.Port)
}

// pod is what there is to know of a pod.
type pod struct {
	Metadata session.Meta
	Spec     struct {
		NodeName       string
		Containers     []container
		InitContainers []container
	}
	Status struct {
		Phase      string
		Reason     string
		Message    string
		Conditions []struct {
			Type, Status, Reason, Message string
		}
		ContainerStatuses     []containerStatus
		InitContainerStatuses []containerStatus
	}
}

type container struct {
	Ports []struct {
		Name          string
		ContainerPort int
		Protocol      string
	}
}

type containerStatus struct {
	Name  string
	Ready bool
	State struct {
		Waiting *struct{ Reason, Message string }
	}
	RestartCount int
}

// restarts is how often its containers were begun anew.
func (p *pod) restarts() (n int) {
	for _, c := range p.Status.ContainerStatuses {
		n += c.RestartCount
	}
	return n
}

func (p *pod) port(name string) (int, error) {
	var have []string
	for _, c := range slices.Concat(p.Spec.Containers, p.Spec.InitContainers) {
		for _, port := range c.Ports {
			if port.Name == name {
				return port.ContainerPort, nil
			}
			if port.Name != "" {
				have = append(have, port.Name)
			}
		}
	}
	return 0, fmt.Errorf("pod %s does not have a port named %s; it names %s", p.Metadata.Name, name, either(strings.Join(have, ", "), "none"))
}

func either(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

func (p *pod) terminating() bool { return p.Metadata.Deletion != nil }

func (p *pod) running() bool { return p.Status.Phase == "Running" && !p.terminating() }

func (p *pod) ready() bool {
	if !p.running() {
		return false
	}
	for _, c := range p.Status.Conditions {
		if c.Type == "Ready" {
			return c.Status == "True"
		}
	}
	return false
}

// state is why a pod is not ready, in the words that kubectl get pods has for it.
func (p *pod) state() string {
	if p.terminating() {
		return "Terminating"
	}
	for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if w := c.State.Waiting; w != nil && w.Reason != "" && w.Reason != "PodInitializing" {
			return p.Status.Phase + ": " + describe(w.Reason, w.Message)
		}
	}
	for _, kind := range []string{"PodScheduled", "Ready"} {
		for _, c := range p.Status.Conditions {
			if c.Type == kind && c.Status != "True" {
				text := p.Status.Phase
				if p.Status.Phase == "Running" {
					text += ", but not Ready"
				}
				return describe(text, either(c.Message, c.Reason))
			}
		}
	}
	return describe(either(p.Status.Phase, "Pending"), either(p.Status.Message, p.Status.Reason))
}

func describe(what, why string) string {
	if why == "" {
		return what
	}
	const enough = 160
	if len(why) > enough {
		why = why[:enough] + "…"
	}
	return what + ": " + why
}

// pods are the pods of a target as they are at one moment.
type pods []*pod

func decode(objects []json.RawMessage) (pods, error) {
	all := make(pods, 0, len(objects))
	for _, o := range objects {
		p := new(pod)
		if err := json.Unmarshal(o, p); err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	// The newest first; one created in the same second as another is as good.
	slices.SortFunc(all, func(a, b *pod) int {
		if c := b.Metadata.Created.Compare(a.Metadata.Created); c != 0 {
			return c
		}
		return strings.Compare(b.Metadata.Name, a.Metadata.Name)
	})
	return all, nil
}

// best is the newest pod that is well, one that did not just refuse if there is a choice.
func (ps pods) best(well func(*pod) bool, refused func(uid string) bool) *pod {
	var second *pod
	for _, p := range ps {
		if !well(p) {
			continue
		}
		if !refused(p.Metadata.UID) {
			return p
		}
		if second == nil {
			second = p
		}
	}
	return second
}

// lookup asks for the object that decides which pods are meant, once, and says what is wrong with it.
func (t Target) lookup(ctx context.Context, s *session.Session, words session.Words) error {
	if t.Selector != "" {
		return nil
	}
	var o owner
	err := s.Get(ctx, path(t.Type, words.Place.Namespace)+"/"+url.PathEscape(t.Name), nil, &o)
	if err != nil {
		return t.missing(ctx, s, words, err)
	}
	if t.Type == "pod" {
		return nil
	}
	return t.fits(&o, words)
}

func (t Target) fits(o *owner, words session.Words) error {
	_, err := o.labels(t)
	if err == nil {
		_, err = o.port(t)
	}
	if err != nil {
		return &forwarder.Failure{Class: forwarder.Permanent, Reason: err.Error(), Hint: words.Namespaced("describe " + t.Resource())}
	}
	return nil
}

// missing finds out whether it is the namespace that does not exist.
func (t Target) missing(ctx context.Context, s *session.Session, words session.Words, err error) error {
	failure := s.Failure(err, words)
	if failure.Class != forwarder.Permanent {
		return failure
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var namespace struct{ Metadata session.Meta }
	at := s.Get(ctx, "/api/v1/namespaces/"+url.PathEscape(words.Place.Namespace), nil, &namespace)
	if at != nil {
		if f := s.Failure(at, words); f.Class == forwarder.Permanent {
			return f
		}
	}
	return failure
}
