package localportyaml

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/draft"
)

// convertService converts an entry of services. One that cannot be had without a value that is wrong or missing is left out.
func (c *converter) convertService(f field) {
	m := c.mapping(f)
	if !f.value.IsMapping() {
		if !f.value.Exists() {
			c.report(f, "left out: it is empty")
		}
		return
	}
	name, technology, connection := m.take("name"), m.take("technology"), m.take("connection")
	svc := draft.Service{Name: c.serviceName(name, f)}
	technologyName, _ := c.plain(technology)
	remotePort := c.remotePort(m.take("remote_port"), technologyName)
	var table draft.Table
	missing := ""
	switch technologyName {
	case "kubectl":
		table, missing = c.kubectlConnection(connection)
	case "ssh":
		table, missing = c.sshConnection(connection, svc.Name)
	default:
		missing = fmt.Sprintf("a technology, kubectl or ssh, instead of %q", technology.value.Text())
	}
	if remotePort == nil {
		missing = "a valid remote_port"
	}
	localPort := m.take("local_port")
	if missing != "" {
		c.report(f, "the service %q was left out: it lacks %s", svc.Name, missing)
		for _, key := range []string{"tags", "description", "enabled", "health_check", "restart_policy"} {
			m.take(key)
		}
		c.reportUnknown(m) // one may be what is missing, misspelled
		return
	}
	svc.Set("technology", technologyName)
	svc.Set("local_port", c.localPort(localPort, svc.Name))
	svc.Set("remote_port", remotePort)
	svc.Set("tags", c.words(m.take("tags")))
	svc.Set("description", c.text(m.take("description")))
	if enabled := m.take("enabled"); enabled.value.Exists() && !c.isTrue(enabled) {
		svc.Set("enabled", false)
	}
	svc.Set("connection", table)
	svc.Set("health_check", c.healthCheck(m.take("health_check"), &svc))
	svc.Set("restart_policy", c.restartPolicy(m.take("restart_policy")))
	c.reportUnknown(m)
	c.config.Services = append(c.config.Services, svc)
}

// serviceName returns the name of a service, which is another than the file's if that is invalid or used already.
func (c *converter) serviceName(name, service field) string {
	text, _ := c.plain(name)
	valid := c.names.Add(text)
	if valid != text && text != "" {
		c.report(name, "%q became %q: a name consists of letters, digits, \"-\" and \"_\", and each has its own variables", text, valid)
	}
	if text == "" {
		c.report(service, "the service has no name; it became %q", valid)
	}
	return valid
}

// localPort returns the local port, or "auto" if it is invalid or another service has it.
func (c *converter) localPort(f field, service string) any {
	wanted, _ := c.integer(f, 1, 65535).(int)
	port, reason := c.ports.Choose(service, "", wanted)
	switch {
	case reason != "":
		c.report(f, "became \"auto\", because %s: \"localport port %s\" prints the port", reason, service)
	case port == draft.Auto:
		c.report(f, "became \"auto\": \"localport port %s\" prints the port", service)
	}
	return draft.LocalPortValue(port)
}

// remotePort returns the remote port: a number, a template or, in Kubernetes, a name; nil if it is invalid.
func (c *converter) remotePort(f field, technology string) any {
	text := f.value.Text()
	if c.refs.in(text) {
		return c.text(f)
	}
	port, err := strconv.Atoi(text)
	switch {
	case err == nil && port >= 1 && port <= 65535:
		return port
	case err != nil && technology == "kubectl" && project.IsPortName(text):
		return text
	}
	return nil
}

// resourceTypes are those of our technology "kubectl".
var resourceTypes = []string{"service", "pod", "deployment", "statefulset", "replicaset", "daemonset", "job"}

// kubectlConnection converts a connection to a cluster. missing is what it lacks; empty: nothing.
func (c *converter) kubectlConnection(f field) (table draft.Table, missing string) {
	m := c.mapping(f)
	name, resourceType := m.take("resource_name"), m.take("resource_type")
	kind, _ := c.plain(resourceType)
	resource := c.word(name)
	if text, ok := resource.(string); ok {
		if splitKind, splitName, ok := project.SplitResource(text); ok {
			kind, resource = splitKind, splitName
		}
	}
	if resource == nil || strings.Contains(fmt.Sprint(resource), "/") {
		return nil, "a valid connection.resource_name"
	}
	switch {
	case kind == "":
		kind = "service"
	case !slices.Contains(resourceTypes, kind):
		c.report(resourceType, "%q became \"service\": must be %s", kind, strings.Join(resourceTypes, ", "))
		kind = "service"
	}
	if kind != "service" { // the default
		table.Set("resource_type", kind)
	}
	table.Set("resource_name", resource)
	namespace := m.take("namespace")
	if table.Set("namespace", c.word(namespace)); !namespace.value.Exists() {
		table.Set("namespace", "default") // also if the context names another one
	}
	kubeContext := m.take("context")
	table.Set("context", c.argument(kubeContext))
	if isOff, isSet := c.contextsWithoutHealth[kubeContext.value.Text()]; isOff || !isSet && c.clusterHealthOff {
		table.Set("cluster_health", false)
	}
	c.reportUnknown(m)
	return table, ""
}

// sshConnection converts a connection through ssh. missing is what it lacks; empty: nothing.
func (c *converter) sshConnection(f field, service string) (table draft.Table, missing string) {
	m := c.mapping(f)
	host := c.host(m.take("host"))
	if host == nil {
		return nil, "a valid connection.host"
	}
	table.Set("host", host)
	table.Set("user", c.word(m.take("user")))
	if port, ok := c.integer(m.take("port"), 1, 65535).(int); ok && port != 22 {
		table.Set("port", port)
	}
	table.Set("key_file", c.text(m.take("key_file")))
	table.Set("remote_host", c.host(m.take("remote_host")))
	if password := m.take("password"); password.value.Exists() {
		c.report(password, "left out: a password does not belong in a config; \"localport login %s\" asks for it in your terminal, and a key (ssh-copy-id) needs none", service)
	}
	if !c.usesSSH {
		c.usesSSH = true
		c.report(f, "the Python LocalPort did not check host keys, LocalPort does: if the server is not in ~/.ssh/known_hosts yet, run \"localport login %s\" once", service)
	}
	c.reportUnknown(m)
	return table, ""
}
