package project

import (
	"fmt"
	"slices"
	"strings"
)

// checkDependencies reports unknown services in depends_on, and circular dependencies.
func (p *parser) checkDependencies() {
	known := make([]string, 0, len(p.project.Services))
	for _, s := range p.project.Services {
		known = append(known, s.Name)
	}
	for _, s := range p.project.Services {
		n := p.root.member("services", s.Name).member("depends_on")
		if n == nil || n.kind != arrayKind {
			continue // reported where it was read
		}
		for i, name := range s.DependsOn {
			if i < len(n.items) && !slices.Contains(known, name) {
				p.reportValue(n.items[i], "%v", unknownServiceError(name, known))
			}
		}
		if circle := p.findCycle(s.Name); circle != nil {
			p.reportValue(n, "circular dependency: %s", strings.Join(circle, " → "))
		}
	}
}

func unknownServiceError(name string, known []string) error {
	hint := ""
	if nearest := NearestName(name, known); nearest != "" {
		hint = didYouMean(nearest)
	}
	return fmt.Errorf("unknown service %q%s", name, hint)
}

// findCycle returns the path from a service back to itself along depends_on, or nil.
func (p *parser) findCycle(from string) []string {
	on := make(map[string][]string)
	for _, s := range p.project.Services {
		on[s.Name] = s.DependsOn
	}
	seen := map[string]bool{}
	var walk func(name string) []string
	walk = func(name string) []string {
		for _, next := range on[name] {
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
