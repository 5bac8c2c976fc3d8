package kubectl

import "github.com/localport-sh/localport/project"

// connectionKeys are what a service says in connection.
var connectionKeys = []project.Key{
	{Name: "resource_type", Values: []string{"pod", "service", "deployment", "statefulset", "replicaset", "daemonset", "job"}},
	{Name: "resource_name", Is: project.Word, Required: true, Or: "selector", Example: `, or "connection.selector"`},
	{Name: "selector", Is: project.Argument, Excludes: []string{"resource_name", "resource_type"}}, // of pods' labels
	{Name: "engine", Values: []string{"native", "kubectl"}},                                        // without it: native, unless the environment names a kubectl
	{Name: "cluster_health", Is: project.Flag, Default: true},                                      // status shows how the cluster is doing
	{Name: "namespace", Is: project.Word},
	{Name: "context", Is: project.Argument},
	{Name: "kubeconfig", Is: project.File},
}

// setDefaultResourceType fills in the type of resource that a name alone means.
func setDefaultResourceType(s *project.Service, keys project.Given) {
	if keys.Has("connection.resource_type") || keys.Has("connection.selector") {
		return
	}
	s.Connection.Settings["resource_type"] = "service"
}
