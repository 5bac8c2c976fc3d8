package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/localport-sh/localport/cmd/localport/internal/convert"
	"github.com/localport-sh/localport/cmd/localport/internal/convert/kubeservices"
	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/kubectl/catalog"
	"github.com/localport-sh/localport/forwarder/kubectl/session"
	"github.com/localport-sh/localport/project/environ"
)

// kubectlConfig lists services of a cluster, lets the user pick some, and writes those.
func (c initCmd) kubectlConfig(ctx context.Context, a *app, d *dialog, target string) (newConfig, error) {
	query := catalog.Query{
		Location: session.Location{Context: c.Context, Namespace: c.Namespace}, AllNamespaces: c.All,
		Dir: a.dir, Env: environ.Undo(environ.Parse(os.Environ())).List(), Log: a.err,
	}
	if d != nil {
		query.Terminal = &forwarder.Terminal{In: os.Stdin, Out: a.err.File(), Err: a.err.File()}
	}
	listed, err := catalog.List(ctx, query)
	if err != nil {
		return newConfig{}, explainCatalog(err)
	}
	if len(listed.Services) == 0 {
		return newConfig{}, noServicesError(listed)
	}
	services := listed.Services
	if d != nil {
		if services, err = pickServices(ctx, d, listed); err != nil {
			return newConfig{}, err
		}
	}
	candidates := kubeservices.Convert(services, listed.Location, localPorts())
	output.Info(a.err, "asking the %s which health check fits", countOf("service", len(candidates)))
	verifyChecks(ctx, candidates, target, query.Env)
	result := convert.Result{Findings: omissionFindings(listed)}
	for _, candidate := range candidates {
		result.Config.Services = append(result.Config.Services, candidate.Service)
	}
	result.Config.Comment = []string{"Services of " + describeLocation(listed.Location) + ". Review them, then run: localport allow"}
	if listed.Location.Context != "" {
		result.Config.Comment = append(result.Config.Comment, "A context that differs from person to person belongs in .localport.local.toml, beside this file.")
	}
	return newConfig{text: result.Text(), findings: result.Findings}, nil
}

func countOf(word string, n int) string { return fmt.Sprintf("%d %s", n, plural(word, n)) }

// explainCatalog adds the hint of a failure.
func explainCatalog(err error) error {
	err = fmt.Errorf("list the services of the cluster: %w", err)
	if failure, ok := errors.AsType[*forwarder.Failure](err); ok && failure.Hint != "" {
		return output.WithHint(err, failure.Hint)
	}
	return err
}

func describeLocation(location session.Location) string {
	where := "all namespaces"
	if location.Namespace != "" {
		where = "the namespace " + location.Namespace
	}
	if location.Context != "" {
		where += " of the context " + location.Context
	}
	return where
}

// noServicesError says that there is nothing to forward, and why what is there was left out.
func noServicesError(listed catalog.Catalog) error {
	err := fmt.Errorf("%s has no service with a TCP port", describeLocation(listed.Location))
	for _, finding := range omissionFindings(listed) {
		err = fmt.Errorf("%w; %s", err, finding)
	}
	if listed.Location.Namespace == "" {
		return output.WithHint(err, "another context: localport init --from-kubectl --context NAME")
	}
	return output.WithHint(err, "another namespace: localport init --from-kubectl -n NAME; all of them: --all")
}

// omissionFindings says what was left out of a list of services.
func omissionFindings(listed catalog.Catalog) (findings []convert.Finding) {
	for _, omission := range listed.Omissions {
		key := "service " + omission.Name
		if listed.Location.Namespace == "" {
			key = "service " + omission.Namespace + "/" + omission.Name
		}
		if omission.Port != "" {
			key += " port " + omission.Port
		}
		findings = append(findings, convert.Finding{Key: key, Message: "left out: " + omission.Reason})
	}
	if listed.IsTruncated {
		findings = append(findings, convert.Finding{Message: fmt.Sprintf("only the first %d services are listed; name a namespace with -n for others", catalog.MaxServices)})
	}
	return findings
}

// pickServices shows the services and returns those that the user picks.
func pickServices(ctx context.Context, d *dialog, listed catalog.Catalog) ([]catalog.Service, error) {
	d.printf("Services in %s:\n", describeLocation(listed.Location))
	var names, ports []string
	width := 0
	for _, svc := range listed.Services {
		name := svc.Name
		if listed.Location.Namespace == "" {
			name = svc.Namespace + "/" + svc.Name
		}
		names, ports = append(names, name), append(ports, describePorts(svc))
		width = max(width, len(name))
	}
	width = min(width, 40)
	for i := range names {
		d.printf("%4d  %-*s  %s\n", i+1, width, names[i], ports[i])
	}
	var picked []int
	_, err := d.askValid(ctx, "Which ones? Numbers such as 1,3-5, or all", "all", func(text string) (err error) {
		picked, err = parseSelection(text, len(listed.Services))
		return err
	})
	services := make([]catalog.Service, len(picked))
	for i, index := range picked {
		services[i] = listed.Services[index]
	}
	return services, err
}

// describePorts returns "5432 (postgres), 9187 (metrics)", cut to what fits beside the name.
func describePorts(svc catalog.Service) string {
	texts := make([]string, len(svc.Ports))
	for i, port := range svc.Ports {
		texts[i] = fmt.Sprint(port.Number)
		if port.Name != "" {
			texts[i] += " (" + port.Name + ")"
		}
	}
	const maxPorts = 2
	if len(texts) > maxPorts {
		texts = append(slices.Clip(texts[:maxPorts]), fmt.Sprintf("%d more", len(texts)-maxPorts))
	}
	return strings.Join(texts, ", ")
}
