// Package edit changes single services and keys of a config. It splices text: every byte outside of the change stays as it is, comments, odd
// spacing and line ends included.
package edit

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/localport-sh/localport/project/draft"
)

// ErrNotFound says that there is nothing to remove.
var ErrNotFound = errors.New("not in this file")

// ExistsError says that a service cannot be added because the file has one of this name.
type ExistsError struct {
	Name string
	Line int // of its first line
}

func (e *ExistsError) Error() string {
	return fmt.Sprintf("service %q exists already, in line %d", e.Name, e.Line)
}

// UnsupportedSyntaxError says that the file is written in a way that this package does not edit. Nothing was changed.
type UnsupportedSyntaxError struct {
	Line, Col int    // from 1, the column in bytes
	Reason    string // what is there: "services is an inline table"
	Advice    string // what to do with an editor
}

func (e *UnsupportedSyntaxError) Error() string { return e.Reason }

// AddService returns the config text with a service added below the last one, or at the end. table is its TOML text: [services.NAME], its
// keys, subtables and comments. Line ends become those of text.
func AddService(text []byte, name, table string) ([]byte, error) {
	d, err := parse(text)
	if err != nil {
		return nil, err
	}
	if at := d.findService(name); at >= 0 {
		return nil, &ExistsError{Name: name, Line: d.line(d.blocks[at].start)}
	}
	if at := d.findInline("services"); at >= 0 {
		return nil, d.unsupportedAt(d.blocks[at].start, "services is an inline table",
			fmt.Sprintf("add the entry %q to it, or write the services as tables such as [services.%s]", name, draft.QuoteKey(name)))
	}
	added := d.withLineEnds(strings.TrimSpace(table) + "\n")
	if err := checkTable(name, added); err != nil {
		return nil, err
	}
	return d.splice([]change{d.insertTable(d.addedServiceBlock(), added)}, func(values map[string]any) {
		services, _ := values["services"].(map[string]any)
		if services == nil {
			services = make(map[string]any)
			values["services"] = services
		}
		services[name] = decodeService(name, added)
	})
}

// RemoveService returns the config text without a service: without its tables and keys, the comments directly above them, and the blank lines that
// separated it.
func RemoveService(text []byte, name string) ([]byte, error) {
	d, err := parse(text)
	if err != nil {
		return nil, err
	}
	regions := d.serviceRegions(name)
	if len(regions) == 0 {
		if at := d.findInline("services"); at >= 0 && d.hasValue("services", name) {
			return nil, d.unsupportedAt(d.blocks[at].start, "services is an inline table", fmt.Sprintf("remove the entry %q from it", name))
		}
		return nil, ErrNotFound
	}
	changes := make([]change, len(regions))
	for i, r := range regions {
		changes[i] = d.removal(r)
	}
	return d.splice(changes, func(values map[string]any) {
		services, _ := values["services"].(map[string]any)
		delete(services, name)
	})
}

// joinKey returns a dotted key.
func joinKey(key []string) string {
	parts := make([]string, len(key))
	for i, name := range key {
		parts[i] = draft.QuoteKey(name)
	}
	return strings.Join(parts, ".")
}

// findService returns the index of the first block of a service; -1 if the file has none.
func (d *document) findService(name string) int {
	return slices.IndexFunc(d.blocks, func(b block) bool { return hasPrefix(b.key, []string{"services", name}) })
}

// findInline returns the index of the block that gives a key an inline table; -1 if there is none.
func (d *document) findInline(key ...string) int {
	return slices.IndexFunc(d.blocks, func(b block) bool { return b.kind == keyValue && b.isInline && slices.Equal(b.key, key) })
}

func hasPrefix(key, prefix []string) bool {
	return len(key) >= len(prefix) && slices.Equal(key[:len(prefix)], prefix)
}

// addedServiceBlock returns the index of the block before which a new service is inserted: the first table after the last service that is no
// service, with its comments; the number of blocks if that is the end of the file.
func (d *document) addedServiceBlock() int {
	last := -1
	for i, b := range d.blocks {
		if b.isHeader() && b.key[0] == "services" {
			last = i
		}
	}
	if last < 0 {
		return len(d.blocks)
	}
	next := d.nextHeader(last)
	if next == len(d.blocks) {
		return next
	}
	return d.leadingComments(next)
}

// insertTable returns the change that inserts a table before a block, with a blank line around it where none is.
func (d *document) insertTable(before int, table string) change {
	at := len(d.text)
	if before < len(d.blocks) {
		at = d.blocks[before].start
		table += d.lineEnd
	}
	switch {
	case at == 0:
	case before == len(d.blocks) && d.text[at-1] != '\n':
		table = d.lineEnd + d.lineEnd + table
	case d.blocks[before-1].kind != blank:
		table = d.lineEnd + table
	}
	return change{start: at, end: at, text: table}
}
