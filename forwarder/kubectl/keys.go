package kubectl

import "github.com/localport-sh/localport/project"

// keys are what a service says in connection.
var keys = []project.Key{
	{Name: "resource_type", Values: []string{"pod", "service", "deployment", "statefulset", "replicaset", "daemonset", "job"}},
	{Name: "resource_name", Type: project.TypeWord, Required: true, Alternative: "selector", Example: `, or "connection.selector"`},
	{Name: "selector", Type: project.TypeArgument, Conflicts: []string{"resource_name", "resource_type"}}, // of pods' labels
	{Name: "engine", Values: []string{"native", "kubectl"}},                                               // without it: native, unless the environment names a kubectl
	{Name: "cluster_health", Type: project.TypeBool, Default: true},                                       // status shows how the cluster is doing
	{Name: "namespace", Type: project.TypeWord},
	{Name: "context", Type: project.TypeArgument},
	{Name: "kubeconfig", Type: project.TypeFile},
}

// finish fills in the type of resource that a name alone means.
func finish(s *project.Service, keys project.GivenKeys) {
	if keys.Has("connection.resource_type") || keys.Has("connection.selector") {
		return
	}
	s.Connection.Settings["resource_type"] = "service"
}
