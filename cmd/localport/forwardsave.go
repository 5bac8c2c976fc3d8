package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/draft"
	"github.com/localport-sh/localport/project/edit"
)

// save writes the services into the project's config, or into a new one in the current directory. It changes nothing else in the file, and allows
// nothing. A service whose target the project has already is left out, unless it has a name of its own.
func (f *forward) save() error {
	p, err := f.projectToEdit()
	if err != nil {
		return err
	}
	change, err := newConfigChange(p)
	if err != nil {
		return err
	}
	services := f.servicesToSave(change)
	if len(services) == 0 {
		return nil
	}
	if err := f.checkSavedPorts(change, services); err != nil {
		return err
	}
	if err := change.addServices(change.setConfig, services); err != nil {
		return err
	}
	if err := change.check(); err != nil {
		return err
	}
	if err := change.writeFiles(); err != nil {
		return err
	}
	var names []string
	for _, svc := range services {
		names = append(names, svc.Name)
	}
	output.Info(f.err, "wrote %s to %s; to use it in each shell there, run \"localport allow\"", strings.Join(names, ", "), p.Config)
	for _, secret := range f.pasted.Secrets {
		output.Info(f.err, "the password is not in it: put %s=… into %s", secret.Name, filepath.Join(p.Root, project.EnvName))
	}
	return nil
}

// servicesToSave returns the services that the project does not have, and says so of the others.
func (f *forward) servicesToSave(change *configChange) (services []draft.Service) {
	existing := change.servicesOf(change.before)
	for _, svc := range f.pasted.Services {
		own, _ := f.parsed.FindService(svc.Name)
		other, isFound := findSameTarget(existing, own)
		isNamed := len(f.pasted.WrittenNames) > 0
		switch {
		case isFound && other.LocalPort == own.LocalPort && other.LocalAddress == own.LocalAddress && (!isNamed || other.Name == own.Name):
			output.Info(f.err, "already in %s as %q", displayPath(change.project.Config), other.Name)
			continue
		case isFound && !isNamed:
			output.Info(f.err, "not saved: %s; to save it under a second name, add --name NAME", describeSameTarget(other))
			continue
		case isFound:
			output.Info(f.err, "%s", describeSameTarget(other))
		}
		services = append(services, svc)
	}
	return services
}

// checkSavedPorts returns an error for a local port that another service of the project names.
func (f *forward) checkSavedPorts(change *configChange, services []draft.Service) error {
	for _, svc := range services {
		for _, port := range change.before.LocalPorts() {
			if own, _ := f.parsed.FindService(svc.Name); svc.Entries.Get("local_port") == port.Port && port.Service != svc.Name && !own.Reverse {
				return output.WithHint(fmt.Errorf("not saved: local port %d is that of service %q in %s", port.Port, port.Service, output.EscapeLine(change.project.Config)), otherPortHint(own))
			}
		}
	}
	return nil
}

// addServices adds services to the config, by setConfig, or to the local override, by setLocal. A new config begins with the line for editors.
func (c *configChange) addServices(setText func(func([]byte) ([]byte, error)) error, services []draft.Service) error {
	if c.before.Config == nil {
		if err := setText(func([]byte) ([]byte, error) { return []byte(draft.SchemaLine + "\n"), nil }); err != nil {
			return err
		}
	}
	for _, svc := range services {
		if err := setText(func(text []byte) ([]byte, error) { return edit.AddService(text, svc.Name, svc.Text()) }); err != nil {
			return err
		}
	}
	return nil
}
