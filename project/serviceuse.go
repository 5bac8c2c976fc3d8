package project

import (
	"slices"

	"github.com/localport-sh/localport/forwarder/printable"
)

// ServiceUse is a place in a project's files that needs a service.
type ServiceUse struct {
	Path      string
	Line, Col int      // from 1, the column in bytes
	Key       []string // of the value, from the root of the file
	Service   string   // the service that is needed
	// IsDependency: the value is an item of depends_on; else it has ${SERVICE.…}.
	IsDependency bool
	Source       string // the line, masked
}

// ServiceUses returns the places that need one of these services, except those in the services themselves, by file and position. A file that is not
// TOML has none.
func (f *Files) ServiceUses(services ...string) []ServiceUse {
	var uses []ServiceUse
	for _, file := range []struct {
		path string
		data []byte
	}{{f.Path, f.Config}, {f.LocalPath, f.Local}} {
		d, invalid := parseDocument(f, file.path, file.data)
		if invalid != nil {
			continue
		}
		for n := range d.root.descendants() {
			uses = append(uses, n.serviceUses(services)...)
		}
	}
	return uses
}

// serviceUses returns the uses in the value of n itself.
func (n *node) serviceUses(services []string) []ServiceUse {
	key := n.key()
	if n.kind != stringKind || len(key) > 1 && key[0] == "services" && slices.Contains(services, key[1]) {
		return nil
	}
	var uses []ServiceUse
	add := func(service string, isDependency bool) {
		if !slices.Contains(services, service) {
			return
		}
		line, col := n.doc.position(n.valueOffset)
		use := ServiceUse{Path: n.doc.path, Line: line, Col: col, Key: key, Service: service, IsDependency: isDependency}
		use.Source = printable.EscapeLine(n.doc.quoteLine(n.valueOffset, n.valueOffset, nil))
		uses = append(uses, use)
	}
	if n.index >= 0 && len(key) == 3 && key[2] == "depends_on" {
		add(n.text, true)
	}
	t, _ := parseTemplate(n.text)
	for ref := range t.references() {
		add(ref.service, false)
	}
	return uses
}

// key returns the names from the root of the file to n; those of an array's items are the array's.
func (n *node) key() []string {
	switch {
	case n.parent == nil:
		return nil
	case n.index >= 0:
		return n.parent.key()
	}
	return append(n.parent.key(), n.name)
}
