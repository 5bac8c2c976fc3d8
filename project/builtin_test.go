package project

import (
	"encoding/json"
	"reflect"
	"slices"
)

// BuiltIn are the technologies that localport comes with.
var BuiltIn []TechnologyType

// shownConnection is the form in which testdata shows the settings of a built-in technology.
type shownConnection struct {
	ResourceType  string `key:"resource_type"`
	ResourceName  string `key:"resource_name"`
	Selector      string `key:"selector"`
	Engine        string `key:"engine"`
	Namespace     string `key:"namespace"`
	Context       string `key:"context"`
	Kubeconfig    string `key:"kubeconfig"`
	ClusterHealth bool
	Host          string            `key:"host"`
	User          string            `key:"user"`
	Port          int               `key:"port"`
	KeyFile       string            `key:"key_file"`
	ConfigFile    string            `key:"config_file"`
	Jump          string            `key:"jump"`
	Options       map[string]string `key:"options"`
	SOCKS         bool              `key:"socks"`
	Reverse       bool
	Alone         bool
	RemoteHost    string `key:"remote_host"`
	Settings      Settings
}

// shownProgram is the form in which testdata shows the settings of a service's own table.
type shownProgram struct {
	Command    []string `key:"command"`
	Ready      string   `key:"ready"`
	NeedsLogin string   `key:"needs_login"`
	Login      []string `key:"login"`
}

// setFields stores the settings that have a field in *into, and returns their number.
func setFields(settings Settings, target any) (used int) {
	v := reflect.ValueOf(target).Elem()
	for i := range v.NumField() {
		if value, given := settings[v.Type().Field(i).Tag.Get("key")]; given {
			v.Field(i).Set(reflect.ValueOf(value))
			used++
		}
	}
	return used
}

// MarshalJSON returns the form of a service in testdata.
func (s Service) MarshalJSON() ([]byte, error) {
	settings := s.Connection.Settings
	connection := shownConnection{ClusterHealth: settings["cluster_health"] != false, Reverse: s.Reverse, Alone: settings["multiplex"] == false}
	var program shownProgram
	if slices.ContainsFunc(BuiltIn, func(t TechnologyType) bool { return t.Name == s.Technology }) {
		used := setFields(settings, &connection) + setFields(settings, &program)
		for _, other := range []string{"cluster_health", "multiplex", "reverse"} {
			if _, given := settings[other]; given {
				used++
			}
		}
		if used != len(settings) { // none is forgotten here
			connection.Settings = settings
		}
	} else {
		connection.Settings = settings
	}
	type before struct {
		Name, Technology string
		LocalPort        int
		AutoPort         bool
		LocalAddress     any
		RemotePort       string
		Tags             []string
		Description      string
		Enabled          bool
		Optional         bool `json:",omitempty"`
		DependsOn        []string
		Connection       shownConnection
	}
	type after struct {
		OnDemand                    bool
		IdleTimeout, ConnectTimeout any
		HealthCheck                 HealthCheck
		RestartPolicy               RestartPolicy
	}
	return json.Marshal(struct {
		before
		shownProgram
		after
	}{
		before{
			s.Name, s.Technology, s.LocalPort, s.AutoPort, s.LocalAddress, s.RemotePort, s.Tags, s.Description, s.Enabled, s.Optional, s.DependsOn, connection,
		},
		program,
		after{s.OnDemand, s.IdleTimeout, s.ConnectTimeout, s.HealthCheck, s.RestartPolicy},
	})
}

// MarshalJSON returns the form of a project in testdata.
func (p Project) MarshalJSON() ([]byte, error) {
	type plain Project
	return json.Marshal(struct {
		plain
		KeepConnections bool `json:",omitempty"`
	}{plain(p), p.KeepConnections})
}
