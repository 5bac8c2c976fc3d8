package project

import (
	"fmt"
	"slices"
	"strings"
)

// This file has what to write instead of what people write by mistake, where the name of a known key does not say it.

// technologyOf is what people mean by another word for a technology.
var technologyOf = map[string]string{
	"k8s": "kubectl", "kubernetes": "kubectl", "kube": "kubectl", "eks": "kubectl", "gke": "kubectl", "aks": "kubectl", "openshift": "kubectl",
	"bastion": "ssh", "tunnel": "ssh", "socks": "ssh", "direct": "tcp", "socket": "tcp", "exec": "command", "shell": "command", "process": "command",
}

// recipeWords are words for a cloud provider's proxy, which is a technology "command".
var recipeWords = []string{"cloudsql", "cloud-sql", "aws", "ssm", "aws-ssm", "gcloud", "iap", "google-iap", "teleport", "tsh", "azure", "azure-bastion", "docker"}

// suggestTechnology is the end of the message about an unknown technology.
func (o Options) suggestTechnology(word string) string {
	word = strings.ToLower(word)
	if meant := technologyOf[word]; meant != "" && slices.Contains(o.technologyNames(), meant) {
		return didYouMean(meant)
	}
	switch {
	case slices.Contains(recipeWords, word):
		return `; write technology = "command" with the provider's program: see "localport recipes"`
	case slices.Contains(o.checkNames(), word):
		return fmt.Sprintf(`; %s is a health check: write health_check = { type = %q } beside the technology`, word, word)
	}
	return SuggestNearest(word, o.technologyNames())
}

// asTechnology reads the name of a technology.
func (o Options) asTechnology(n *node) (string, error) {
	name, err := n.asString()
	if err == nil && !slices.Contains(o.technologyNames(), name) {
		return "", fmt.Errorf("invalid technology %s: must be %s%s", n.quoted(), joinAlternatives(o.technologyNames()), o.suggestTechnology(name))
	}
	return name, err
}

var portPairPattern = LazyRegexp(`^(?:[\w.:-]+:)?([0-9]{1,5}):([0-9]{1,5})$`)

// portPairAdvice is what to write instead of docker's "LOCAL:REMOTE"; empty for another value.
func (n *node) portPairAdvice() string {
	if n.kind == arrayKind && len(n.children) > 0 {
		n = n.children[0]
	}
	if match := portPairPattern().FindStringSubmatch(n.text); n.kind == stringKind && match != nil {
		return fmt.Sprintf("; write local_port = %s and remote_port = %s", match[1], match[2])
	}
	return ""
}

// passwordAdvice is for keys of a connection that would hold a password.
const passwordAdvice = `; a password does not belong in the config: "localport login" asks for it in your terminal, and ssh keys are named by key_file`

// mistakenKeyAdvice is the end of the message about a key that people know from other tools; empty for any other key.
func mistakenKeyAdvice(n *node, prefix, technology string) string {
	switch {
	case prefix == "" && slices.Contains([]string{"port", "ports"}, n.name):
		return n.portPairAdvice()
	case prefix == "" && slices.Contains([]string{"env_file", "envfile", "dotenv"}, n.name):
		return "; " + EnvName + " beside the config is read by itself"
	case prefix == "" && n.name == "environment":
		return "; variables for shells are entries of [env], outside of the services"
	case prefix == connectionKey+"." && slices.Contains([]string{"password", "passphrase", "pass"}, n.name):
		return passwordAdvice
	case prefix == healthCheckKey+"." && n.kind == tableKind:
		return "; write its keys in health_check itself"
	case prefix == connectionKey+"." && technology == "kubectl":
		return resourceAdvice(n)
	}
	return ""
}

// resourceTypes are kubectl's names for the resources that a port is forwarded to.
var resourceTypes = map[string]string{
	"service": "service", "services": "service", "svc": "service", "pod": "pod", "pods": "pod", "po": "pod",
	"deployment": "deployment", "deployments": "deployment", "deploy": "deployment", "statefulset": "statefulset",
	"statefulsets": "statefulset", "sts": "statefulset", "replicaset": "replicaset", "replicasets": "replicaset", "rs": "replicaset",
	"daemonset": "daemonset", "daemonsets": "daemonset", "ds": "daemonset", "job": "job", "jobs": "job",
}

// SplitResource splits kubectl's TYPE/NAME; not ok for any other text.
func SplitResource(text string) (resourceType, name string, ok bool) {
	prefix, name, found := strings.Cut(text, "/")
	resourceType = resourceTypes[strings.ToLower(prefix)]
	return resourceType, name, found && resourceType != "" && name != "" && !strings.Contains(name, "/")
}

// resourceAdvice is for a key of a Kubernetes connection that names a resource: by TYPE/NAME, or by its type.
func resourceAdvice(n *node) string {
	if n.kind != stringKind || n.isSecret {
		return ""
	}
	if resourceType, name, ok := SplitResource(n.text); ok {
		return fmt.Sprintf("; write resource_type = %q, resource_name = %s", resourceType, quoteMasked(name, n.doc.secrets))
	}
	if resourceType := resourceTypes[n.name]; resourceType != "" {
		return fmt.Sprintf("; write resource_type = %q, resource_name = %s", resourceType, n.quoted())
	}
	return ""
}

// serviceTableAdvice is for a table of the file that looks like a service.
func serviceTableAdvice(n *node) string {
	for _, key := range []string{technologyKey, "local_port", "remote_port", "port", connectionKey, "type"} {
		if n.member(key) != nil {
			return fmt.Sprintf("; a service is written as [services.%s]", n.name)
		}
	}
	return ""
}

var (
	bareValuePattern = LazyRegexp(`^\s*([A-Za-z0-9_.-]+)\s*=\s*([A-Za-z_~/.:@*$][^\s,"'\[\]{}#]*)\s*(?:#.*)?$`)
	yamlPattern      = LazyRegexp(`^\s*(?:- )?([A-Za-z0-9_-]+)\s*:(?:\s+(.*?))?\s*$`)
	plainPattern     = LazyRegexp(`^(?:true|false|[0-9]+)$`)
)

// lineMistake is what is wrong with a line that is not TOML, and how to write it; empty if that is not known. A value is shown unless its key has
// the name of a secret: then shownLine is empty.
func lineMistake(line string) (message, shownLine string) {
	if match := bareValuePattern().FindStringSubmatch(line); match != nil {
		key, value := match[1], match[2]
		switch lower := strings.ToLower(value); {
		case lower == "true" || lower == "false":
			return fmt.Sprintf("true and false are written in lowercase: write %s = %s", key, lower), strings.TrimSpace(line)
		case isSecretName(key):
			return "text needs quotes", ""
		default:
			return fmt.Sprintf("text needs quotes: write %s = %q", key, value), key + " = " + value
		}
	}
	if match := yamlPattern().FindStringSubmatch(line); match != nil {
		key, value := match[1], match[2]
		switch {
		case value == "" && key == "services":
			return "the file must be TOML, not YAML: a service begins with a line such as [services.api]", key + ":"
		case value == "":
			return fmt.Sprintf("the file must be TOML, not YAML: a table begins with a line such as [services.%s]", key), key + ":"
		case plainPattern().MatchString(value):
			return fmt.Sprintf("the file must be TOML, not YAML: write %s = %s", key, value), strings.TrimSpace(line)
		default:
			return fmt.Sprintf(`the file must be TOML, not YAML: write %s = "…"`, key), ""
		}
	}
	return "", ""
}

// isCheckName reports whether text is a type of health check, of which fields are the keys.
func isCheckName(text string, fields []field) bool {
	return text == CheckTCP || text == CheckNone || slices.ContainsFunc(fields, func(f field) bool { return slices.Contains(f.types, text) })
}

// firstUnprivilegedPort is the lowest port that every user may open on Linux, unless net.ipv4.ip_unprivileged_port_start says otherwise.
const firstUnprivilegedPort = 1024

// advise warns about what a service's table says without effect, or what may not work for every user.
func (p *parser) advise(s *Service, n *node) {
	if idle := n.member("idle_timeout"); idle != nil && !s.OnDemand {
		p.advice.reportKey(idle, `no effect without start = "on-demand"`)
	}
	if port := n.member("local_port"); port != nil && !s.Reverse && s.LocalPort > 0 && s.LocalPort < firstUnprivilegedPort {
		p.advice.reportValue(port, `on Linux only root may open ports below %d: choose a higher one, such as %d, or "auto"`, firstUnprivilegedPort, s.LocalPort+8000)
	}
}
