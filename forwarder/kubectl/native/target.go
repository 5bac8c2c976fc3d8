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

// apiPrefix is where the API server has the objects of a type.
var apiPrefix = map[string]string{
	"pod": "/api/v1", "service": "/api/v1",
	"deployment": "/apis/apps/v1", "statefulset": "/apis/apps/v1", "replicaset": "/apis/apps/v1", "daemonset": "/apis/apps/v1",
	"job": "/apis/batch/v1",
}

func objectPath(kind, namespace string) string {
	return apiPrefix[kind] + "/namespaces/" + url.PathEscape(namespace) + "/" + kind + "s"
}

// podOwner is a service, or one of those that make pods: what decides which pods are the target's.
type podOwner struct {
	Metadata session.ObjectMeta
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

// podSelector is the selector of the owner's pods, as the API server takes it.
func (o *podOwner) podSelector(t Target) (string, error) {
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

// findPort finds the service's port, nil for what is no service.
func (o *podOwner) findPort(t Target) (*servicePort, error) {
	if t.Type != "service" {
		return nil, nil
	}
	var available []string
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
		available = append(available, text)
	}
	what := "port "
	if _, err := strconv.Atoi(t.Port); err != nil {
		what = "port named "
	}
	return nil, fmt.Errorf("service %s does not have a %s%s; it has %s", t.Name, what, t.Port, strings.Join(available, ", "))
}

// podPort is the number of the port in a pod.
func (t Target) podPort(p *pod, owner *podOwner) (int, error) {
	if t.Type == "service" && t.Selector == "" {
		port, err := owner.findPort(t)
		if err != nil {
			return 0, err
		}
		if owner.Spec.ClusterIP == "None" { // its clients connect to the pods themselves
			return port.Port, nil
		}
		var number int
		var name string
		if json.Unmarshal(port.TargetPort, &number) == nil && number > 0 {
			return number, nil
		}
		if json.Unmarshal(port.TargetPort, &name) == nil && name != "" {
			return p.namedPort(name)
		}
		return port.Port, nil
	}
	if number, err := strconv.Atoi(t.Port); err == nil {
		return number, nil
	}
	return p.namedPort(t.Port)
}

// pod is what there is to know of a pod.
type pod struct {
	Metadata session.ObjectMeta
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

// restartCount is how often its containers were begun anew.
func (p *pod) restartCount() (n int) {
	for _, c := range p.Status.ContainerStatuses {
		n += c.RestartCount
	}
	return n
}

func (p *pod) namedPort(name string) (int, error) {
	var available []string
	for _, c := range slices.Concat(p.Spec.Containers, p.Spec.InitContainers) {
		for _, port := range c.Ports {
			if port.Name == name {
				return port.ContainerPort, nil
			}
			if port.Name != "" {
				available = append(available, port.Name)
			}
		}
	}
	return 0, fmt.Errorf("pod %s does not have a port named %s; it names %s", p.Metadata.Name, name, either(strings.Join(available, ", "), "none"))
}

func either(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

func (p *pod) isTerminating() bool { return p.Metadata.Deletion != nil }

func (p *pod) isRunning() bool { return p.Status.Phase == "Running" && !p.isTerminating() }

func (p *pod) isReady() bool {
	if !p.isRunning() {
		return false
	}
	for _, c := range p.Status.Conditions {
		if c.Type == "Ready" {
			return c.Status == "True"
		}
	}
	return false
}

// describeState is why a pod is not ready, in the words that kubectl get pods has for it.
func (p *pod) describeState() string {
	if p.isTerminating() {
		return "Terminating"
	}
	for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if w := c.State.Waiting; w != nil && w.Reason != "" && w.Reason != "PodInitializing" {
			return p.Status.Phase + ": " + joinReason(w.Reason, w.Message)
		}
	}
	for _, kind := range []string{"PodScheduled", "Ready"} {
		for _, c := range p.Status.Conditions {
			if c.Type == kind && c.Status != "True" {
				text := p.Status.Phase
				if p.Status.Phase == "Running" {
					text += ", but not Ready"
				}
				return joinReason(text, either(c.Message, c.Reason))
			}
		}
	}
	return joinReason(either(p.Status.Phase, "Pending"), either(p.Status.Message, p.Status.Reason))
}

func joinReason(what, why string) string {
	if why == "" {
		return what
	}
	const maxLength = 160
	if len(why) > maxLength {
		why = why[:maxLength] + "…"
	}
	return what + ": " + why
}

// podList are the pods of a target as they are at one moment.
type podList []*pod

func decodePods(objects []json.RawMessage) (podList, error) {
	all := make(podList, 0, len(objects))
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

// newest is the newest pod that is well, one that did not just refuse if there is a choice.
func (ps podList) newest(isEligible func(*pod) bool, hasRefused func(uid string) bool) *pod {
	var refusing *pod
	for _, p := range ps {
		if !isEligible(p) {
			continue
		}
		if !hasRefused(p.Metadata.UID) {
			return p
		}
		if refusing == nil {
			refusing = p
		}
	}
	return refusing
}

// diagnose asks for the object that decides which pods are meant, once, and says what is wrong with it.
func (t Target) diagnose(ctx context.Context, s *session.Session, ref session.ResourceRef) error {
	if t.Selector != "" {
		return nil
	}
	var o podOwner
	err := s.Get(ctx, objectPath(t.Type, ref.Location.Namespace)+"/"+url.PathEscape(t.Name), nil, &o)
	if err != nil {
		return t.diagnoseMissing(ctx, s, ref, err)
	}
	if t.Type == "pod" {
		return nil
	}
	return t.checkOwner(&o, ref)
}

func (t Target) checkOwner(o *podOwner, ref session.ResourceRef) error {
	_, err := o.podSelector(t)
	if err == nil {
		_, err = o.findPort(t)
	}
	if err != nil {
		return &forwarder.Failure{Class: forwarder.Permanent, Reason: err.Error(), Hint: ref.NamespacedCommand("describe " + t.Resource())}
	}
	return nil
}

// diagnoseMissing finds out whether it is the namespace that does not exist.
func (t Target) diagnoseMissing(ctx context.Context, s *session.Session, ref session.ResourceRef, err error) error {
	failure := s.ClassifyError(err, ref)
	if failure.Class != forwarder.Permanent {
		return failure
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var namespace struct{ Metadata session.ObjectMeta }
	namespaceErr := s.Get(ctx, "/api/v1/namespaces/"+url.PathEscape(ref.Location.Namespace), nil, &namespace)
	if namespaceErr != nil {
		if f := s.ClassifyError(namespaceErr, ref); f.Class == forwarder.Permanent {
			return f
		}
	}
	return failure
}
