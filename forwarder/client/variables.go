package client

import (
	"strconv"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/environ"
)

// Variables are what the project sets in an environment: each service's host and port, then [env]. The error names
// the entries of [env] that could not be resolved; the rest stand.
func Variables(view api.ProjectView, base environ.Env) ([]project.Variable, error) {
	var variables []project.Variable
	services := make(map[string]project.Endpoint, len(view.Services))
	for _, svc := range view.Services {
		services[svc.Name] = project.Endpoint{Host: svc.Host, Port: svc.Port, IsOurs: svc.Held}
		if svc.Held {
			variables = append(variables, endpointVariables(svc)...)
		}
	}
	r := project.ResolveEnv(view.Env, project.EnvScope{Lookup: base.Lookup, DotEnv: view.DotEnv, Services: services})
	for _, variable := range r.Variables {
		variables = setVariable(variables, variable)
	}
	if len(r.Errors) > 0 {
		return variables, &project.InvalidError{Diagnostics: r.Errors}
	}
	return variables, nil
}

// endpointVariables is a service's own two variables.
func endpointVariables(svc api.ServiceView) []project.Variable {
	prefix := project.EnvPrefix(svc.Name)
	return []project.Variable{
		{Name: prefix + "_HOST", Value: svc.Host},
		{Name: prefix + "_PORT", Value: strconv.Itoa(svc.Port)},
	}
}

// setVariable adds a pair, or replaces the one of that name.
func setVariable(variables []project.Variable, variable project.Variable) []project.Variable {
	for i := range variables {
		if variables[i].Name == variable.Name {
			variables[i] = variable
			return variables
		}
	}
	return append(variables, variable)
}
