package project

import (
	"fmt"
	"slices"
	"strings"
)

// checkDependencies reports unknown services in depends_on and circular dependencies, and advises about optional services that are
// needed nevertheless.
func (p *parser) checkDependencies() {
	dependencies := map[string][]string{}
	var known []string
	for _, s := range p.project.Services {
		dependencies[s.Name] = s.DependsOn
		known = append(known, s.Name)
	}
	for _, s := range p.project.Services {
		n := p.root.member("services", s.Name, "depends_on")
		if n == nil || n.kind != arrayKind {
			continue // reported when the service was read
		}
		for i, name := range s.DependsOn {
			if !slices.Contains(known, name) {
				p.reportError(n.children[i], unknownServiceError(name, known))
			}
		}
		if cycle := findCycle(dependencies, s.Name); cycle != nil {
			p.reportValue(n, "circular dependency: %s", strings.Join(cycle, " → "))
		}
	}
	for _, s := range p.project.Services {
		i := slices.IndexFunc(p.project.Services, func(other Service) bool {
			return !other.Optional && slices.Contains(other.DependsOn, s.Name)
		})
		if n := p.root.member("services", s.Name, "optional"); n != nil && s.Optional && i >= 0 {
			p.advice.reportValue(n, "has no effect: service %q, which is not optional, depends on it", p.project.Services[i].Name)
		}
	}
}

func unknownServiceError(name string, known []string) error {
	advice := SuggestNearest(name, known)
	if names := slices.Sorted(slices.Values(known)); advice == "" && len(names) > 0 && len(names) <= maxListedNames {
		advice = "; services: " + strings.Join(names, ", ")
	}
	return fmt.Errorf("unknown service %q%s", name, advice)
}

// findCycle returns the path from a service back to itself along its dependencies, or nil.
func findCycle(dependencies map[string][]string, from string) []string {
	seen := map[string]bool{}
	var walk func(name string) []string
	walk = func(name string) []string {
		for _, next := range dependencies[name] {
			if next == from {
				return []string{name, next}
			}
			if seen[next] {
				continue
			}
			seen[next] = true
			if rest := walk(next); rest != nil {
				return append([]string{name}, rest...)
			}
		}
		return nil
	}
	return walk(from)
}
