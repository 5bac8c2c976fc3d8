package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/draft"
)

type configExportCmd struct {
	Format       string   `enum:"toml,yaml,json" default:"toml" help:"Format: ${enum}."`
	Tag          []string `short:"t" sep:"none" placeholder:"TAG" help:"Only the services with this tag, and those that they depend on; can be repeated."`
	WithDefaults bool     `help:"Also write keys that have their default values."`
}

// Help says what the result is for.
func (configExportCmd) Help() string {
	return "The config as it is, with .localport.local.toml merged and ${NAME} as written. Secrets are not printed: one that the config contains is " +
		"replaced by ${NAME}, with a message. The TOML can be used as a .localport.toml.\n\n" +
		"Example: localport config export --format json\n\n" +
		"Exit codes: 0 printed; 1 a tag is unknown, or the config cannot be read; 2 wrong usage; 3 the config is invalid."
}

// Run prints the config.
func (c configExportCmd) Run(a *app, p commandProject) error {
	_, files, err := p.AskTrust() // which adds the files that a git worktree runs with
	if err != nil {
		return err
	}
	config, notes, err := c.export(files, p.parseOptions())
	if err != nil {
		return err
	}
	text := config.Text
	switch c.Format {
	case "json":
		text = config.JSON
	case "yaml":
		text = config.YAML
	}
	if _, err := fmt.Fprint(a.out.Data(), text()); err != nil {
		return err
	}
	for _, note := range notes {
		output.Info(a.err, "%s", note)
	}
	return nil
}

// export returns the config, and notes about what is not as in the files.
func (c configExportCmd) export(files *project.Files, options project.Options) (draft.Config, []string, error) {
	parsed, err := project.Parse(files, options)
	if err != nil {
		return draft.Config{}, nil, err
	}
	selected, err := selectExported(parsed, c.Tag)
	if err != nil {
		return draft.Config{}, nil, err
	}
	entries, err := files.Written(options)
	if err != nil {
		return draft.Config{}, nil, err
	}
	e := exporter{services: selected}
	for _, entry := range entries {
		e.addTopLevel(entry)
	}
	if c.WithDefaults {
		values, err := files.Resolve(options)
		if err != nil {
			return draft.Config{}, nil, err
		}
		e.addDefaults(values)
	}
	return e.config, e.notes, nil
}

// selectExported returns the names of the services with one of the tags, and of those that they depend on; without tags all.
func selectExported(p *project.Project, tags []string) ([]string, error) {
	var names, known []string
	for _, svc := range p.Services {
		known = append(known, svc.Tags...)
		if len(tags) == 0 || slices.ContainsFunc(tags, func(tag string) bool { return slices.Contains(svc.Tags, tag) }) {
			names = append(names, svc.Name)
		}
	}
	for _, tag := range tags {
		if !slices.Contains(known, tag) {
			return nil, unknownNameError("tag", tag, known)
		}
	}
	for i := 0; i < len(names); i++ {
		svc, _ := p.FindService(names[i])
		for _, dependency := range svc.DependsOn {
			if !slices.Contains(names, dependency) {
				names = append(names, dependency)
			}
		}
	}
	return names, nil
}

// exporter builds the config that is exported.
type exporter struct {
	services []string // the names of those that are exported
	config   draft.Config
	notes    []string
}

func (e *exporter) addTopLevel(entry project.WrittenEntry) {
	inner, _ := entry.Value.([]project.WrittenEntry)
	switch entry.Key {
	case "defaults":
		e.config.Defaults = e.entries("defaults", "defaults", inner)
	case "services":
		for _, service := range inner {
			if keys, ok := service.Value.([]project.WrittenEntry); ok && slices.Contains(e.services, service.Key) {
				e.config.Services = append(e.config.Services, draft.Service{
					Name: service.Key, Entries: e.entries("services."+service.Key, service.Key, keys),
				})
			}
		}
	case "env":
		for _, variable := range inner {
			e.addVariable(variable)
		}
	default:
		e.config.Settings = append(e.config.Settings, e.entry("", "", entry))
	}
}

// addVariable adds an entry of [env], unless it refers to a service that is not exported.
func (e *exporter) addVariable(variable project.WrittenEntry) {
	text, _ := variable.Value.(string)
	for _, service := range project.ReferencedServices(text) {
		if !slices.Contains(e.services, service) {
			e.notes = append(e.notes, fmt.Sprintf("env.%s is left out: it refers to service %q, which is not exported", variable.Key, service))
			return
		}
	}
	e.config.Env = append(e.config.Env, e.entry("env", "secret", variable))
}

// entries converts the keys of a table. owner is the beginning of the names of variables for its secrets.
func (e *exporter) entries(path, owner string, written []project.WrittenEntry) []draft.Entry {
	entries := []draft.Entry{}
	for _, entry := range written {
		entries = append(entries, e.entry(path, owner, entry))
	}
	return entries
}

func (e *exporter) entry(path, owner string, written project.WrittenEntry) draft.Entry {
	path = strings.TrimPrefix(path+"."+written.Key, ".")
	entry := draft.Entry{Key: written.Key}
	switch value := written.Value.(type) {
	case string:
		entry.Value = draft.Template(value)
		switch {
		case written.URLPassword != "":
			entry.Value = draft.Template(strings.ReplaceAll(value, ":"+written.URLPassword+"@", ":"+string(e.reference(path, written.Key, "password"))+"@"))
		case written.HoldsSecret:
			entry.Value = e.reference(path, owner, written.Key)
		}
	case []string:
		entry.Value = templates(value)
	case []int64:
		numbers := make([]int, len(value))
		for i, number := range value {
			numbers[i] = int(number)
		}
		entry.Value = numbers
	case []project.WrittenEntry:
		entry.Value = draft.Table(e.entries(path, owner, value))
	case int64:
		entry.Value = int(value)
	default:
		entry.Value = value
	}
	return entry
}

func templates(texts []string) []draft.Template {
	list := make([]draft.Template, len(texts))
	for i, text := range texts {
		list[i] = draft.Template(text)
	}
	return list
}

// reference returns what is written instead of a secret.
func (e *exporter) reference(path, owner, key string) draft.Template {
	name := draft.SecretVariable(owner, key)
	e.notes = append(e.notes, fmt.Sprintf("%s holds a secret, which is written as ${%s}: put that into %s", path, name, project.EnvName))
	return draft.Template("${" + name + "}")
}

// addDefaults adds the keys of each service that the files do not give.
func (e *exporter) addDefaults(values []project.ResolvedValue) {
	for _, value := range values {
		at := slices.IndexFunc(e.config.Services, func(s draft.Service) bool { return s.Name == value.Service })
		if at < 0 || value.Origin.Path != "" {
			continue
		}
		entries := &e.config.Services[at].Entries
		entries.Put(strings.Split(value.Key, "."), draftValue(value.Value))
	}
}
