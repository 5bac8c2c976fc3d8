package project

import (
	"cmp"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Options says how to parse a config.
type Options struct {
	// Getenv looks up a variable in the environment without the variables that localport exported; nil: the environment is empty.
	Getenv func(string) (string, bool)
	// Checks are the available types of health check, besides "none"; nil: "tcp".
	Checks []CheckType
	// Technologies are the available technologies, in the order in which messages list them.
	Technologies []TechnologyType
	// PickAutoPort returns the port of a service with local_port = "auto"; nil: PickAutoPort of the root and the name.
	PickAutoPort func(service string) int
	// CheckPath is asked about every file and program that services name, and returns what is wrong with it: Parse then reports it, and the
	// entries of [env] that cannot be resolved. Nil: not asked, because what is missing here and now may be there when it is needed.
	CheckPath func(PathUse) error
	// Linger is the value in the user's config, for a project without one; zero: the default.
	Linger time.Duration
	// KeepConnections is the value in the user's config, for a project that does not set linger.
	KeepConnections bool
}

// Parse reads a project from the bytes of its files. The error is an *InvalidError with everything that is wrong.
func Parse(f *Files, o Options) (*Project, error) { return newParser(f, o).parse() }

func newParser(f *Files, o Options) *parser {
	if o.Getenv == nil {
		o.Getenv = func(string) (string, bool) { return "", false }
	}
	return &parser{
		files: f, options: o, scope: EnvScope{Lookup: o.Getenv}, exposure: exposure{shown: make(map[string]bool), secrets: make(map[string][]string)},
		project: &Project{Root: f.Root, Path: f.Path, Linger: cmp.Or(o.Linger, defaultLinger), KeepConnections: o.KeepConnections},
	}
}

// parse reads the project, once.
func (p *parser) parse() (*Project, error) {
	if diagnostics := p.readDocuments(); len(diagnostics) > 0 {
		return nil, &InvalidError{Diagnostics: diagnostics}
	}
	p.resolveAddresses()
	p.interpolateAll()
	p.addDotEnvSecrets()
	p.markSecretSettings()
	p.shareSecrets()
	newTableReader(&p.report, p.topLevelFields()).readTable(p.root)
	p.readServices()
	p.checkDependencies()
	p.checkMetricsPort()
	p.readEnv()
	p.inspectEnv()
	p.adviseEmpty()
	slices.Sort(p.project.Mentioned)
	p.project.Mentioned = slices.Compact(p.project.Mentioned)
	slices.Sort(p.secrets)
	p.project.Secrets = slices.Compact(p.secrets)
	if len(p.found)+len(p.advice.found)+len(p.warnings.found) > 0 {
		p.markPublicValues()
	}
	p.project.Advice = p.advice.diagnostics(p.secrets)
	if warning := p.files.DotEnvWarning(); warning != nil {
		p.dotEnv.warnings = append(p.dotEnv.warnings, *warning)
	}
	p.project.Warnings = append(p.dotEnv.warnings, p.warnings.diagnostics(p.secrets)...)
	if found := p.diagnostics(p.secrets); len(found) > 0 {
		return nil, &InvalidError{Diagnostics: found, Secrets: p.project.Secrets}
	}
	return p.project, nil
}

// parser is one run of Parse.
type parser struct {
	report
	files    *Files
	options  Options
	project  *Project
	docs     []*document
	root     *node
	scope    EnvScope // what ${…} is resolved from; the services' addresses are read before the rest of them
	dotEnv   dotEnv
	exposure exposure
	warnings report
	advice   report
	secrets  []string
}

// readDocuments parses the files. A syntax error is the only one reported: after it everything else would be a guess.
func (p *parser) readDocuments() []Diagnostic {
	local := cmp.Or(p.files.LocalPath, filepath.Join(p.files.Root, LocalName))
	for i, data := range [][]byte{p.files.Config, p.files.Local} { // an absent file is like an empty one
		doc, invalid := parseDocument(p.files, []string{p.files.Path, local}[i], data)
		if invalid != nil {
			return []Diagnostic{*invalid}
		}
		doc.order = i
		p.docs = append(p.docs, doc)
	}
	p.root = p.docs[0].root
	p.root.merge(p.docs[1].root)
	path := cmp.Or(p.files.DotEnvPath, filepath.Join(p.files.Root, EnvName))
	p.dotEnv = parseDotEnv(path, p.files.DotEnv, p.options.Getenv)
	p.project.DotEnv, p.scope.DotEnv = p.dotEnv.values, p.dotEnv.values
	return p.dotEnv.errors
}

// addDotEnvSecrets adds the values of .env, except those that say where a service leads. Mask ignores values of fewer than minSecretLength
// bytes.
func (p *parser) addDotEnvSecrets() {
	shown := make(map[string]bool)
	addText := func(n *node) {
		if n != nil && (n.kind == stringKind || n.kind == integerKind) {
			shown[n.text] = true
		}
	}
	for _, n := range p.serviceNodes() {
		for _, key := range targetKeys {
			addText(n.member("connection", key))
		}
		addText(n.member("remote_port"))
	}
	for name, value := range p.dotEnv.values {
		if isSecretName(name) || !shown[value] && !p.exposure.shown[name] {
			p.addSecret(value)
		}
	}
}

func (p *parser) addSecret(value string) {
	for _, line := range secretLines(value) {
		if line != "" {
			p.secrets = append(p.secrets, line)
		}
	}
}

// shareSecrets gives the secrets known so far to the documents, which mask them in messages.
func (p *parser) shareSecrets() {
	for _, doc := range p.docs {
		doc.secrets = p.secrets
	}
}

// serviceNodes are the tables of the services, in the order of the file.
func (p *parser) serviceNodes() []*node {
	isNotTable := func(n *node) bool { return n.kind != tableKind }
	return slices.DeleteFunc(slices.Clone(p.root.membersAt("services")), isNotTable)
}

// resolveAddresses determines the address of every service, which must be known before any ${service.port} can be resolved.
func (p *parser) resolveAddresses() {
	p.scope.Services = map[string]Endpoint{}
	var auto []string
	for _, n := range p.serviceNodes() {
		s := newService(n.name)
		address := storeIn(&s.LocalAddress, (*node).asLoopbackAddress)
		p.readAddress(p.root.member("defaults", "local_address"), address)
		p.readAddress(n.member("local_address"), address)
		p.readAddress(n.member("local_port"), s.readLocalPort)
		if s.AutoPort {
			auto = append(auto, n.name)
		}
		p.scope.Services[n.name] = Endpoint{Host: s.Host(), Port: s.LocalPort, IsOurs: true}
	}
	p.chooseAutoPorts(auto)
}

// readAddress reads a key that decides a service's address. What is wrong with it is reported when the service is read.
func (p *parser) readAddress(n *node, read reader) {
	p.interpolate(n, rejectServices)
	if n != nil && !n.hasError {
		_ = read(n)
	}
}

// chooseAutoPorts picks the ports of the services whose port is "auto". It picks no port that the file gives to another service or to the
// metrics.
func (p *parser) chooseAutoPorts(services []string) {
	isTaken := map[int]bool{}
	for _, endpoint := range p.scope.Services {
		isTaken[endpoint.Port] = true
	}
	if n := p.root.member("metrics_port"); n != nil {
		port, _ := n.asPort() // what is wrong with it is reported when the key is read
		isTaken[port] = true
	}
	for _, name := range slices.Sorted(slices.Values(services)) {
		port := 0
		if p.options.PickAutoPort != nil {
			port = p.options.PickAutoPort(name)
		}
		if isTaken[port] || port < 1 || port > 65535 {
			port = PickAutoPort(p.files.Root, name, func(port int) bool { return isTaken[port] })
		}
		isTaken[port] = true
		endpoint := p.scope.Services[name]
		endpoint.Port = port
		p.scope.Services[name] = endpoint
	}
}

// readServices reads [defaults] and every service.
func (p *parser) readServices() {
	defaults := p.root.member("defaults")
	s := newService("")
	fields := p.options.serviceFields(&s) // one list for all services: it takes 70 kB
	r := newTableReader(&p.report, fields)
	r.outer, r.isDefaults = topLevelNames, true
	r.readTable(defaults)
	for _, n := range p.root.membersAt("services") {
		p.readService(&s, fields, n, defaults)
	}
	p.checkConflicts()
}

// reservedServiceName is the name of the supervisor's own log.
const reservedServiceName = "supervisor"

// readService reads the service whose table is n, and adds it to the project. The readers of fields store into s.
func (p *parser) readService(s *Service, fields []field, n, defaults *node) {
	if !serviceNamePattern().MatchString(n.name) {
		p.reportKey(n, `invalid service name: use letters, digits, "-" and "_", and do not start with a digit or "-"`)
	}
	if len(n.name) > maxServiceName {
		p.reportKey(n, "the name has %d characters; use at most %d: a log file is named after the service", len(n.name), maxServiceName)
	}
	if n.name == reservedServiceName {
		p.reportKey(n, "reserved name: the supervisor's own log uses it; choose another name")
	}
	if err := requireTable("a table")(n); err != nil {
		p.reportError(n, err)
		return
	}
	*s = newService(n.name)
	s.TargetSecrets = p.targetSecrets(n.name)
	r := newTableReader(&p.report, fields)
	r.outer, r.check = topLevelNames, s.HealthCheck.Type
	r.readTypes(defaults, p.options)
	r.readTypes(n, p.options)
	r.readSilently(defaults)
	s.Technology = r.technology // the reader of remote_port needs it, wherever in the table it is
	r.readTable(n)
	r.reportMissing(n, r.fields, "")
	s.setDerivedDefaults()
	p.completeSettings(s, GivenKeys{report: &p.report, advice: &p.advice, table: n, keys: r.given})
	if s.AutoPort {
		s.LocalPort = p.scope.Services[n.name].Port
	}
	p.inspectPaths(s, n)
	p.advise(s, n)
	if s.Reverse && n.member(bridgeKey) != nil {
		p.reportKey(n.member(bridgeKey), `only valid for services that open a local port; with "reverse" the server opens one`)
	}
	if s.Reverse && n.member(maxConnectionsKey) != nil {
		p.reportKey(n.member(maxConnectionsKey), `only valid for services that open a local port; with "reverse" the clients connect to the server`)
	}
	if s.Reverse {
		s.Bridge, s.MaxConnections = "", 0 // of [defaults]
	}
	p.project.Services = append(p.project.Services, *s)
}

// checkConflicts reports services with the same address, or with the same names of variables.
func (p *parser) checkConflicts() {
	listening := map[netip.AddrPort]string{}
	bridged := map[string]string{} // services by bridge and port
	prefixes := map[string]string{}
	for _, s := range p.project.Services {
		n := p.root.member("services", s.Name)
		p.checkAddressConflict(s, n, listening)
		p.checkBridgeConflict(s, n, bridged)
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

// checkBridgeConflict reports services that would listen on the same port of a bridge, although their loopback addresses differ.
func (p *parser) checkBridgeConflict(s Service, n *node, bridged map[string]string) {
	if s.LocalPort == 0 || s.Bridge == "" || n.member("local_port").hasError {
		return
	}
	address := net.JoinHostPort(s.Bridge, strconv.Itoa(s.LocalPort))
	if other, ok := bridged[address]; ok {
		p.reportValue(n.member("local_port"), `port %d of bridge %q is already used by service %q; use another port, "auto" or bridge = "none"`, s.LocalPort, s.Bridge, other)
		return
	}
	bridged[address] = s.Name
}

// readEnv reads [env]. The values stay templates; only errors that do not depend on the environment are reported.
func (p *parser) readEnv() {
	for _, n := range p.root.membersAt("env") {
		name := n.name
		switch {
		case !variableNamePattern().MatchString(name):
			p.reportKey(n, `invalid variable name: use letters, digits and "_", and do not start with a digit%s`, variableNameAdvice(name))
		case describeReservedName(name) != "":
			p.reportKey(n, "reserved name: %s", describeReservedName(name))
		}
		if n.kind != stringKind {
			p.reportHidden(n, "%v%s", n.typeError("a string"), envValueAdvice(n))
			continue
		}
		advice := p.adviseEnvValue(n)
		if err := p.checkTemplate(n); err != nil {
			p.reportHidden(n, "%v", err)
		}
		line, col := n.doc.position(n.valueOffset)
		p.project.Env = append(p.project.Env, EnvEntry{Name: name, Template: n.text, Path: n.doc.path, Line: line, Col: col, Advice: advice})
	}
}

// adviseEnvValue warns of what is not replaced in the value of an entry of [env], and returns the messages.
func (p *parser) adviseEnvValue(n *node) (messages []string) {
	before := len(p.advice.found)
	p.adviseUnbraced(n)
	p.adviseForeignVariable(n)
	if strings.HasPrefix(n.text, "~/") && !n.isSecret {
		p.advice.reportValue(n, `"~" is not replaced in [env]: write ${HOME}%s`, n.text[1:])
	}
	for _, f := range p.advice.found[before:] {
		messages = append(messages, f.message)
	}
	return messages
}

func (p *parser) checkTemplate(n *node) error {
	if strings.Contains(n.text, "\x00") {
		return errNUL
	}
	t, err := parseTemplate(n.text)
	for ref := range t.references() {
		if _, unknown := p.scope.lookupService(ref); ref.service != "" && unknown != nil {
			return unknown
		}
	}
	return err
}

// checkMetricsPort reports a service that listens on the address of the metrics.
func (p *parser) checkMetricsPort() {
	address := netip.AddrPortFrom(loopback4, uint16(p.project.MetricsPort))
	for _, s := range p.project.Services {
		if p.project.MetricsPort != 0 && slices.Contains(s.ListenAddresses(), address) {
			p.reportValue(p.root.member("metrics_port"), "%s is already used by service %q; use another port", address, s.Name)
			return
		}
	}
}
