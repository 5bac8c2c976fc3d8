package project

import (
	"path/filepath"
	"strconv"
	"strings"
)

// Setting is a key that the files set for a service, in its own table or in [defaults].
type Setting struct {
	Key    string `json:"key"`   // within the service's table, such as "connection.host"
	Value  string `json:"value"` // resolved, as TOML would have it; secrets are masked
	Origin Origin `json:"origin"`
}

// Origin is where a value comes from.
type Origin struct {
	Path      string           `json:"path,omitempty"`      // of the file; empty: no file sets it
	Line      int              `json:"line,omitempty"`      // from 1
	Variables []VariableOrigin `json:"variables,omitempty"` // that the value mentions as ${NAME}, in the order of their first mention
}

// VariableOrigin is where the value of a variable comes from.
type VariableOrigin struct {
	Name string `json:"name"`
	Path string `json:"path,omitempty"` // of .env; empty: the environment or, if IsDefault is set, the default in ${NAME:-default}
	Line int    `json:"line,omitempty"` // in .env
	// IsDefault: the variable is set nowhere, or is empty.
	IsDefault bool `json:"default,omitempty"`
}

// Describe is the place as people read it: ".localport.toml:4, ${HOST} from the environment". Paths are relative to root if they are in it.
func (o Origin) Describe(root string) string {
	parts := []string{position(root, o.Path, o.Line)}
	for _, v := range o.Variables {
		source := "the environment"
		switch {
		case v.IsDefault:
			source = "its default"
		case v.Path != "":
			source = position(root, v.Path, v.Line)
		}
		parts = append(parts, "${"+v.Name+"} from "+source)
	}
	return strings.Join(parts, ", ")
}

func position(root, path string, line int) string {
	if relPath, err := filepath.Rel(root, path); err == nil && filepath.IsLocal(relPath) {
		path = relPath
	}
	return path + ":" + strconv.Itoa(line)
}

// ParseSettings is Parse that also returns what the files set for each service, by its name, in the order of the files: first what its own
// table sets, then what it has from [defaults].
func ParseSettings(f *Files, o Options) (*Project, map[string][]Setting, error) {
	p := newParser(f, o)
	parsed, err := p.parse()
	if err != nil {
		return nil, nil, err
	}
	settings := make(map[string][]Setting)
	for _, n := range p.serviceNodes() {
		settings[n.name] = p.settingsOf(n)
	}
	return parsed, settings, nil
}

// settingsOf returns the settings of the service whose table is n.
func (p *parser) settingsOf(n *node) []Setting {
	var service Service
	r := newTableReader(nil, p.options.serviceFields(&service))
	defaults := p.root.member("defaults")
	r.check = newService(n.name).HealthCheck.Type
	r.readTypes(defaults, p.options)
	r.readTypes(n, p.options)
	c := settingCollector{parser: p, reader: r, isSet: make(map[string]bool)}
	c.addTable(n, r.fields, "")
	if defaults != nil {
		c.addTable(defaults, r.fields, "")
	}
	return c.settings
}

// settingCollector collects the settings of one service.
type settingCollector struct {
	parser   *parser
	reader   *tableReader
	isSet    map[string]bool // by key
	settings []Setting
}

// addTable adds the keys of a table that the service has and that are not set yet.
func (c *settingCollector) addTable(n *node, fields []field, prefix string) {
	for _, m := range n.children {
		key := prefix + m.name
		kind := c.reader.tableKind(prefix).value
		f, isKnown := findField(fields, m.name, kind)
		switch {
		case !isKnown || !f.appliesTo(kind) || c.isSet[key] && m.kind != tableKind:
		case f.read == nil:
			c.addTable(m, f.fields, key+".")
		case m.kind == tableKind:
			c.addEntries(m, key+".")
		default:
			c.add(m, key)
		}
	}
}

// addEntries adds the entries of a table with free keys, such as connection.options.
func (c *settingCollector) addEntries(n *node, prefix string) {
	for _, m := range n.children {
		if key := prefix + m.name; !c.isSet[key] {
			c.add(m, key)
		}
	}
}

func (c *settingCollector) add(n *node, key string) {
	c.isSet[key] = true
	line, _ := n.doc.position(n.keyOffset)
	c.settings = append(c.settings, Setting{
		Key: key, Value: c.parser.shownValue(n), Origin: Origin{Path: n.doc.path, Line: line, Variables: c.parser.variableOrigins(n)},
	})
}

// shownValue is a value as TOML would have it, with secrets masked.
func (p *parser) shownValue(n *node) string {
	switch {
	case n.isSecret:
		return strconv.Quote(mask)
	case n.kind == stringKind:
		return quoteMasked(n.text, p.secrets)
	case n.kind == arrayKind || n.kind == tableKind:
		items := make([]string, 0, len(n.children))
		for _, m := range n.children {
			item := p.shownValue(m)
			if n.kind == tableKind {
				item = m.name + " = " + item
			}
			items = append(items, item)
		}
		if n.kind == tableKind {
			return "{ " + strings.Join(items, ", ") + " }"
		}
		return "[" + strings.Join(items, ", ") + "]"
	}
	return n.text
}

// variableOrigins returns where the variables in a value, and in the items of an array, come from.
func (p *parser) variableOrigins(n *node) (origins []VariableOrigin) {
	isSeen := make(map[string]bool)
	for m := range n.descendants() {
		for _, name := range m.variables {
			if !isSeen[name] {
				isSeen[name] = true
				origins = append(origins, p.variableOrigin(name))
			}
		}
	}
	return origins
}

func (p *parser) variableOrigin(name string) VariableOrigin {
	origin := VariableOrigin{Name: name}
	value, _ := p.scope.lookupVariable(name)
	switch {
	case value == "":
		origin.IsDefault = true
	case p.isFromDotEnv(name):
		origin.Path, origin.Line = p.dotEnv.path, p.dotEnv.lines[name]
	}
	return origin
}
