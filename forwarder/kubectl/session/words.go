package session

import "strings"

// Words words next steps for the user, as commands for the cluster that a forward leads to.
type Words struct {
	Resource   string // TYPE/NAME, or pods -l SELECTOR
	Kubeconfig string // the file of the config; empty: as kubectl finds it
	Place      Place
}

// Kubectl is a command that needs no namespace.
func (w Words) Kubectl(command string) string {
	line := "kubectl " + command
	if w.Place.Context != "" {
		line += " --context " + w.Place.Context
	}
	if w.Kubeconfig != "" {
		line += " --kubeconfig " + w.Kubeconfig
	}
	return line
}

// Namespaced is a command in the forward's namespace.
func (w Words) Namespaced(command string) string {
	if w.Place.Namespace != "" {
		command += " -n " + w.Place.Namespace
	}
	return w.Kubectl(command)
}

// Kind is the plural of the resource's type, as kubectl get takes it.
func (w Words) Kind() string {
	kind, _, _ := strings.Cut(w.Resource, "/")
	return kind + "s"
}
