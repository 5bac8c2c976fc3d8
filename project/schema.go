package project

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// field is a key that a service may have, and how it is read. The table below is all there is to know about keys.
type field struct {
	name     string
	only     []string // what it is for: technologies, or in health_check types of check; nil: all
	required bool     // of every service that it is for
	or       string   // the key beside it that may be there instead of a required one
	excludes []string // the keys beside it that make no sense with it
	own      bool     // each service's own: it makes no sense in [defaults]
	fields   []field  // it is a table, of these
	read     reader   // it is a value
	example  string   // ends the message that it is missing
}

// reader puts the value of a node into a service. Its error says what is wrong with the value.
type reader func(*Service, *node) error

var topKeys = []string{"version", "linger", "metrics_port", "defaults", "services", "env"}

const (
	technologyKey = "technology"
	connectionKey = "connection"
	remotePortKey = "remote_port"
	topKey        = "" // stands for the keys of technologies that are not in connection
)

// serviceFields are the keys of a service. Those that depend on the technologies are filled in by schema.
var serviceFields = []field{
	{name: technologyKey, required: true},
	{name: "local_port", required: true, own: true, read: readLocalPort},
	{name: "local_address", read: readLocalAddress},
	{name: remotePortKey, required: true, own: true},
	{name: "tags", read: list(func(s *Service) *[]string { return &s.Tags })},
	{name: "description", own: true, read: text(func(s *Service) *string { return &s.Description })},
	{name: "enabled", read: boolean(func(s *Service) *bool { return &s.Enabled })},
	{name: "depends_on", own: true, read: list(func(s *Service) *[]string { return &s.DependsOn })},
	{name: topKey, own: true},
	{name: "start", read: readStart},
	{name: "idle_timeout", read: duration(func(s *Service) *time.Duration { return &s.IdleTimeout })},
	{name: "connect_timeout", read: duration(func(s *Service) *time.Duration { return &s.ConnectTimeout })},
	{name: connectionKey},
	{name: healthCheckKey, fields: healthCheckFields},
	{name: "restart_policy", fields: restartPolicyFields},
}

var healthCheckFields = []field{
	{name: "interval", read: duration(func(s *Service) *time.Duration { return &s.HealthCheck.Interval })},
	{name: "timeout", read: duration(func(s *Service) *time.Duration { return &s.HealthCheck.Timeout })},
	{name: "failure_threshold", read: count(1, func(s *Service) *int { return &s.HealthCheck.FailureThreshold })},
	{name: "success_threshold", read: count(1, func(s *Service) *int { return &s.HealthCheck.SuccessThreshold })},
}

var restartPolicyFields = []field{
	{name: "enabled", read: boolean(func(s *Service) *bool { return &s.RestartPolicy.Enabled })},
	{name: "initial_delay", read: duration(func(s *Service) *time.Duration { return &s.RestartPolicy.InitialDelay })},
	{name: "backoff_multiplier", read: readMultiplier},
	{name: "max_delay", read: duration(func(s *Service) *time.Duration { return &s.RestartPolicy.MaxDelay })},
	{name: "max_attempts", read: count(0, func(s *Service) *int { return &s.RestartPolicy.MaxAttempts })},
}

// schema is the keys of a service, with those of the types that the options bring.
func schema(o Options) []field {
	var known []string
	for _, technology := range o.Technologies {
		known = append(known, technology.Name)
	}
	var fields []field
	for _, f := range serviceFields {
		switch f.name {
		case technologyKey:
			f.read = choice(func(s *Service) *string { return &s.Technology }, known)
			f.example = ": must be " + oneOf(known)
		case remotePortKey:
			fields = append(fields, portFields(f, o.Technologies)...)
			continue
		case topKey:
			fields = append(fields, technologyFields(o.Technologies, topKeysOf)...)
			continue
		case connectionKey:
			f.fields = technologyFields(o.Technologies, connectionKeys)
		case healthCheckKey:
			f.fields = append(slices.Clone(f.fields), checkFields(o.Checks)...)
		}
		fields = append(fields, f)
	}
	return fields
}

// portFields are remote_port, for each technology that has one.
func portFields(f field, technologies []TechnologyType) (fields []field) {
	var naming []string
	for _, technology := range technologies {
		if technology.NamedPorts {
			naming = append(naming, technology.Name)
		}
	}
	f.read = readRemotePort(naming)
	for _, technology := range technologies {
		if !technology.Port {
			continue
		}
		f.only, f.or = []string{technology.Name}, ""
		if technology.PortOr != "" {
			f.or = connectionKey + "." + technology.PortOr
		}
		fields = append(fields, f)
	}
	return fields
}

func technologyFields(technologies []TechnologyType, of func(TechnologyType) []Key) (fields []field) {
	for _, technology := range technologies {
		for _, key := range of(technology) {
			fields = append(fields, key.field(technology.Name, ofConnection))
		}
	}
	return fields
}

// topKeysOf are the keys of a technology that stand beside connection.
func topKeysOf(technology TechnologyType) (keys []Key) {
	for _, key := range technology.Keys {
		if key.Top {
			keys = append(keys, key)
		}
	}
	return keys
}

// connectionKeys are the keys of a technology that stand in connection.
func connectionKeys(technology TechnologyType) (keys []Key) {
	for _, key := range technology.Keys {
		if !key.Top {
			keys = append(keys, key)
		}
	}
	return keys
}

// checkFields are the keys that only some types of health check have, and the type itself.
func checkFields(checks []CheckType) []field {
	names := []string{CheckNone}
	for _, check := range checks {
		names = append(names, check.Name)
	}
	if !slices.Contains(names, CheckTCP) {
		names = append(names, CheckTCP)
	}
	slices.Sort(names)
	fields := []field{{name: "type", read: choice(func(s *Service) *string { return &s.HealthCheck.Type }, names)}}
	for _, check := range checks {
		for _, key := range check.Keys {
			fields = append(fields, key.field(check.Name, ofCheck))
		}
	}
	return fields
}

// field is the key of one type.
func (k Key) field(of string, settings func(*Service) *Settings) field {
	return field{
		name: k.Name, only: []string{of}, required: k.Required, or: k.Or, excludes: k.Excludes, own: k.Top, example: k.Example,
		read: k.into(settings),
	}
}

// suits reports whether the field is for a technology; every field is for an unknown one.
func (f field) suits(technology string) bool {
	return f.only == nil || technology == "" || slices.Contains(f.only, technology)
}

// find is the field called name that suits the technology; failing that, one for another technology.
func find(fields []field, name, technology string) (field, bool) {
	var found field
	for _, f := range fields {
		if f.name != name {
			continue
		}
		if f.suits(technology) {
			return f, true
		}
		found.name, found.only = name, append(found.only, f.only...)
	}
	return found, found.name != ""
}

// readAny reads what any field of this name would: which of them a service has depends on its type, and two types may
// have a key in common and mean different things by it.
func readAny(fields []field, name string) reader {
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

// suggestion is the end of a message about an unknown key: what was probably meant, if anything.
func suggestion(name string, fields []field, technology string) string {
	var names []string
	for _, f := range fields {
		if f.suits(technology) {
			names = append(names, f.name)
		}
	}
	for _, f := range fields {
		if sub, ok := find(f.fields, name, technology); ok && sub.suits(technology) {
			return didYouMean(f.name + "." + name)
		}
	}
	if near := Nearest(name, names); near != "" {
		return didYouMean(near)
	}
	return ""
}

// knownKeys is the end of a message about an unknown key that resembles none: all keys that the table may have.
func knownKeys(fields []field, technology string) string {
	var names []string
	for _, f := range fields {
		if f.suits(technology) && !slices.Contains(names, f.name) {
			names = append(names, f.name)
		}
	}
	return "; known keys: " + strings.Join(names, ", ")
}

func didYouMean(name string) string { return fmt.Sprintf("; did you mean %q?", name) }

// oneOf lists words for a message: a, b or c.
func oneOf(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}
