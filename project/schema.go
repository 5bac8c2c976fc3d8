package project

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// field is a key that a service may have, and its reader. The tables below define all keys.
type field struct {
	name        string
	types       []string // the technologies that have it or, in health_check, the types of check; nil: all
	required    bool     // in every service of these types
	alternative string   // the key in the same table that may be given instead
	conflicts   []string // the keys in the same table that cannot be used with it
	perService  bool     // not allowed in [defaults]
	fields      []field  // it is a table, of these
	read        reader   // it is a value
	example     string   // ends the message that it is missing
}

// reader stores the value of a node in a service. Its error says what is wrong with the value.
type reader func(*Service, *node) error

var topLevelKeys = []string{"version", "linger", "metrics_port", "defaults", "services", "env"}

const (
	technologyKey          = "technology"
	connectionKey          = "connection"
	remotePortKey          = "remote_port"
	serviceKeysPlaceholder = "" // stands for the keys of technologies that are not in connection
)

// serviceFields are the keys of a service. Those that depend on the technologies are filled in by schema.
var serviceFields = []field{
	{name: technologyKey, required: true},
	{name: "local_port", required: true, perService: true, read: readLocalPort},
	{name: "local_address", read: readLocalAddress},
	{name: remotePortKey, required: true, perService: true},
	{name: "tags", read: listReader(func(s *Service) *[]string { return &s.Tags })},
	{name: "description", perService: true, read: textReader(func(s *Service) *string { return &s.Description })},
	{name: "enabled", read: boolReader(func(s *Service) *bool { return &s.Enabled })},
	{name: "depends_on", perService: true, read: listReader(func(s *Service) *[]string { return &s.DependsOn })},
	{name: serviceKeysPlaceholder, perService: true},
	{name: "start", read: readStart},
	{name: "idle_timeout", read: durationReader(func(s *Service) *time.Duration { return &s.IdleTimeout })},
	{name: "connect_timeout", read: durationReader(func(s *Service) *time.Duration { return &s.ConnectTimeout })},
	{name: connectionKey},
	{name: healthCheckKey, fields: healthCheckFields},
	{name: "restart_policy", fields: restartPolicyFields},
}

var healthCheckFields = []field{
	{name: "interval", read: durationReader(func(s *Service) *time.Duration { return &s.HealthCheck.Interval })},
	{name: "timeout", read: durationReader(func(s *Service) *time.Duration { return &s.HealthCheck.Timeout })},
	{name: "failure_threshold", read: countReader(1, func(s *Service) *int { return &s.HealthCheck.FailureThreshold })},
	{name: "success_threshold", read: countReader(1, func(s *Service) *int { return &s.HealthCheck.SuccessThreshold })},
}

var restartPolicyFields = []field{
	{name: "enabled", read: boolReader(func(s *Service) *bool { return &s.RestartPolicy.Enabled })},
	{name: "initial_delay", read: durationReader(func(s *Service) *time.Duration { return &s.RestartPolicy.InitialDelay })},
	{name: "backoff_multiplier", read: readMultiplier},
	{name: "max_delay", read: durationReader(func(s *Service) *time.Duration { return &s.RestartPolicy.MaxDelay })},
	{name: "max_attempts", read: countReader(0, func(s *Service) *int { return &s.RestartPolicy.MaxAttempts })},
}

// buildSchema returns the keys of a service, including those of the technologies and health checks in the options.
func buildSchema(o Options) []field {
	var known []string
	for _, technology := range o.Technologies {
		known = append(known, technology.Name)
	}
	var fields []field
	for _, f := range serviceFields {
		switch f.name {
		case technologyKey:
			f.read = choiceReader(func(s *Service) *string { return &s.Technology }, known)
			f.example = ": must be " + joinAlternatives(known)
		case remotePortKey:
			fields = append(fields, remotePortFields(f, o.Technologies)...)
			continue
		case serviceKeysPlaceholder:
			fields = append(fields, technologyFields(o.Technologies, serviceKeys)...)
			continue
		case connectionKey:
			f.fields = technologyFields(o.Technologies, connectionKeys)
		case healthCheckKey:
			f.fields = append(slices.Clone(f.fields), healthCheckTypeFields(o.Checks)...)
		}
		fields = append(fields, f)
	}
	return fields
}

// remotePortFields are remote_port, for each technology that has one.
func remotePortFields(f field, technologies []TechnologyType) (fields []field) {
	var naming []string
	for _, technology := range technologies {
		if technology.SupportsPortNames {
			naming = append(naming, technology.Name)
		}
	}
	f.read = remotePortReader(naming)
	for _, technology := range technologies {
		if !technology.HasRemotePort {
			continue
		}
		f.types, f.alternative = []string{technology.Name}, ""
		if technology.RemotePortAlternative != "" {
			f.alternative = connectionKey + "." + technology.RemotePortAlternative
		}
		fields = append(fields, f)
	}
	return fields
}

func technologyFields(technologies []TechnologyType, of func(TechnologyType) []Key) (fields []field) {
	for _, technology := range technologies {
		for _, key := range of(technology) {
			fields = append(fields, key.field(technology.Name, connectionSettings))
		}
	}
	return fields
}

// serviceKeys returns the keys of a technology that are in the service's table, not in connection.
func serviceKeys(technology TechnologyType) (keys []Key) {
	for _, key := range technology.Keys {
		if key.BesideConnection {
			keys = append(keys, key)
		}
	}
	return keys
}

// connectionKeys returns the keys of a technology that are in connection.
func connectionKeys(technology TechnologyType) (keys []Key) {
	for _, key := range technology.Keys {
		if !key.BesideConnection {
			keys = append(keys, key)
		}
	}
	return keys
}

// healthCheckTypeFields returns the keys that depend on the type of health check, and the type itself.
func healthCheckTypeFields(checks []CheckType) []field {
	names := []string{CheckNone}
	for _, check := range checks {
		names = append(names, check.Name)
	}
	if !slices.Contains(names, CheckTCP) {
		names = append(names, CheckTCP)
	}
	slices.Sort(names)
	fields := []field{{name: "type", read: choiceReader(func(s *Service) *string { return &s.HealthCheck.Type }, names)}}
	for _, check := range checks {
		for _, key := range check.Keys {
			fields = append(fields, key.field(check.Name, healthCheckSettings))
		}
	}
	return fields
}

// field is the key of one type.
func (k Key) field(of string, settings func(*Service) *Settings) field {
	return field{
		name: k.Name, types: []string{of}, required: k.Required, alternative: k.Alternative, conflicts: k.Conflicts, perService: k.BesideConnection, example: k.Example,
		read: k.reader(settings),
	}
}

// appliesTo reports whether a technology has the field; an unknown technology ("") has every field.
func (f field) appliesTo(technology string) bool {
	return f.types == nil || technology == "" || slices.Contains(f.types, technology)
}

// findField returns the field of this name that the technology has, else one of another technology.
func findField(fields []field, name, technology string) (field, bool) {
	var found field
	for _, f := range fields {
		if f.name != name {
			continue
		}
		if f.appliesTo(technology) {
			return f, true
		}
		found.name, found.types = name, append(found.types, f.types...)
	}
	return found, found.name != ""
}

// anyReader returns a reader that accepts what any field of this name accepts: which of them a service has depends on its type, and two types may
// have a key in common and mean different things by it.
func anyReader(fields []field, name string) reader {
	return func(s *Service, n *node) (first error) {
		for _, f := range fields {
			if f.name != name {
				continue
			}
			err := f.read(s, n)
			if err == nil {
				return nil
			}
			if first == nil {
				first = err
			}
		}
		return first
	}
}

// suggestKey returns the end of a message about an unknown key: the key that was probably meant, if any.
func suggestKey(name string, fields []field, technology string) string {
	var names []string
	for _, f := range fields {
		if f.appliesTo(technology) {
			names = append(names, f.name)
		}
	}
	for _, f := range fields {
		if sub, ok := findField(f.fields, name, technology); ok && sub.appliesTo(technology) {
			return didYouMean(f.name + "." + name)
		}
	}
	if nearest := NearestName(name, names); nearest != "" {
		return didYouMean(nearest)
	}
	return ""
}

// listKnownKeys returns the end of a message about an unknown key that resembles none: all keys of the table.
func listKnownKeys(fields []field, technology string) string {
	var names []string
	for _, f := range fields {
		if f.appliesTo(technology) && !slices.Contains(names, f.name) {
			names = append(names, f.name)
		}
	}
	return "; known keys: " + strings.Join(names, ", ")
}

func didYouMean(name string) string { return fmt.Sprintf("; did you mean %q?", name) }

// joinAlternatives joins words for a message: a, b or c.
func joinAlternatives(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}
