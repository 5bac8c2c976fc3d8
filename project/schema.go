package project

import "slices"

// field is a key of a table in a config, and the reader of its value.
type field struct {
	name        string
	types       []string  // the technologies that have it or, in health_check, the types of check; nil: all
	required    bool      // in every service of these types
	alternative string    // the key in the same table that may be given instead
	conflicts   []string  // the keys in the same table that cannot be used with it
	aliases     []string  // other names that people write: the message about them suggests this one
	perService  bool      // not allowed in [defaults]
	fields      []field   // the keys of a table
	read        reader    // of a value
	example     string    // ends the message that it is missing
	maskScope   maskScope // where a line is quoted
}

// reader stores the value of a node. Its error says what is wrong with the value.
type reader func(*node) error

// storeIn returns a reader that stores in target what parse returns.
func storeIn[T any](target *T, parse func(*node) (T, error)) reader {
	return func(n *node) (err error) {
		*target, err = parse(n)
		return err
	}
}

// topLevelNames are the keys outside the services.
var topLevelNames = []string{"version", "linger", "metrics_port", "defaults", "services", "env"}

// topLevelFields are the keys outside the services. The tables are read later.
func (p *parser) topLevelFields() []field {
	return []field{
		{name: "version", read: requireVersion},
		{name: "linger", read: readLinger(&p.project.Linger, &p.project.KeepConnections)},
		{name: "metrics_port", read: storeIn(&p.project.MetricsPort, (*node).asPort)},
		{name: "defaults", aliases: []string{"default", "common"}, read: requireTable("a table")},
		{name: "services", aliases: []string{"forwards", "tunnels", "forward", "tunnel"}, read: requireTable("tables such as [services.NAME]")},
		{name: "env", maskScope: maskValue, aliases: []string{"environment", "vars", "variables", "exports"}, read: readEnvTable},
	}
}

const (
	technologyKey     = "technology"
	bridgeKey         = "bridge"
	connectionKey     = "connection"
	maxConnectionsKey = "max_connections"
	healthCheckKey    = "health_check"
)

// serviceFields returns the keys of a service, including those of the technologies and health checks in the options. Their readers store
// into s.
func (o Options) serviceFields(s *Service) []field {
	technologies := o.technologyNames()
	policy, settings := &s.RestartPolicy, &s.Connection.Settings
	return slices.Concat([]field{
		{
			name: technologyKey, required: true, aliases: []string{"type", "protocol"}, example: ": must be " + joinAlternatives(technologies),
			read: storeIn(&s.Technology, o.asTechnology),
		},
		{
			name: "local_port", required: true, perService: true, aliases: []string{"port", "listen", "listen_port", "host_port", "bind_port", "published"}, example: `: must be a port number (1-65535) or "auto"`,
			read: s.readLocalPort,
		},
		{name: "local_address", aliases: []string{"host_ip", "bind", "bind_address", "listen_address", "address"}, read: storeIn(&s.LocalAddress, (*node).asLoopbackAddress)},
		{name: bridgeKey, read: storeIn(&s.Bridge, (*node).asBridge)},
	}, o.remotePortFields(s), []field{
		{name: "tags", aliases: []string{"groups", "group", "labels", "profiles", "tag"}, read: storeIn(&s.Tags, listOf((*node).asString))},
		{name: "description", aliases: []string{"comment", "title"}, perService: true, read: storeIn(&s.Description, (*node).asString)},
		{name: "enabled", aliases: []string{"enable", "active"}, read: storeIn(&s.Enabled, (*node).asBool)},
		{name: "optional", read: storeIn(&s.Optional, (*node).asBool)},
		{name: "depends_on", aliases: []string{"requires", "needs", "after", "links", "depends", "dependencies", "wait_for"}, perService: true, read: storeIn(&s.DependsOn, listOf((*node).asString))},
	}, o.technologyFields(settings, true), []field{
		{name: "start", aliases: []string{"autostart", "lazy", "on_demand"}, read: storeIn(&s.OnDemand, (*node).asOnDemand)},
		{name: "idle_timeout", read: storeIn(&s.IdleTimeout, (*node).asDuration)},
		{name: "connect_timeout", aliases: []string{"timeout"}, read: storeIn(&s.ConnectTimeout, (*node).asDuration)},
		{name: maxConnectionsKey, aliases: []string{"max_conns", "maxconn", "connection_limit", "max_clients"}, read: storeIn(&s.MaxConnections, (*node).asMaxConnections)},
		{name: connectionKey, fields: o.technologyFields(settings, false)},
		{name: healthCheckKey, aliases: []string{"health", "check", "readiness", "liveness", "probe", "readinessProbe", "livenessProbe"}, fields: o.healthCheckFields(&s.HealthCheck)},
		{name: "restart_policy", aliases: []string{"retry", "reconnect"}, fields: []field{
			{name: "enabled", read: storeIn(&policy.Enabled, (*node).asBool)},
			{name: "initial_delay", aliases: []string{"delay", "backoff"}, read: storeIn(&policy.InitialDelay, (*node).asDuration)},
			{name: "backoff_multiplier", read: storeIn(&policy.BackoffMultiplier, (*node).asMultiplier)},
			{name: "max_delay", read: storeIn(&policy.MaxDelay, (*node).asDuration)},
			{name: "max_attempts", aliases: []string{"max_retries", "retries", "maximum_retry_count"}, read: storeIn(&policy.MaxAttempts, (*node).asMaxAttempts)},
		}},
	})
}

func (o Options) technologyNames() (names []string) {
	for _, technology := range o.Technologies {
		names = append(names, technology.Name)
	}
	return names
}

// remotePortFields returns a field remote_port for each technology that has one.
func (o Options) remotePortFields(s *Service) (fields []field) {
	var namingTechnologies []string
	for _, technology := range o.Technologies {
		if technology.SupportsPortNames {
			namingTechnologies = append(namingTechnologies, technology.Name)
		}
	}
	for _, technology := range o.Technologies {
		if !technology.HasRemotePort {
			continue
		}
		f := field{
			name: "remote_port", types: []string{technology.Name}, required: true, perService: true, example: ": the port on the remote side",
			aliases: []string{"target_port", "container_port", "dest_port", "service_port"},
			read:    func(n *node) error { return s.readRemotePort(n, namingTechnologies) },
		}
		if technology.RemotePortAlternative != "" {
			f.alternative = connectionKey + "." + technology.RemotePortAlternative
		}
		fields = append(fields, f)
	}
	return fields
}

// technologyFields returns the keys of all technologies: those in the service's own table if isOutside is set, else those in connection.
func (o Options) technologyFields(settings *Settings, isOutside bool) (fields []field) {
	for _, technology := range o.Technologies {
		for _, key := range technology.Keys {
			if key.OutsideConnection == isOutside {
				fields = append(fields, key.field(technology.Name, settings))
			}
		}
	}
	return fields
}

// healthCheckFields returns the keys of every health check, and those that depend on its type.
func (o Options) healthCheckFields(h *HealthCheck) []field {
	fields := []field{
		{name: "interval", aliases: []string{"period", "every", "periodSeconds", "period_seconds"}, read: storeIn(&h.Interval, (*node).asDuration)},
		{name: "timeout", aliases: []string{"timeoutSeconds", "timeout_seconds"}, read: storeIn(&h.Timeout, (*node).asDuration)},
		{name: "failure_threshold", aliases: []string{"retries", "failures"}, read: storeIn(&h.FailureThreshold, integerAtLeast(1))},
		{name: "success_threshold", read: storeIn(&h.SuccessThreshold, integerAtLeast(1))},
		{name: "type", read: storeIn(&h.Type, o.asCheckType)},
	}
	for _, check := range o.Checks {
		for _, key := range check.Keys {
			fields = append(fields, key.field(check.Name, &h.Settings))
		}
	}
	return fields
}

// checkNames returns the types of health check, sorted.
func (o Options) checkNames() []string {
	names := []string{CheckNone, CheckTCP}
	for _, check := range o.Checks {
		names = append(names, check.Name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// field returns the field for a key of the technology or type of check typeName.
func (k Key) field(typeName string, settings *Settings) field {
	return field{
		name: k.Name, types: []string{typeName}, required: k.Required, alternative: k.Alternative, conflicts: k.Conflicts, aliases: k.Aliases, perService: k.OutsideConnection, example: k.Example, maskScope: k.maskScope(),
		read: func(n *node) error { return k.readInto(settings, n) },
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

// readAny reads n as any field of its name accepts: which of them a service has depends on its type, and two types may
// have a key in common and mean different things by it.
func readAny(fields []field, n *node) (first error) {
	for _, f := range fields {
		if f.name != n.name {
			continue
		}
		err := f.read(n)
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// fieldNames returns the names of the fields that the technology has.
func fieldNames(fields []field, technology string) (names []string) {
	for _, f := range fields {
		if f.appliesTo(technology) && !slices.Contains(names, f.name) {
			names = append(names, f.name)
		}
	}
	return names
}
