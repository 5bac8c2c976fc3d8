package session

import "strings"

// ResourceRef words next steps for the user, as commands for the cluster that a forward leads to.
type ResourceRef struct {
	Resource   string // TYPE/NAME, or pods -l SELECTOR
	Kubeconfig string // the file of the config; empty: as kubectl finds it
	Location   Location
}

// Command is a command that needs no namespace.
func (w ResourceRef) Command(command string) string {
	line := "kubectl " + command
	if w.Location.Context != "" {
		line += " --context " + w.Location.Context
	}
	if w.Kubeconfig != "" {
		line += " --kubeconfig " + w.Kubeconfig
	}
	return line
}

// NamespacedCommand is a command in the forward's namespace.
func (w ResourceRef) NamespacedCommand(command string) string {
	if w.Location.Namespace != "" {
		command += " -n " + w.Location.Namespace
	}
	return w.Command(command)
}

// PluralKind is the plural of the resource's type, as kubectl get takes it.
func (w ResourceRef) PluralKind() string {
	kind, _, _ := strings.Cut(w.Resource, "/")
	return kind + "s"
}
