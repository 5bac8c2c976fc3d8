package kubectl

import (
	"errors"
	"fmt"
	"strings"

	"github.com/localport-sh/localport/project"
)

// connectionKeys are the keys of a service's connection table.
var connectionKeys = []project.Key{
	{Name: "resource_type", Aliases: []string{"kind", "type"}, Values: []string{"pod", "service", "deployment", "statefulset", "replicaset", "daemonset", "job"}},
	{
		Name: "resource_name", Type: project.TypeWord, Required: true, Alternative: "selector", Example: `, or "connection.selector"`,
		Aliases: []string{"resource", "name", "service", "pod"}, Validate: validateResourceName,
	},
	{Name: "selector", Type: project.TypeArgument, Aliases: []string{"label", "labels", "label_selector"}, Conflicts: []string{"resource_name", "resource_type"}}, // a label selector for pods
	{Name: "engine", Values: []string{"native", "kubectl"}},         // default: native, unless the environment names a kubectl
	{Name: "cluster_health", Type: project.TypeBool, Default: true}, // status shows the cluster's health
	{Name: "namespace", Type: project.TypeWord, Aliases: []string{"ns"}},
	{Name: "context", Type: project.TypeArgument, Aliases: []string{"cluster", "kube_context", "kubecontext", "ctx"}},
	{Name: "kubeconfig", Type: project.TypeFile, Aliases: []string{"kube_config", "config", "config_file"}},
}

// completeService makes a name without a resource type a service's, and warns about a service whose cluster the config does not choose.
func completeService(s *project.Service, keys project.GivenKeys) {
	if !keys.Has("connection.context") {
		keys.Advise(`no "connection.context": the port leads to whatever context "kubectl config use-context" has selected when the service starts; ` + project.HintLocal("context"))
	}
	if keys.Has("connection.resource_type") || keys.Has("connection.selector") {
		return
	}
	s.Connection.Settings["resource_type"] = "service"
}

// validateResourceName rejects the notation TYPE/NAME of kubectl.
func validateResourceName(value any) error {
	if resourceType, name, ok := project.SplitResource(value.(string)); ok {
		return fmt.Errorf("must be a name without a type; write resource_type = %q, resource_name = %q", resourceType, name)
	}
	if strings.Contains(value.(string), "/") {
		return errors.New(`must be a name without a type; set the type in "resource_type", for example "service"`)
	}
	return nil
}
