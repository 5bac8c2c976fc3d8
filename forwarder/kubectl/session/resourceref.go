package session

import "strings"

// ResourceRef identifies the resource of a forward, and builds kubectl commands for hints.
type ResourceRef struct {
	Resource   string // TYPE/NAME, or pods -l SELECTOR
	Kubeconfig string // the configured file; empty: the files that kubectl reads
	Location   Location
}

// Command returns a kubectl command for the resource's cluster.
func (r ResourceRef) Command(command string) string {
	line := "kubectl " + command
	if r.Location.Context != "" {
		line += " --context " + r.Location.Context
	}
	if r.Kubeconfig != "" {
		line += " --kubeconfig " + r.Kubeconfig
	}
	return line
}

// NamespacedCommand returns a kubectl command for the resource's namespace.
func (r ResourceRef) NamespacedCommand(command string) string {
	if r.Location.Namespace != "" {
		command += " -n " + r.Location.Namespace
	}
	return r.Command(command)
}

// PluralKind is the plural of the resource's type, as "kubectl get" accepts it.
func (r ResourceRef) PluralKind() string {
	kind, _, _ := strings.Cut(r.Resource, "/")
	return kind + "s"
}
