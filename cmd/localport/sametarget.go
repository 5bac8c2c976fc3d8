package main

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/localport-sh/localport/project"
)

// targetKeys are the keys of connection that decide where a service leads. The others decide how.
var targetKeys = []string{
	"resource_type", "resource_name", "selector", "namespace", "context", "kubeconfig",
	"host", "user", "port", "config_file", "jump", "socks", "reverse", "remote_host",
}

// findSameTarget returns the service that leads where svc does; the one of its name if there are several. The target of a command is unknown, so it equals no other.
func findSameTarget(services []project.Service, svc project.Service) (project.Service, bool) {
	isSame := func(other project.Service) bool {
		return svc.Technology != "command" && other.Technology == svc.Technology && other.RemotePort == svc.RemotePort &&
			(!svc.Reverse || other.LocalPort == svc.LocalPort) &&
			!slices.ContainsFunc(targetKeys, func(key string) bool {
				return !reflect.DeepEqual(other.Connection.Settings[key], svc.Connection.Settings[key])
			})
	}
	if at := slices.IndexFunc(services, func(other project.Service) bool { return other.Name == svc.Name && isSame(other) }); at >= 0 {
		return services[at], true
	}
	if at := slices.IndexFunc(services, isSame); at >= 0 {
		return services[at], true
	}
	return project.Service{}, false
}

func describeSameTarget(other project.Service) string {
	return fmt.Sprintf("the project has this target already: service %q at %s", other.Name, other.Addr())
}

// servicesOf returns the services of the project's files; none if the files have mistakes. An unset variable does not count as a mistake.
func (c *configChange) servicesOf(files *project.Files) []project.Service {
	options := c.project.parseOptions()
	getenv := options.Getenv
	options.Getenv = func(name string) (string, bool) {
		value, isSet := getenv(name)
		if !isSet && !files.HasVariable(name) {
			return "unset", true
		}
		return value, isSet
	}
	parsed, err := project.Parse(files, options)
	if err != nil {
		return nil
	}
	return parsed.Services
}
