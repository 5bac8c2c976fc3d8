package session

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/localport-sh/localport/forwarder/kubectl/kubeconfig"
	"github.com/localport-sh/localport/project"
)

// ContextHint is the next step if kubectl did not find the context in these files.
func (f *ConfigFiles) ContextHint() string {
	raw, err := kubeconfig.Load(KubeconfigFiles(f.src.Kubeconfig, f.src.Env, f.src.Dir)...)
	if err != nil {
		return f.src.contextHint(f.src.Location.Context, nil)
	}
	return f.src.contextHint(cmp.Or(f.src.Location.Context, raw.CurrentContext), slices.Collect(maps.Keys(raw.Contexts)))
}

// contextHint is the next step if the kubeconfig does not have the context name; it has those given. name is empty if none is chosen.
func (src Source) contextHint(name string, contexts []string) string {
	command := ResourceRef{Kubeconfig: src.Kubeconfig}.Command
	hint := project.HintKnown("context", name, contexts)
	switch {
	case hint == "":
		return command("config get-contexts")
	case name == "":
		return fmt.Sprintf("%s; set connection.context, or run %q", hint, command("config use-context NAME"))
	case project.NearestName(name, contexts) != "":
		hint += fmt.Sprintf(" %q lists all", command("config get-contexts"))
	}
	return hint + "; " + project.HintLocal("context")
}

// kubeconfigHint is the next step if there is no kubeconfig.
func (src Source) kubeconfigHint() string {
	if src.Kubeconfig == "" {
		return `create it, for example with a login to the cluster; or set KUBECONFIG and run "localport restart"; or set the service's connection.kubeconfig`
	}
	return "create it, or correct the service's connection.kubeconfig; " + project.HintLocal("kubeconfig")
}
