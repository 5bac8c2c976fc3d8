package project

import (
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Options are what a config is read with.
type Options struct {
	// Getenv looks up a variable in the environment without the variables that localport exported; nil: the environment is empty.
	Getenv func(string) (string, bool)
	// Checks are the types of health check that there are, besides "none"; nil: "tcp".
	Checks []CheckType
	// Technologies are those that there are, in the order in which messages list them.
	Technologies []TechnologyType
	// PickAutoPort returns the port of a service with local_port = "auto"; nil: PickAutoPort of the root and the name.
	PickAutoPort func(service string) int
	// Linger is the value in the user's config, for a project without one; zero: the default.
	Linger time.Duration
}

// lingerOrDefault is the linger of a project whose config does not set it.
func (o Options) lingerOrDefault() time.Duration {
	if o.Linger > 0 {
		return o.Linger
	}
	return defaultLinger
}

// Parse reads a project from the bytes of its files. The error is an *Invalid with everything that is wrong.
func Parse(f *Files, o Options) (*Project, error) {
	p := &parser{files: f, options: o, project: &Project{Root: f.Root, Path: f.Path, Linger: o.lingerOrDefault()}}
	if diagnostics := p.readDocuments(); len(diagnostics) > 0 {
		return nil, &InvalidError{Diagnostics: diagnostics}
	}
	p.fields = buildSchema(o)
	p.resolveAddresses()
	p.interpolateAll()
	p.markSecretSettings()
	p.shareSecrets()
	p.readTopLevel()
	p.readServices()
	p.checkDependencies()
	p.checkMetricsPort()
	p.readEnv()
	p.sortSecrets()
	p.project.Secrets = p.secrets
	p.project.Warnings = append(p.dotEnv.warnings, p.warnings.diagnostics(p.secrets)...)
	if found := p.diagnostics(p.secrets); len(found) > 0 {
		return nil, &InvalidError{Diagnostics: found}
	}
	return p.project, nil
}

// parser is one run of Parse.
type parser struct {
	report
	files     *Files
	options   Options
	project   *Project
	docs      []*document
	root      *node
	fields    []field
	dotEnv    dotEnv
	warnings  report
	secrets   []string
	endpoints map[string]Service // the addresses of each service, which are read before the rest of it
}

// readDocuments parses the files. A syntax error is the only one reported: after it everything else would be a guess.
func (p *parser) readDocuments() []Diagnostic {
	for _, file := range p.tomlFiles() {
		doc, bad := parseDocument(p.files, file.path, file.data)
		if bad != nil {
			return []Diagnostic{*bad}
		}
		p.docs = append(p.docs, doc)
	}
	p.root = p.docs[0].root
	for _, doc := range p.docs[1:] {
		p.root.merge(doc.root)
	}
	path := p.files.DotEnvPath
	if path == "" {
		path = filepath.Join(p.files.Root, EnvName)
	}
	p.dotEnv = parseDotEnv(path, p.files.DotEnv)
	p.project.DotEnv = p.dotEnv.values
	for _, value := range p.dotEnv.values {
		p.addSecret(value)
	}
	return p.dotEnv.errors
}

type tomlFile struct {
	path string
	data []byte
}

func (p *parser) tomlFiles() []tomlFile {
	files := []tomlFile{{p.files.Path, p.files.Config}}
	if p.files.Local != nil {
		files = append(files, tomlFile{filepath.Join(p.files.Root, LocalName), p.files.Local})
	}
	return files
}

func (p *parser) addSecret(value string) {
	p.secrets = append(p.secrets, secretLines(value)...)
}

// shareSecrets sorts the secrets and gives them to the documents, which mask them in messages.
func (p *parser) shareSecrets() {
	p.sortSecrets()
	for _, doc := range p.docs {
		doc.secrets = p.secrets
	}
}

func (p *parser) sortSecrets() {
	slices.Sort(p.secrets)
	p.secrets = slices.Compact(p.secrets)
	if len(p.secrets) > 0 && p.secrets[0] == "" {
		p.secrets = p.secrets[1:]
	}
}

// readTopLevel reads the keys outside the services.
func (p *parser) readTopLevel() {
	for _, name := range p.root.names {
		n := p.root.members[name]
		switch name {
		case "version":
			if !n.hasError && (n.kind != stringKind || n.text != "1") {
				p.reportValue(n, `must be "1", the only supported version`)
			}
		case "linger":
			p.readLinger(n)
		case "metrics_port":
			p.readMetricsPort(n)
		case "services":
			p.checkTable(n, "tables such as [services.NAME]")
		case "defaults", "env":
			p.checkTable(n, "a table")
		default:
			p.reportUnknownKey(n, NearestName(name, topLevelKeys))
		}
	}
}

func (p *parser) readLinger(n *node) {
	linger, err := n.asDuration()
	if err != nil && !n.hasError {
		p.reportValue(n, "%v", err)
	}
	p.project.Linger = linger
}

// checkTable returns whether n is a table, and reports an error if not.
func (p *parser) checkTable(n *node, want string) bool {
	if n.kind != tableKind {
		p.reportValue(n, "%v", n.typeError(want))
	}
	return n.kind == tableKind
}

func (p *parser) reportUnknownKey(n *node, nearest string) {
	hint := ""
	if nearest != "" {
		hint = didYouMean(nearest)
	}
	p.reportKey(n, "unknown key%s", hint)
}

// serviceNodes are the tables of the services, in the order of the file.
func (p *parser) serviceNodes() []*node {
	var nodes []*node
	if services := p.root.member("services"); services != nil {
		for _, name := range services.names {
			if n := services.members[name]; n.kind == tableKind {
				nodes = append(nodes, n)
			}
		}
	}
	return nodes
}

// addressFields are the keys that must be read before any ${service.port} can be resolved.
var addressFields = slices.DeleteFunc(slices.Clone(serviceFields), func(f field) bool {
	return f.name != "local_port" && f.name != "local_address"
})

// resolveAddresses determines the address of every service.
func (p *parser) resolveAddresses() {
	p.endpoints = map[string]Service{}
	defaults := p.root.member("defaults")
	p.interpolate(defaults.member("local_address"), rejectServices)
	for _, n := range p.serviceNodes() {
		s := newService(n.name)
		p.interpolate(n.member("local_port"), rejectServices)
		p.interpolate(n.member("local_address"), rejectServices)
		silent := &serviceReader{service: &s, fields: addressFields}
		silent.readSilently(defaults)
		silent.readSilently(n)
		p.endpoints[n.name] = s
	}
	p.chooseAutoPorts()
}

// chooseAutoPorts picks the ports that are "auto". It picks no port that the file gives to another service or to the metrics.
func (p *parser) chooseAutoPorts() {
	taken := map[int]bool{}
	for _, s := range p.endpoints {
		taken[s.LocalPort] = true
	}
	if n := p.root.member("metrics_port"); n != nil {
		port, _ := readPort(n) // what is wrong with it is reported by top
		taken[port] = true
	}
	for _, name := range slices.Sorted(maps.Keys(p.endpoints)) {
		s := p.endpoints[name]
		if !s.AutoPort {
			continue
		}
		if p.options.PickAutoPort != nil {
			s.LocalPort = p.options.PickAutoPort(name)
		}
		if taken[s.LocalPort] || s.LocalPort < 1 || s.LocalPort > 65535 {
			s.LocalPort = PickAutoPort(p.files.Root, name, func(port int) bool { return taken[port] })
		}
		taken[s.LocalPort] = true
		p.endpoints[name] = s
	}
}

// readServices reads [defaults] and every service.
func (p *parser) readServices() {
	defaults := p.root.member("defaults")
	scratch := newService("")
	check := &serviceReader{report: &p.report, service: &scratch, fields: p.fields, defaults: true}
	check.readTable(defaults)
	if services := p.root.member("services"); services != nil {
		for _, name := range services.names {
			p.readService(services.members[name], defaults)
		}
	}
	p.checkConflicts()
}

// reservedServiceName is the name of the supervisor's own log.
const reservedServiceName = "supervisor"

func (p *parser) readService(n, defaults *node) {
	if !serviceNamePattern().MatchString(n.name) {
		p.reportKey(n, `invalid service name: use letters, digits, "-" and "_", and do not start with a digit or "-"`)
	}
	if n.name == reservedServiceName {
		p.reportKey(n, "reserved name: the supervisor's own log uses it; choose another name")
	}
	if !p.checkTable(n, "a table") {
		return
	}
	s := newService(n.name)
	a := &serviceReader{report: &p.report, service: &s, fields: p.fields, check: s.HealthCheck.Type}
	a.readTypes(defaults)
	a.readTypes(n)
	a.readSilently(defaults)
	a.readTable(n)
	a.reportMissing(n)
	s.setDerivedDefaults()
	p.completeSettings(&s, GivenKeys{report: &p.report, table: n, keys: a.given})
	if s.AutoPort {
		s.LocalPort = p.endpoints[n.name].LocalPort
	}
	p.project.Services = append(p.project.Services, s)
}

// checkConflicts reports services with the same address, or with the same names of variables.
func (p *parser) checkConflicts() {
	listening := map[netip.AddrPort]string{}
	prefixes := map[string]string{}
	for _, s := range p.project.Services {
		n := p.root.member("services", s.Name)
		p.checkAddressConflict(s, n, listening)
		prefix := EnvPrefix(s.Name)
		if other, ok := prefixes[prefix]; ok {
			p.reportKey(n, "name conflicts with service %q: both would export %s_HOST and %s_PORT", other, prefix, prefix)
			continue
		}
		prefixes[prefix] = s.Name
	}
}

func (p *parser) checkAddressConflict(s Service, n *node, listening map[netip.AddrPort]string) {
	if s.LocalPort == 0 {
		return // reported already
	}
	for _, address := range s.ListenAddresses() {
		if other, ok := listening[address]; ok {
			p.reportValue(n.member("local_port"), `%s is already used by service %q; use another port, "auto" or another local_address`, address, other)
			return
		}
	}
	for _, address := range s.ListenAddresses() {
		listening[address] = s.Name
	}
}

// reservedPrefix begins the names of our own variables, which tell a shell what to undo.
const reservedPrefix = "LOCALPORT_"

// readEnv reads [env]. The values stay templates; only errors that do not depend on the environment are reported.
func (p *parser) readEnv() {
	table := p.root.member("env")
	if table == nil {
		return
	}
	for _, name := range table.names {
		n := table.members[name]
		switch {
		case !variableNamePattern().MatchString(name):
			p.reportKey(n, `invalid variable name: use letters, digits and "_", and do not start with a digit`)
		case strings.HasPrefix(name, reservedPrefix):
			p.reportKey(n, "reserved name: variables that start with %s belong to localport", reservedPrefix)
		}
		if n.kind != stringKind {
			p.reportHidden(n, "%v", n.typeError("a string"))
			continue
		}
		if err := p.checkTemplate(n); err != nil {
			p.reportHidden(n, "%v", err)
		}
		line, col := n.doc.position(n.valueOffset)
		p.project.Env = append(p.project.Env, EnvEntry{Name: name, Template: n.text, Path: n.doc.path, Line: line, Col: col})
	}
}

func (p *parser) checkTemplate(n *node) error {
	if strings.Contains(n.text, "\x00") {
		return errNUL
	}
	t, err := parseTemplate(n.text)
	for ref := range t.references() {
		if _, err := p.lookupService(ref); ref.service != "" && err != nil {
			return err
		}
	}
	return err
}

// lookupService resolves a reference to a service.
func (p *parser) lookupService(ref *reference) (string, error) {
	s, ok := p.endpoints[ref.service]
	if !ok {
		hint := ""
		if nearest := NearestName(ref.service, slices.Sorted(maps.Keys(p.endpoints))); nearest != "" {
			hint = didYouMean(nearest)
		}
		return "", fmt.Errorf("unknown service %q%s", ref.service, hint)
	}
	return Endpoint{Host: s.Host(), Port: s.LocalPort}.attribute(ref.attr), nil
}
