package project

import (
	"slices"
	"strconv"
	"strings"
)

// keyValue is the value that a service has for a key, by the key's path in the service's table.
type keyValue struct {
	path  []string
	value any
}

func joinPath(path []string) string { return strings.Join(path, ".") }

// valuesOf returns the values of all keys that a service has, in the order in which people write them. It is the inverse of reading a service.
func (o Options) valuesOf(s Service) []keyValue {
	values := o.ownValues(s)
	values = append(values, o.technologyValues(s, false)...)
	return append(values, o.policyValues(s)...)
}

// ownValues are the values in the service's own table.
func (o Options) ownValues(s Service) []keyValue {
	var values []keyValue
	add := func(isPresent bool, key string, value any) {
		if isPresent {
			values = append(values, keyValue{[]string{key}, value})
		}
	}
	add(true, technologyKey, s.Technology)
	add(s.Description != "", "description", s.Description)
	add(true, "local_port", s.LocalPort)
	if s.LocalAddress.IsValid() {
		add(true, "local_address", s.LocalAddress.String())
	}
	add(s.Bridge != "", bridgeKey, s.Bridge)
	if number, err := strconv.Atoi(s.RemotePort); err == nil {
		add(true, "remote_port", number)
	} else {
		add(s.RemotePort != "", "remote_port", s.RemotePort)
	}
	values = append(values, o.technologyValues(s, true)...)
	add(len(s.Tags) > 0, "tags", s.Tags)
	add(true, "enabled", s.Enabled)
	add(true, "optional", s.Optional)
	add(len(s.DependsOn) > 0, "depends_on", s.DependsOn)
	add(true, "start", map[bool]string{true: startOnDemand, false: startAlways}[s.OnDemand])
	add(s.OnDemand, "idle_timeout", s.IdleTimeout)
	add(true, "connect_timeout", s.ConnectTimeout)
	add(s.MaxConnections > 0, maxConnectionsKey, s.MaxConnections)
	return values
}

// technologyValues are the values of the keys of the service's technology: those in its own table if isOutside is set, else those in connection.
func (o Options) technologyValues(s Service, isOutside bool) []keyValue {
	var prefix []string
	if !isOutside {
		prefix = []string{connectionKey}
	}
	for _, technology := range o.Technologies {
		if technology.Name == s.Technology {
			isWanted := func(key Key) bool { return key.OutsideConnection == isOutside }
			return settingValues(prefix, technology.Keys, s.Connection.Settings, isWanted)
		}
	}
	return nil
}

func settingValues(prefix []string, keys []Key, settings Settings, isWanted func(Key) bool) (values []keyValue) {
	for _, key := range keys {
		if value, ok := settings[key.Name]; ok && isWanted(key) {
			values = append(values, keyValue{append(slices.Clip(prefix), key.Name), value})
		}
	}
	return values
}

// policyValues are the values of the health check and the restart policy.
func (o Options) policyValues(s Service) []keyValue {
	check, policy := s.HealthCheck, s.RestartPolicy
	values := []keyValue{{[]string{healthCheckKey, "type"}, check.Type}}
	for _, known := range o.Checks {
		if known.Name == check.Type {
			values = append(values, settingValues([]string{healthCheckKey}, known.Keys, check.Settings, func(Key) bool { return true })...)
		}
	}
	return append(values,
		keyValue{[]string{healthCheckKey, "interval"}, check.Interval},
		keyValue{[]string{healthCheckKey, "timeout"}, check.Timeout},
		keyValue{[]string{healthCheckKey, "failure_threshold"}, check.FailureThreshold},
		keyValue{[]string{healthCheckKey, "success_threshold"}, check.SuccessThreshold},
		keyValue{[]string{"restart_policy", "enabled"}, policy.Enabled},
		keyValue{[]string{"restart_policy", "initial_delay"}, policy.InitialDelay},
		keyValue{[]string{"restart_policy", "backoff_multiplier"}, policy.BackoffMultiplier},
		keyValue{[]string{"restart_policy", "max_delay"}, policy.MaxDelay},
		keyValue{[]string{"restart_policy", "max_attempts"}, policy.MaxAttempts},
	)
}
