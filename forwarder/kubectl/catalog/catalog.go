// Package catalog lists the services of a cluster, through the same client as the forwards: the user's kubeconfig with its login helpers,
// proxies and certificates. A user needs the permission to list services only.
package catalog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/kubectl/session"
	"github.com/localport-sh/localport/forwarder/tasks"
)

// MaxServices is the number of services after which a list ends.
const MaxServices = 200

// Query is what to list.
type Query struct {
	Location      session.Location // an empty field is completed from the kubeconfig
	AllNamespaces bool
	Dir           string    // of login helpers
	Env           []string  // of login helpers; it sets KUBECONFIG
	Log           io.Writer // takes what login helpers print
	// Terminal is where a login helper that needs the user runs; nil: it fails.
	Terminal *forwarder.Terminal
}

// Catalog is a list of services.
type Catalog struct {
	Location    session.Location // whose namespace is empty if all were listed
	Services    []Service        // in the order of the server: by namespace, then by name
	Omissions   []Omission       // in the same order
	IsTruncated bool             // there are more than MaxServices
}

// Service is a service with at least one TCP port, to whose pods a forward leads.
type Service struct {
	Namespace string
	Name      string
	Ports     []Port
}

// Port is a TCP port of a service.
type Port struct {
	Number      int
	Name        string // empty if the service has only one port, perhaps
	AppProtocol string // as "http" or "kubernetes.io/h2c"; often empty
}

// Omission is a service, or a port of one, that is not in the list.
type Omission struct {
	Namespace string
	Name      string // of the service; empty: the whole namespace
	Port      string // empty: the whole service
	Reason    string
}

// List lists services. Of all namespaces, it leaves out kube-system. An error is a *forwarder.Failure, or that of ctx.
func List(ctx context.Context, q Query) (Catalog, error) {
	group := tasks.New(ctx)
	defer group.Close()
	registry := session.NewRegistry(group)
	src, err := q.source()
	if err != nil {
		return Catalog{}, err
	}
	catalog, err := list(ctx, registry, src, q.AllNamespaces)
	failure, isFailure := errors.AsType[*forwarder.Failure](err)
	if !isFailure || failure.Class != forwarder.NeedsUser || !src.HasLoginHelper() {
		return catalog, err
	}
	if q.Terminal != nil {
		if err := logIn(ctx, registry, src, *q.Terminal); err != nil {
			return Catalog{}, err
		}
		return list(ctx, registry, src, q.AllNamespaces)
	}
	failure.Hint = fmt.Sprintf("log in to the cluster at a terminal, with %q", src.Command("get namespaces"))
	return Catalog{}, failure
}

// source returns what describes the session.
func (q Query) source() (session.Source, error) {
	files := session.KubeconfigFiles("", q.Env, q.Dir)
	location := q.Location.Complete(files)
	if location.Context == "" && location.Namespace == "" {
		location.Namespace = session.InClusterNamespace(q.Env)
	}
	if location.Context == "" && session.InClusterNamespace(q.Env) == "" {
		return session.Source{}, &forwarder.Failure{
			Class: forwarder.NeedsUser, Reason: fmt.Sprintf("no kubeconfig has a current context (looked in %s)", strings.Join(files, ", ")),
			Hint: "log in to a cluster, set KUBECONFIG to its file, or name a context of it with --context",
		}
	}
	return session.Source{ResourceRef: session.ResourceRef{Resource: "service", Location: location}, Dir: q.Dir, Env: q.Env, Log: q.Log}, nil
}

// logIn runs the login helper on the terminal, for those that ask the user.
func logIn(ctx context.Context, registry *session.Registry, src session.Source, terminal forwarder.Terminal) error {
	credential, _, err := session.RunLoginHelper(ctx, src, terminal)
	if err == nil {
		err = registry.SetCredential(src, credential)
	}
	if err != nil {
		return &forwarder.Failure{Class: forwarder.NeedsUser, Reason: err.Error(), Hint: src.Command("get namespaces")}
	}
	return nil
}

// list lists services with a new session.
func list(ctx context.Context, registry *session.Registry, src session.Source, allNamespaces bool) (Catalog, error) {
	s, release, err := registry.Open(src)
	if err != nil {
		return Catalog{}, err
	}
	defer release()
	catalog := Catalog{Location: src.Location}
	path := "/api/v1/namespaces/" + url.PathEscape(src.Location.Namespace) + "/services"
	if allNamespaces {
		catalog.Location.Namespace, path = "", "/api/v1/services"
	}
	for next := ""; ; {
		var page servicePage
		if err := s.Get(ctx, path, url.Values{"limit": {"500"}, "continue": {next}}, &page); err != nil {
			return Catalog{}, classify(ctx, s, err, src)
		}
		for _, item := range page.Items {
			catalog.add(item, allNamespaces)
		}
		next = page.Metadata.Continue
		if next == "" || catalog.IsTruncated {
			break
		}
	}
	if len(catalog.Services)+len(catalog.Omissions) == 0 && !allNamespaces {
		return catalog, checkNamespace(ctx, s, src)
	}
	return catalog, nil
}

func classify(ctx context.Context, s *session.Session, err error, src session.Source) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return s.ClassifyError(err, src.ResourceRef)
}

// checkNamespace returns a failure if there is no such namespace: the server lists it as empty. Whoever may not see namespaces gets none.
func checkNamespace(ctx context.Context, s *session.Session, src session.Source) error {
	err := s.Get(ctx, "/api/v1/namespaces/"+url.PathEscape(src.Location.Namespace), nil, &struct{}{})
	if status, ok := errors.AsType[*session.StatusError](err); ok && status.Code == http.StatusNotFound {
		return classify(ctx, s, err, src)
	}
	return nil
}

// servicePage is a part of a ServiceList (https://kubernetes.io/docs/reference/kubernetes-api/service-resources/service-v1/).
type servicePage struct {
	Metadata struct{ Continue string }
	Items    []serviceObject
}

type serviceObject struct {
	Metadata struct{ Name, Namespace string }
	Spec     struct {
		Type      string
		ClusterIP string
		Selector  map[string]string
		Ports     []struct {
			Name, Protocol, AppProtocol string
			Port                        int
		}
	}
}

// systemNamespace holds the cluster's own services.
const systemNamespace = "kube-system"

// add adds a service to the list or, with the reason, to the omissions.
func (c *Catalog) add(item serviceObject, allNamespaces bool) {
	if allNamespaces && item.Metadata.Namespace == systemNamespace {
		return
	}
	omit := func(port, reason string) {
		c.Omissions = append(c.Omissions, Omission{item.Metadata.Namespace, item.Metadata.Name, port, reason})
	}
	switch {
	case item.Spec.Type == "ExternalName":
		omit("", "an ExternalName has no pods")
		return
	case len(item.Spec.Selector) == 0:
		omit("", "it has no selector, so it has no pods to forward to")
		return
	case item.Spec.ClusterIP == "None":
		omit("", "headless; usually another service leads to the same pods")
		return
	}
	svc := Service{Namespace: item.Metadata.Namespace, Name: item.Metadata.Name}
	for _, port := range item.Spec.Ports {
		if port.Protocol != "" && port.Protocol != "TCP" {
			omit(fmt.Sprint(port.Port), fmt.Sprintf("%s; only TCP can be forwarded", port.Protocol))
			continue
		}
		svc.Ports = append(svc.Ports, Port{port.Port, port.Name, port.AppProtocol})
	}
	switch {
	case len(svc.Ports) == 0:
	case len(c.Services) == MaxServices:
		c.IsTruncated = true
	default:
		c.Services = append(c.Services, svc)
	}
}
