package native

import (
	"cmp"
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
	"github.com/localport-sh/localport/project"
)

// Target is what a forward connects to: a pod, an object that selects pods, or a selector.
type Target struct {
	Type     string // "pod", "service", "deployment", …
	Name     string
	Selector string // instead of Type and Name
	Port     string // a number or a name
}

// Resource is TYPE/NAME, or the arguments by which "kubectl get" finds the selector's pods.
func (t Target) Resource() string {
	if t.Selector != "" {
		return "pod -l " + t.Selector
	}
	return t.Type + "/" + t.Name
}

// String is the resource and the port.
func (t Target) String() string { return t.Resource() + ":" + t.Port }

// apiPrefix is the API path of each resource type.
var apiPrefix = map[string]string{
	"pod": "/api/v1", "service": "/api/v1",
	"deployment": "/apis/apps/v1", "statefulset": "/apis/apps/v1", "replicaset": "/apis/apps/v1", "daemonset": "/apis/apps/v1",
	"job": "/apis/batch/v1",
}

func objectPath(kind, namespace string) string {
	return apiPrefix[kind] + "/namespaces/" + url.PathEscape(namespace) + "/" + kind + "s"
}

// podOwner is an object that selects pods: a service, a deployment, a statefulset and so on.
type podOwner struct {
	Metadata session.ObjectMeta
	Spec     struct {
		Selector     json.RawMessage // a map of labels in a service, a LabelSelector in others
		ClusterIP    string
		Type         string // of a service: "ClusterIP", "ExternalName", …
		ExternalName string
		Ports        []servicePort
	}
}

type servicePort struct {
	Name       string
	Protocol   string
	Port       int
	TargetPort json.RawMessage // a number or a name; absent: the same as Port
}

// podSelector returns the selector of the owner's pods in the syntax of labelSelector parameters.
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

// findPort returns the target's port of a service; nil if the target is no service. A number or name may stand for a UDP port and a TCP
// port, as 53 of kube-dns does: that is the TCP port.
func (o *podOwner) findPort(t Target) (*servicePort, error) {
	if t.Type != "service" {
		return nil, nil
	}
	var available []string
	var protocolErr error
	for i, p := range o.Spec.Ports {
		if strconv.Itoa(p.Port) == t.Port || p.Name == t.Port {
			if isTCP(p.Protocol) {
				return &o.Spec.Ports[i], nil
			}
			protocolErr = fmt.Errorf("port %s of service %s is %s; only TCP can be forwarded", t.Port, t.Name, p.Protocol)
		}
		text := strconv.Itoa(p.Port)
		if p.Name != "" {
			text += " (" + p.Name + ")"
		}
		available = append(available, text)
	}
	if protocolErr != nil {
		return nil, protocolErr
	}
	what := "port "
	if _, err := strconv.Atoi(t.Port); err != nil {
		what = "port named "
	}
	return nil, fmt.Errorf("service %s does not have a %s%s; it has %s", t.Name, what, t.Port, cmp.Or(strings.Join(available, ", "), "none"))
}

// podPort returns the number of the target's port in a pod.
func (t Target) podPort(p *pod, owner *podOwner) (int, error) {
	if t.Type == "service" && t.Selector == "" {
		port, err := owner.findPort(t)
		if err != nil {
			return 0, err
		}
		if owner.Spec.ClusterIP == "None" { // headless: clients connect to the pods directly
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

// diagnose requests the target's object and returns what is wrong with it; nil if nothing is.
func (t Target) diagnose(ctx context.Context, s *session.Session, ref session.ResourceRef) error {
	if t.Selector != "" {
		return t.diagnoseNamespace(ctx, s, ref)
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
	hint := ref.NamespacedCommand("describe " + t.Resource())
	_, err := o.podSelector(t)
	switch {
	case err == nil:
		_, err = o.findPort(t)
	case o.Spec.Type == "ExternalName":
		err = fmt.Errorf("service %s is another name of the host %s and has no pods to forward to", t.Name, o.Spec.ExternalName)
		hint = t.externalNameHint(o)
	case t.Type == "service":
		hint = fmt.Sprintf("%s; %q lists its addresses and ports", t.otherTechnologyHint("ADDRESS", o), ref.NamespacedCommand("get endpointslices -l kubernetes.io/service-name="+t.Name))
	}
	if err != nil {
		return &forwarder.Failure{Class: forwarder.Permanent, RecheckAfter: session.RecheckInterval, Reason: err.Error(), Hint: hint}
	}
	return nil
}

// serviceHostPattern matches the DNS name of a service: its name and its namespace.
// https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/
var serviceHostPattern = project.LazyRegexp(`^([^.]+)\.([^.]+)\.svc(?:\..*)?$`)

// externalNameHint is what to write in place of a service that is another name of a host, which may be that of another service.
func (t Target) externalNameHint(o *podOwner) string {
	host := strings.TrimSuffix(o.Spec.ExternalName, ".")
	if match := serviceHostPattern().FindStringSubmatch(host); match != nil {
		return fmt.Sprintf("set resource_name = %q and namespace = %q", match[1], match[2])
	}
	return t.otherTechnologyHint(host, o)
}

// otherTechnologyHint is what to write in place of a service without pods to reach a host that it stands for.
func (t Target) otherTechnologyHint(host string, o *podOwner) string {
	portHint := ""
	if number := t.otherTechnologyPort(o); number != t.Port {
		portHint = "remote_port = " + number + ", "
	}
	return fmt.Sprintf(`set %[1]stechnology = "tcp" and connection = { remote_host = %[2]q } or, if only a server that you can log in to reaches it, `+
		`technology = "ssh" and connection = { host = "SERVER", remote_host = %[2]q }`, portHint, host)
}

// otherTechnologyPort is the port at a host that a service without pods stands for; PORT if it is not known. Only Kubernetes has names for
// ports. A service whose addresses someone has listed translates the port; one that is another name of a host does not.
func (t Target) otherTechnologyPort(o *podOwner) string {
	port, err := o.findPort(t)
	if err == nil && port != nil {
		if target := string(port.TargetPort); o.Spec.Type != "ExternalName" && o.Spec.ClusterIP != "None" && target != "" && target != "0" {
			if _, err := strconv.Atoi(target); err != nil {
				return "PORT"
			}
			return target
		}
		return strconv.Itoa(port.Port)
	}
	if _, err := strconv.Atoi(t.Port); err != nil {
		return "PORT"
	}
	return t.Port
}

// diagnoseMissing finds out whether the object is missing because its namespace does not exist.
func (t Target) diagnoseMissing(ctx context.Context, s *session.Session, ref session.ResourceRef, err error) error {
	failure := s.ClassifyError(err, ref)
	if failure.Class != forwarder.Permanent {
		return failure
	}
	if missing := t.diagnoseNamespace(ctx, s, ref); missing != nil {
		return missing
	}
	return failure
}

// diagnoseNamespace returns a failure if the namespace does not exist; nil if it does, or if that is not known.
func (t Target) diagnoseNamespace(ctx context.Context, s *session.Session, ref session.ResourceRef) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var namespace struct{ Metadata session.ObjectMeta }
	err := s.Get(ctx, "/api/v1/namespaces/"+url.PathEscape(ref.Location.Namespace), nil, &namespace)
	if err == nil {
		return nil
	}
	if f := s.ClassifyError(err, ref); f.Class == forwarder.Permanent {
		return f
	}
	return nil
}
