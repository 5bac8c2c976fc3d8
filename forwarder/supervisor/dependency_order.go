package supervisor

import (
	"slices"

	"github.com/localport-sh/localport/project"
)

// dependencyOrder sorts the services so that each comes after its dependencies. The parser has rejected circular ones.
func dependencyOrder(services []project.Service) []string {
	byName := make(map[string]project.Service, len(services))
	for _, svc := range services {
		byName[svc.Name] = svc
	}
	var order []string
	var visit func(string)
	visit = func(name string) {
		if slices.Contains(order, name) {
			return
		}
		for _, dependency := range byName[name].DependsOn {
			visit(dependency)
		}
		order = append(order, name)
	}
	for _, svc := range services {
		visit(svc.Name)
	}
	return order
}

// withDependencies adds the dependencies of the named services. The result is in dependency order.
func withDependencies(services []project.Service, names []string) []string {
	needed := slices.Clone(names)
	for i := 0; i < len(needed); i++ {
		for _, svc := range services {
			if svc.Name == needed[i] {
				needed = append(needed, without(svc.DependsOn, needed)...)
			}
		}
	}
	return inDependencyOrder(services, needed)
}

// withDependents adds the dependents of the named services. The result is in dependency order.
func withDependents(services []project.Service, names []string) []string {
	affected := slices.Clone(names)
	for i := 0; i < len(affected); i++ {
		for _, svc := range services {
			if slices.Contains(svc.DependsOn, affected[i]) && !slices.Contains(affected, svc.Name) {
				affected = append(affected, svc.Name)
			}
		}
	}
	return inDependencyOrder(services, affected)
}

func inDependencyOrder(services []project.Service, names []string) []string {
	return slices.DeleteFunc(dependencyOrder(services), func(name string) bool { return !slices.Contains(names, name) })
}

func without(names, drop []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return slices.Contains(drop, n) })
}
