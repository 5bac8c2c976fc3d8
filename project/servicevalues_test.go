package project

import (
	"net/netip"
	"testing"
)

// A key that is added must be shown and exported too.
func TestValuesOf_HasEveryKeyOfAService(t *testing.T) {
	o := builtInOptions()
	for _, technology := range BuiltIn {
		for _, check := range BuiltInChecks {
			s := newService("x")
			s.Technology, s.HealthCheck.Type = technology.Name, check.Name
			s.LocalAddress, s.Bridge, s.RemotePort, s.Description = netip.MustParseAddr("127.0.0.2"), "auto", "http", "x"
			s.Tags, s.DependsOn, s.OnDemand, s.MaxConnections = []string{"x"}, []string{"y"}, true, 1
			for _, key := range technology.Keys {
				s.Connection.Settings.set(key.Name, "x")
			}
			for _, key := range check.Keys {
				s.HealthCheck.Settings.set(key.Name, "x")
			}
			has := map[string]bool{}
			for _, value := range o.valuesOf(s) {
				has[joinPath(value.path)] = true
			}
			for _, f := range o.serviceFields(&s) {
				if !f.appliesTo(technology.Name) && f.name != "remote_port" {
					continue
				}
				if f.fields == nil && !has[f.name] {
					t.Errorf("%s: %s is missing", technology.Name, f.name)
				}
				for _, inner := range f.fields {
					kind := technology.Name
					if f.name == healthCheckKey {
						kind = check.Name
					}
					if inner.appliesTo(kind) && !has[f.name+"."+inner.name] {
						t.Errorf("%s: %s.%s is missing", kind, f.name, inner.name)
					}
				}
			}
		}
	}
}
