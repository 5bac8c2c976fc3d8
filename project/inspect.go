package project

// PathUse is a file or a program that a service's config names.
type PathUse struct {
	Path      string // of a file: absolute; of a program: as written
	IsProgram bool
}

// inspectPaths asks Options.CheckPath about every file and program that the service names. Of a service that is not
// enabled, or that nothing waits for, it only advises.
func (p *parser) inspectPaths(s *Service, table *node) {
	if p.options.CheckPath == nil {
		return
	}
	for _, technology := range p.options.Technologies {
		for _, key := range technology.Keys {
			if technology.Name != s.Technology {
				break
			}
			where := []string{connectionKey, key.Name}
			if key.OutsideConnection {
				where = where[1:]
			}
			p.inspectKey(s, key, s.Connection.Settings, p.givenNode(table, where...))
		}
	}
	for _, check := range p.options.Checks {
		for _, key := range check.Keys {
			if check.Name == s.HealthCheck.Type {
				p.inspectKey(s, key, s.HealthCheck.Settings, p.givenNode(table, healthCheckKey, key.Name))
			}
		}
	}
}

// givenNode returns the value that a service has for a key: from its table, else from [defaults], else nil.
func (p *parser) givenNode(table *node, where ...string) *node {
	if n := table.member(where...); n != nil {
		return n
	}
	return p.root.member("defaults").member(where...)
}

func (p *parser) inspectKey(s *Service, key Key, settings Settings, n *node) {
	var use PathUse
	switch argv := settings.TextList(key.Name); {
	case n == nil || n.hasError:
		return
	case key.Type == TypeFile:
		use = PathUse{Path: settings.Text(key.Name)}
	case key.Type == TypeTextList && len(argv) > 0 && len(n.children) > 0:
		use, n = PathUse{Path: argv[0], IsProgram: true}, n.children[0]
	}
	if use.Path == "" {
		return
	}
	err := p.options.CheckPath(use)
	switch {
	case err == nil:
	case s.Enabled && !s.Optional:
		p.reportError(n, err)
	default:
		p.advice.reportValue(n, "%v", err)
	}
}

// inspectEnv reports the entries of [env] that cannot be resolved, as a shell and "localport env" would.
func (p *parser) inspectEnv() {
	if p.options.CheckPath == nil {
		return
	}
	for _, entry := range p.project.Env {
		n := p.root.member("env", entry.Name)
		if p.checkTemplate(n) != nil {
			continue // reported already
		}
		if _, err := p.scope.resolveEntry(entry, p.project.Env); err != nil {
			p.reportHidden(n, "%v", err)
		}
	}
}
