package client

import (
	"slices"
	"strconv"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/environ"
)

// Variables returns the variables that the project sets: each service's host and port, then those of [env]. The error is a
// *project.InvalidError for the entries of [env] that could not be resolved; the others are returned.
func Variables(view api.ProjectView, base environ.Env) ([]project.Variable, error) {
	return VariablesFrom(view, base.Lookup)
}

// VariablesFrom is Variables with a function that looks up the variables of the environment that [env] uses.
func VariablesFrom(view api.ProjectView, lookup func(name string) (string, bool)) ([]project.Variable, error) {
	var variables []project.Variable
	services := make(map[string]project.Endpoint, len(view.Services))
	for _, svc := range view.Services {
		services[svc.Name] = project.Endpoint{Host: svc.Host, Port: svc.Port, IsOurs: svc.Held}
		if svc.Held {
			variables = append(variables, endpointVariables(svc)...)
		}
	}
	r := project.ResolveEnv(view.Env, project.EnvScope{Lookup: lookup, DotEnv: view.DotEnv, Services: services})
	for _, variable := range r.Variables {
		variables = setVariable(variables, variable)
	}
	if len(r.Errors) > 0 {
		return variables, &project.InvalidError{Diagnostics: r.Errors}
	}
	return variables, nil
}

// endpointVariables returns the two variables for the address of a service.
func endpointVariables(svc api.ServiceView) []project.Variable {
	prefix := project.EnvPrefix(svc.Name)
	return []project.Variable{
		{Name: prefix + "_HOST", Value: svc.Host},
		{Name: prefix + "_PORT", Value: strconv.Itoa(svc.Port)},
	}
}

// setVariable adds a variable, or replaces the one of the same name.
func setVariable(variables []project.Variable, variable project.Variable) []project.Variable {
	i := slices.IndexFunc(variables, func(v project.Variable) bool { return v.Name == variable.Name })
	if i < 0 {
		return append(variables, variable)
	}
	variables[i] = variable
	return variables
}
