// Package convert is what the converters of other tools' files have in common: the config that they write, and what they could not
// convert. There is a package for each kind of file.
package convert

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/localport-sh/localport/cmd/localport/internal/convert/yamlfile"
	"github.com/localport-sh/localport/project/draft"
)

// Result is a config that was made of another tool's file.
type Result struct {
	Config   draft.Config
	Findings []Finding // in the order of the file
}

// Finding is a key that has no counterpart, or whose meaning is not quite the same.
type Finding struct {
	Path    string // the file, as it was given; empty: the source is no file
	Line    int    // 0: none
	Key     string // services[2].connection.password
	Message string // what happened to it, and what to do instead
}

// String is "FILE:LINE: KEY: MESSAGE", without the parts that are not known.
func (f Finding) String() string {
	position := f.Path
	if f.Line > 0 {
		position = strings.TrimPrefix(fmt.Sprintf("%s:%d", f.Path, f.Line), ":")
	}
	var parts []string
	for _, part := range []string{position, f.Key, f.Message} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, ": ")
}

// FileError returns an error about a file: "FILE:LINE: REASON" for a *yamlfile.FormatError.
func FileError(path string, err error) error {
	if format, ok := errors.AsType[*yamlfile.FormatError](err); ok && format.Line > 0 {
		return fmt.Errorf("%s:%d: %w", path, format.Line, err)
	}
	return fmt.Errorf("%s: %w", path, err)
}

// Text returns the text of the config, with the findings as comments at its end.
func (r Result) Text() string {
	config := r.Config
	if len(r.Findings) > 0 {
		config.Trailer = append(slices.Clip(config.Trailer), "Not converted, or converted with a difference:")
		for _, finding := range r.Findings {
			config.Trailer = append(config.Trailer, "- "+finding.String())
		}
	}
	return config.Text()
}

// SecretReference refers to a variable that .env or the environment is to hold. Until it does, the config is valid all the same: an
// unset variable or an empty password would make it invalid.
func SecretReference(variable string) draft.Template {
	return draft.Template("${" + variable + ":-unset}")
}
