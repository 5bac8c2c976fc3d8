package supervisor

import (
	"slices"

	"github.com/localport-sh/localport/project"
)

// dependencyOrder sorts the services so that each comes after its dependencies. The parser has rejected circular ones.
func dependencyOrder(services []project.Service) []project.Service {
	byName := make(map[string]project.Service, len(services))
	for _, svc := range services {
		byName[svc.Name] = svc
	}
	var order []project.Service
	var visit func(project.Service)
	visit = func(svc project.Service) {
		if slices.ContainsFunc(order, func(other project.Service) bool { return other.Name == svc.Name }) {
			return
		}
		for _, name := range svc.DependsOn {
			visit(byName[name])
		}
		order = append(order, svc)
	}
	for _, svc := range services {
		visit(svc)
	}
	return order
}

// withDependencies adds the direct and indirect dependencies of the named services. The result is in dependency order.
func withDependencies(services []project.Service, names []string) []string {
	needed := slices.Clone(names)
	for _, svc := range slices.Backward(dependencyOrder(services)) {
		if slices.Contains(needed, svc.Name) {
			needed = append(needed, svc.DependsOn...)
		}
	}
	return inDependencyOrder(services, needed)
}

// withDependents adds the direct and indirect dependents of the named services. The result is in dependency order.
func withDependents(services []project.Service, names []string) []string {
	affected := slices.Clone(names)
	for _, svc := range dependencyOrder(services) {
		if slices.ContainsFunc(svc.DependsOn, func(name string) bool { return slices.Contains(affected, name) }) {
			affected = append(affected, svc.Name)
		}
	}
	return inDependencyOrder(services, affected)
}

// inDependencyOrder sorts the names so that each comes after its dependencies, and removes duplicates.
func inDependencyOrder(services []project.Service, names []string) []string {
	ordered := make([]string, 0, len(names))
	for _, svc := range dependencyOrder(services) {
		if slices.Contains(names, svc.Name) {
			ordered = append(ordered, svc.Name)
		}
	}
	return ordered
}

// without returns the names that are not in drop.
func without(names, drop []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return slices.Contains(drop, n) })
}
