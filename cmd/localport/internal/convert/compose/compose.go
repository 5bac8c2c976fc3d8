// Package compose writes the published ports of a compose file as services of a config, with health checks and variables for the servers
// that it knows. Docker goes on to publish the ports; a service adds a port that waits while the container starts, a health check and
// [env]. The format is that of https://docs.docker.com/reference/compose-file/.
package compose

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/localport-sh/localport/cmd/localport/internal/convert"
	"github.com/localport-sh/localport/cmd/localport/internal/convert/yamlfile"
	"github.com/localport-sh/localport/project/draft"
)

// Convert converts the text of a compose file. path is the file's name in findings. Passwords are not copied: the config refers to variables.
func Convert(path string, data []byte) (convert.Result, error) {
	root, err := yamlfile.Parse(data)
	if err != nil {
		return convert.Result{}, convert.FileError(path, err)
	}
	if err := checkForm(root); err != nil {
		return convert.Result{}, convert.FileError(path, err)
	}
	services := root.Member("services")
	c := &converter{path: path, names: draft.Names{}, services: map[string][]string{}, variables: map[string]bool{}, secrets: map[string]bool{}}
	if include := root.Member("include"); include.Exists() {
		c.report(include.Line(), "include", "the files that it names were not read: convert each of them")
	}
	c.reportUnknown("", root, rootKeys())
	for _, entry := range services.Entries() {
		c.convertService(entry)
	}
	c.addDependencies(services)
	config := draft.Config{
		Comment: []string{
			"Made from " + path + ": its containers, at ports that wait while a container starts. Docker publishes its own ports as before; programs " +
				"should use the variables below. Review it, then run: localport allow",
		},
		Services: c.drafts, Env: c.env,
	}
	return convert.Result{Config: config, Findings: c.findings}, nil
}

// converter converts one file.
type converter struct {
	path      string
	names     draft.Names
	drafts    []draft.Service
	services  map[string][]string // the names of our services, by the name of compose's
	env       []draft.Entry
	variables map[string]bool // in env
	secrets   map[string]bool // the variables that stand for secrets that were not copied
	findings  []convert.Finding
}

func (c *converter) report(line int, key, format string, args ...any) {
	c.findings = append(c.findings, convert.Finding{Path: c.path, Line: line, Key: key, Message: fmt.Sprintf(format, args...)})
}

// container is a service of the compose file.
type container struct {
	name        string
	line        int
	node        yamlfile.Node
	server      *knownServer // nil: unknown
	environment map[string]yamlfile.Node
}

func (c *converter) convertService(entry yamlfile.Entry) {
	node := entry.Value
	if !node.IsMapping() {
		c.report(entry.Line, "services."+entry.Key, "left out: it must be a mapping with keys such as image and ports; it is %s", node.Describe())
		return
	}
	c.reportUnknown("services."+entry.Key+".", node, serviceKeys())
	c.reportKinds("services."+entry.Key+".", node)
	s := container{name: entry.Key, line: entry.Line, node: node, environment: readEnvironment(node.Member("environment"))}
	key := "services." + s.name
	image := withDefaults(node.Member("image").Text())
	if s.server = findServer(image); s.server == nil && image == "" {
		s.server = findServer(s.name) // built from a Dockerfile
	}
	if extends := node.Member("extends"); extends.Exists() {
		c.report(extends.Line(), key+".extends", "what it inherits was not read; add its ports by hand")
	}
	if mode := node.Member("network_mode"); mode.Text() == "host" {
		c.report(mode.Line(), key, "left out: it uses this machine's network, so its ports are open here already")
		return
	}
	var ports []publishedPort
	for _, item := range node.Member("ports").Items() {
		ports = append(ports, c.usablePorts(key, item)...)
	}
	if !node.Member("ports").Exists() {
		c.report(s.line, key, `left out: it publishes no port, so this machine cannot reach it; add one to "ports" and convert the file again`)
	}
	for _, port := range ports {
		c.addPort(&s, port, len(ports))
	}
}

// usablePorts returns the ports of an entry that can become services; the others are reported.
func (c *converter) usablePorts(key string, item yamlfile.Node) (usable []publishedPort) {
	ports, isTooMany := readPort(item)
	if isTooMany {
		c.report(item.Line(), key+".ports", "of this range, only the first %d ports became services", maxRange)
	}
	for _, port := range ports {
		number, err := strconv.Atoi(withDefaults(port.published))
		switch {
		case port.target == 0 && !strings.Contains(item.Text(), "$"):
			c.report(item.Line(), key+".ports", `left out: not a port; write "HOST:CONTAINER", such as "8080:80"`)
		case port.isUDP:
			c.report(port.line, key+".ports", "left out: UDP; only TCP can be forwarded")
		case port.published == "":
			c.report(port.line, key+".ports", `left out: docker chooses another port at each start; write "HOST:CONTAINER", such as "%d:%d"`, port.target, port.target)
		case (err != nil || number < 1 || number > 65535) && !strings.Contains(port.published, "$"):
			c.report(port.line, key+".ports", "left out: %s is not a port from 1 to 65535", draft.Quote(port.published))
		case err != nil || number < 1 || number > 65535:
			c.report(port.line, key+".ports", "left out: the published port is not known; give the variable a default, such as ${PORT:-5432}")
		default:
			usable = append(usable, port)
		}
	}
	return usable
}

// addPort adds a service for a published port; count is the number of those that the container has.
func (c *converter) addPort(s *container, port publishedPort, count int) {
	name := s.name
	isMain := s.server != nil && (port.target == s.server.port || count == 1)
	if count > 1 && !isMain {
		name = fmt.Sprintf("%s-%d", s.name, port.target)
	}
	svc := draft.Service{Name: c.names.Add(name)}
	svc.Set("technology", "tcp")
	svc.Entries = append(svc.Entries, draft.Entry{Key: "local_port", Value: "auto"})
	if number, err := strconv.Atoi(port.published); err == nil {
		svc.Set("remote_port", number)
	} else {
		remotePort, _ := template(port.published)
		svc.Set("remote_port", remotePort)
	}
	if profiles := s.profiles(); len(profiles) > 0 { // compose starts it only on request
		svc.Set("tags", profiles)
		svc.Set("optional", true)
	}
	svc.Set("connection", draft.Table{{Key: "remote_host", Value: port.remoteHost()}})
	c.addServerSettings(s, &svc, port, isMain)
	c.drafts = append(c.drafts, svc)
	c.services[s.name] = append(c.services[s.name], svc.Name)
}

func (s *container) profiles() (profiles []string) {
	for _, profile := range s.node.Member("profiles").Items() {
		profiles = append(profiles, profile.Text())
	}
	return profiles
}

// addDependencies sets depends_on, once all names are known.
func (c *converter) addDependencies(services yamlfile.Node) {
	for _, entry := range services.Entries() {
		var needed []string
		for _, dependency := range dependencies(entry.Value.Member("depends_on")) {
			needed = append(needed, c.services[dependency]...)
		}
		for i := range c.drafts {
			if svc := &c.drafts[i]; slices.Contains(c.services[entry.Key], svc.Name) {
				svc.Set("depends_on", needed)
			}
		}
	}
}

func dependencies(n yamlfile.Node) (names []string) {
	for _, item := range n.Items() {
		names = append(names, item.Text())
	}
	for _, entry := range n.Entries() {
		names = append(names, entry.Key)
	}
	return names
}

// readEnvironment reads a mapping, or a list of NAME=VALUE.
func readEnvironment(n yamlfile.Node) map[string]yamlfile.Node {
	environment := map[string]yamlfile.Node{}
	for _, entry := range n.Entries() {
		environment[entry.Key] = entry.Value
	}
	for _, item := range n.Items() {
		if name, value, hasValue := strings.Cut(item.Text(), "="); hasValue {
			environment[name] = item.WithText(value)
		}
	}
	return environment
}
