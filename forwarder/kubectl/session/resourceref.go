package session

import (
	"fmt"
	"strings"
)

// ResourceRef identifies the resource of a forward, and builds kubectl commands for hints.
type ResourceRef struct {
	Resource   string // TYPE/NAME, or pods -l SELECTOR
	Kubeconfig string // the configured file; empty: the files that kubectl reads
	Location   Location
	Service    string // of the config, for hints; empty: there is none
}

// permissionHint is the next step of a user who lacks a right: the administrator gives it where nobody sees it, so the service is tried again
// every 5 minutes or, at once, by a command. list shows the rights.
func (r ResourceRef) permissionHint(list string) string {
	hint := "ask the cluster's administrator for permission; " + list
	if r.Service != "" {
		hint += fmt.Sprintf("; once you have it, run %q", "localport restart "+r.Service)
	}
	return hint
}

// ListRightsHint is permissionHint for a user who may lack any right.
func (r ResourceRef) ListRightsHint() string {
	return r.permissionHint(fmt.Sprintf("list yours with %q", r.NamespacedCommand("auth can-i --list")))
}

// ForwardRightHint is permissionHint for a user who probably lacks the right to forward ports.
func (r ResourceRef) ForwardRightHint() string {
	return r.permissionHint(fmt.Sprintf("test yours with %q", r.NamespacedCommand("auth can-i create pods/portforward")))
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
