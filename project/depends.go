package project

import (
	"fmt"
	"slices"
	"strings"
)

// dependencies reports what depends_on names and is not there, and circles.
func (p *parsing) dependencies() {
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
				p.value(n.items[i], "%v", noService(name, known))
			}
		}
		if circle := p.circle(s.Name); circle != nil {
			p.value(n, "circular dependency: %s", strings.Join(circle, " → "))
		}
	}
}

func noService(name string, known []string) error {
	hint := ""
	if near := Nearest(name, known); near != "" {
		hint = didYouMean(near)
	}
	return fmt.Errorf("unknown service %q%s", name, hint)
}

// circle is the way from a service back to itself along depends_on, or nil.
func (p *parsing) circle(from string) []string {
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
