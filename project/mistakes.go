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
var recipeWords = []string{"cloudsql", "cloud-sql", "aws", "ssm", "aws-ssm", "gcloud", "iap", "google-iap", "teleport", "tsh", "azure", "azure-bastion"}

// containerWords are words for what runs containers on this machine.
var containerWords = []string{"docker", "compose", "docker-compose", "podman", "container", "nerdctl"}

// suggestTechnology is the end of the message about an unknown technology.
func (o Options) suggestTechnology(word string) string {
	word = strings.ToLower(word)
	if slices.Contains(o.technologyNames(), word) {
		return didYouMean(word)
	}
	if meant := technologyOf[word]; meant != "" && slices.Contains(o.technologyNames(), meant) {
		return didYouMean(meant)
	}
	switch {
	case slices.Contains(containerWords, word):
		return `; LocalPort starts no container: a port that one publishes is technology = "tcp" with connection = { remote_host = "127.0.0.1" }`
	case word == "udp":
		return "; LocalPort forwards TCP only"
	case slices.Contains(recipeWords, word):
		return `; write technology = "command" with the provider's program: see "localport recipes"`
	case slices.Contains(o.checkNames(), word):
		return fmt.Sprintf(`; %s is a health check: write health_check = { type = %q } beside the technology`, word, word)
	}
	return SuggestNearest(word, o.technologyNames())
}

// checkTypeOf is what people mean by another word for a type of health check.
var checkTypeOf = map[string]string{
	"tcpsocket": "tcp", "socket": "tcp", "port": "tcp", "ping": "tcp", "icmp": "tcp", "connect": "tcp", "httpget": "http", "web": "http", "url": "http", "rest": "http", "ssl": "https",
	"exec": "command", "cmd": "command", "shell": "command", "script": "command", "cmd-shell": "command", "pg": "postgres", "psql": "postgres", "pg_isready": "postgres",
	"mariadb": "mysql", "valkey": "redis", "mosquitto": "mqtt", "off": "none", "disabled": "none", "no": "none",
}

// asCheckType reads the type of a health check.
func (o Options) asCheckType(n *node) (string, error) {
	name, err := oneOf("type", o.checkNames())(n)
	if meant := checkTypeOf[strings.ToLower(n.text)]; err != nil && n.kind == stringKind && slices.Contains(o.checkNames(), meant) {
		return "", fmt.Errorf("%w%s", err, didYouMean(meant))
	}
	if err != nil && n.kind == stringKind && suggestWord(n.text, o.checkNames()) == "" {
		return "", fmt.Errorf(`%w; "tcp" only connects, and "command" runs a program of yours`, err)
	}
	return name, err
}

// suggestWord is the end of the message about a word that is none of those allowed.
func suggestWord(word string, allowed []string) string {
	if meant := resourceTypes[strings.ToLower(word)]; slices.Contains(allowed, meant) {
		return didYouMean(meant)
	}
	return SuggestNearest(word, allowed)
}

// asTechnology reads the name of a technology.
func (o Options) asTechnology(n *node) (string, error) {
	name, err := n.asString()
	if err == nil && !slices.Contains(o.technologyNames(), name) {
		return "", fmt.Errorf("invalid technology %s: must be %s%s", n.quoted(), joinAlternatives(o.technologyNames()), o.suggestTechnology(name))
	}
	return name, err
}

// forwardPattern matches docker's "LOCAL:REMOTE" and ssh's "[BIND:]PORT:HOST:HOSTPORT".
var forwardPattern = LazyRegexp(`^(?:\d{1,3}(?:\.\d{1,3}){3}:|localhost:|\*:)?([0-9]{1,5})(?::|\s+)(?:([A-Za-z0-9][\w.-]*):)?([0-9]{1,5})(?:/tcp)?$`)

// portPairAdvice is what to write instead of "LOCAL:REMOTE" or "LOCAL:HOST:REMOTE"; empty for another value.
func (n *node) portPairAdvice() string {
	if n.kind == arrayKind && len(n.children) > 0 {
		n = n.children[0]
	}
	if published, target := n.member("published"), n.member("target"); published != nil && target != nil && !published.isSecret && !target.isSecret {
		return fmt.Sprintf("; write local_port = %s and remote_port = %s", quotedOrNumber(published), quotedOrNumber(target))
	}
	match := forwardPattern().FindStringSubmatch(n.text)
	switch {
	case n.kind != stringKind || match == nil:
		return ""
	case match[2] != "":
		return fmt.Sprintf("; write local_port = %s, remote_port = %s and connection.remote_host = %q", match[1], match[3], match[2])
	}
	return fmt.Sprintf("; write local_port = %s and remote_port = %s", match[1], match[3])
}

// quotedOrNumber returns a port as it is written without quotes, if it is one.
func quotedOrNumber(n *node) string {
	if plainPattern().MatchString(n.text) {
		return n.text
	}
	return n.quoted()
}

// passwordAdvice is for keys of a connection that would hold a password.
const passwordAdvice = `a password does not belong in the config: "localport login" asks for it in your terminal, and ssh keys are named by key_file`

// foreignKey is a key that people know from other tools, and what to do instead.
type foreignKey struct {
	prefix string // of the table: "", "connection." or "health_check."
	names  []string
	advice string
}

var foreignKeys = []foreignKey{
	{"", []string{"env_file", "envfile", "dotenv"}, EnvName + " beside the config is read by itself"},
	{"", []string{"environment", "vars", "exports"}, "variables for shells are entries of [env], outside of the services"},
	{"", []string{"extends", "inherits", "template", "inherit"}, "keys that services have in common are in [defaults]"},
	{"", []string{"name", "id"}, "the name of a service is in its header: [services.NAME]"},
	{"", []string{"args", "ssh_args", "extra_args", "flags", "ssh_options"}, "ssh's options are written as connection.options = { ServerAliveInterval = 30 }, a forward as local_port, remote_port and connection.remote_host"},
	{"", []string{"restart"}, "a tunnel that ends is replaced by itself; restart_policy sets the delays and max_attempts"},
	{"", []string{"image", "build", "container_name", "volumes", "networks", "expose"}, "LocalPort forwards a port to what already runs; it starts no container"},
	{"", []string{"hostname", "domain"}, "services are reached at localhost, and ${NAME.host} in [env] is the address"},
	{"", []string{"cwd", "dir", "working_dir", "workdir"}, "commands run in the project's root"},
	{"", []string{"password", "passphrase"}, passwordAdvice + `; that of a health check is health_check.password = "${NAME}"`},
	{connectionKey + ".", []string{"password", "passphrase", "pass"}, passwordAdvice},
	{connectionKey + ".", []string{"known_hosts", "strict_host_key_checking", "StrictHostKeyChecking"}, "host keys are ssh's own: set StrictHostKeyChecking in ~/.ssh/config or in connection.options"},
	{connectionKey + ".", []string{"keepalive", "server_alive_interval", "ServerAliveInterval", "compression", "ciphers"}, `write it as ssh's own option: connection.options = { ServerAliveInterval = 30 }`},
	{connectionKey + ".", []string{"forward_agent", "agent_forwarding", "ForwardAgent"}, `write it as ssh's own option: connection.options = { ForwardAgent = "yes" }`},
	{connectionKey + ".", []string{"all_namespaces", "allNamespaces", "namespaces"}, `a service forwards to one namespace: write namespace = "…"`},
	{connectionKey + ".", []string{"token", "kube_token"}, "credentials come from the kubeconfig"},
	{healthCheckKey + ".", []string{"initial_delay", "start_period", "initialDelaySeconds", "initial_delay_seconds"}, "the first check waits for the tunnel by itself"},
	{healthCheckKey + ".", []string{"enabled", "disable", "disabled"}, `write type = "none" for no health check`},
	{healthCheckKey + ".", []string{"test"}, `write type = "command" and command = ["…"]`},
	{healthCheckKey + ".", []string{"httpGet", "http_get", "http"}, `write type = "http" and path = "…" in health_check itself`},
	{healthCheckKey + ".", []string{"tcpSocket", "tcp_socket", "tcp"}, `write type = "tcp" in health_check itself`},
	{healthCheckKey + ".", []string{"exec"}, `write type = "command" and command = ["…"] in health_check itself`},
	{healthCheckKey + ".", []string{"port"}, "the check goes through the service's own tunnel, to remote_port"},
}

// mistakenKeyAdvice is the end of the message about a key that people know from other tools, and the keys that it is written as; empty for any
// other key.
func mistakenKeyAdvice(n *node, prefix, technology string) (advice string, meant []string) {
	if advice := n.portPairAdvice(); prefix == "" && advice != "" && !n.isSecret {
		return advice, []string{"local_port", "remote_port", connectionKey + ".remote_host"}
	}
	for _, foreign := range foreignKeys {
		if foreign.prefix == prefix && slices.Contains(foreign.names, n.name) {
			return "; " + foreign.advice, nil
		}
	}
	if advice := serviceResourceAdvice(n, technology); prefix == "" && advice != "" {
		return advice, []string{technologyKey, connectionKey + ".resource_name"}
	}
	switch {
	case prefix == "" && n.name == "protocol" && strings.EqualFold(n.text, "udp"):
		return "; LocalPort forwards TCP only", nil
	case prefix == "" && listenPattern().MatchString(n.text) && n.kind == stringKind:
		return fmt.Sprintf("; write local_port = %s; other machines cannot connect to it", listenPattern().FindStringSubmatch(n.text)[1]), []string{"local_port"}
	case prefix == "" && slices.Contains([]string{"url", "uri", "host", "upstream", "target", "remote", "address"}, n.name) && technology == "tcp":
		if advice := n.hostTableAdvice("remote_host"); advice != "" {
			return advice, []string{"remote_port", connectionKey + ".remote_host"}
		}
	case prefix == "" && n.name == "disabled" && n.kind == boolKind:
		return fmt.Sprintf("; write enabled = %t", n.text != "true"), nil
	case prefix == healthCheckKey+"." && !strings.HasPrefix(technology, "http") && slices.Contains([]string{"url", "uri", "dsn", "connection_string", "host", "address"}, n.name):
		return "; the check goes through the service's own tunnel: it needs no address", nil
	case prefix == healthCheckKey+"." && n.kind == tableKind:
		return "; write its keys in health_check itself", nil
	case prefix == connectionKey+"." && technology == "kubectl":
		if advice := resourceAdvice(n); advice != "" {
			return advice, []string{connectionKey + ".resource_name"}
		}
	}
	return "", nil
}

// listenPattern matches an address to listen on with its port.
var listenPattern = LazyRegexp(`^(?:\*|0\.0\.0\.0|localhost|127(?:\.\d+){3}|\[::1?\])?:([0-9]{1,5})$`)

// givenKeyAdvice is for a key that is another name for one that the table has.
func (r *tableReader) givenKeyAdvice(n *node, f field, fields []field, technology string) string {
	remote, hasRemotePort := findField(fields, "remote_port", technology)
	if f.name == "local_port" && hasRemotePort && remote.appliesTo(technology) && n.parent.member("remote_port") == nil {
		return r.suggest("", "remote_port")
	}
	return fmt.Sprintf("; %s is there already: remove %s", f.name, n.name)
}

// clusterNamePattern matches the name of a service in a cluster's DNS (kubernetes.io, "DNS for Services and Pods").
var clusterNamePattern = LazyRegexp(`^([a-z0-9-]+)(?:\.([a-z0-9-]+)(?:\.svc(?:\.cluster\.local)?)?)?\.?$`)

// clusterHostAdvice is for a host in the connection of technology kubectl.
func clusterHostAdvice(n *node) string {
	match := clusterNamePattern().FindStringSubmatch(n.text)
	switch {
	case match == nil || !n.isLiteral():
		return `; kubectl forwards to a resource: write resource_name = "…"`
	case match[2] == "":
		return fmt.Sprintf("; kubectl forwards to a resource: write resource_name = %q", match[1])
	}
	return fmt.Sprintf("; kubectl forwards to a resource: write resource_name = %q, namespace = %q", match[1], match[2])
}

// misplacedKeyAdvice is the end of the message about a key of another technology or type of health check.
func (r *tableReader) misplacedKeyAdvice(n *node, f field, fields []field, prefix, technology string) string {
	switch {
	case prefix == connectionKey+"." && technology == "kubectl" && (n.name == "remote_host" || n.name == "host"):
		r.suggestedKeys[connectionKey+".resource_name"] = true
		return clusterHostAdvice(n)
	case prefix == healthCheckKey+"." && n.parent.member("type") == nil:
		return fmt.Sprintf("; write type = %q beside it", f.types[0])
	}
	return r.suggestAlias(fields, n, prefix, technology)
}

// topLevelAdvice is for a key of the file that is none of those it may have.
func topLevelAdvice(n *node) string {
	isVariable := n.kind == stringKind && variableNamePattern().MatchString(n.name) && n.name == strings.ToUpper(n.name)
	switch {
	case isVariable:
		return "; a variable for shells is an entry of [env]: write a line [env] above it"
	case n.kind == tableKind:
		return serviceTableAdvice(n)
	case isTableArray(n):
		return "; a service is written as a table such as [services.api]"
	}
	return ""
}

// isTableArray reports whether n is an array of tables, as [[n]] makes one.
func isTableArray(n *node) bool {
	return n.kind == arrayKind && len(n.children) > 0 && n.children[0].kind == tableKind
}

// foreignTopLevelAdvice is for a key of the file that other tools have.
func foreignTopLevelAdvice(n *node) string {
	for _, foreign := range topLevelKeyAdvice {
		if slices.Contains(foreign.names, strings.ToLower(n.name)) && n.member(technologyKey) == nil && n.member(connectionKey) == nil {
			return "; " + foreign.advice
		}
	}
	return ""
}

// topLevelKeyAdvice is for keys of the file that other tools have.
var topLevelKeyAdvice = []foreignKey{
	{"", []string{"include", "includes", "import", "imports", "source_up"}, LocalName + " beside the config is merged into it; no other file is"},
	{"", []string{"name", "project", "project_name"}, "a project has the name of its directory: leave the line out"},
	{"", []string{"log_level", "loglevel", "verbose", "debug"}, "the log's level is set by a command: localport --log-level=debug daemon start"},
	{"", []string{"on_start", "on_stop", "hooks", "pre_start", "post_start", "on_enter", "on_leave", "tasks", "scripts"}, "the config runs no commands but those of services with technology = \"command\""},
	{"", []string{"verbosity", "notify", "logs", "trust"}, "it is a setting of yours, not of the project: write it in ~/.config/localport/config.toml"},
	{"", []string{"metrics", "prometheus"}, "write metrics_port = 9464"},
	{"", []string{"settings", "config", "options", "global"}, "write its keys at the beginning of the file, above the first [table]"},
	{"", []string{"networks", "volumes", "secrets", "configs"}, "LocalPort forwards a port to what already runs; it starts no container"},
	{"", []string{"technology", "local_port", "remote_port", "connection", "health_check"}, "a service begins with a line such as [services.api]: write one above it"},
	{"", []string{"shell_env", "dotenv", "env_file"}, EnvName + " beside the config is read by itself"},
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

// serviceResourceAdvice is for a key in a service's own table that names a resource of a cluster.
func serviceResourceAdvice(n *node, technology string) string {
	resourceType := resourceTypes[n.name]
	if n.kind != stringKind || resourceType == "" && n.name != "resource" || n.isSecret {
		return ""
	}
	name := n.text
	if found, after, ok := SplitResource(n.text); ok {
		resourceType, name = found, after
	}
	connection := fmt.Sprintf("connection = { resource_name = %s }", quoteMasked(name, n.doc.secrets))
	if resourceType != "" && resourceType != "service" {
		connection = fmt.Sprintf("connection = { resource_type = %q, resource_name = %s }", resourceType, quoteMasked(name, n.doc.secrets))
	}
	switch {
	case technology == "kubectl" && n.parent.member(connectionKey) != nil:
		return fmt.Sprintf("; move it into the table connection: %s", strings.Trim(strings.TrimPrefix(connection, "connection = "), "{} "))
	case technology == "kubectl":
		return "; write " + connection
	case technology == "":
		return `; write technology = "kubectl" and ` + connection
	}
	return fmt.Sprintf(`; only kubectl forwards to a resource of a cluster, and this service is %s: write technology = "kubectl" and %s`, technology, connection)
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

// isCheckName reports whether text is a type of health check, of which fields are the keys.
func isCheckName(text string, fields []field) bool {
	return text == CheckTCP || text == CheckNone || slices.ContainsFunc(fields, func(f field) bool { return slices.Contains(f.types, text) })
}

// FirstUnprivilegedPort is the lowest port that every user may open on Linux, unless net.ipv4.ip_unprivileged_port_start says otherwise.
const FirstUnprivilegedPort = 1024

// adviseEmpty warns of a config that does nothing.
func (p *parser) adviseEmpty() {
	if len(p.project.Services) == 0 && len(p.project.Env) == 0 {
		p.advice.reportKey(p.root, "the file declares no services: a service begins with a line such as [services.api]")
	}
}

// advise warns about what a service's table says without effect, or what may not work for every user.
func (p *parser) advise(s *Service, n *node) {
	if idle := n.member("idle_timeout"); idle != nil && !s.OnDemand {
		p.advice.reportKey(idle, `no effect without start = "on-demand"`)
	}
	if port := n.member("local_port"); port != nil && !s.Reverse && s.LocalPort > 0 && s.LocalPort < FirstUnprivilegedPort {
		p.advice.reportValue(port, `on Linux only root may open ports below %d: choose a higher one, such as %d, or "auto"`, FirstUnprivilegedPort, s.LocalPort+8000)
	}
}
