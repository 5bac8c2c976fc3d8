// Package project finds, reads and validates projects: the directory tree with a .localport.toml at its root, and the services
// that this file declares.
package project

import (
	"net/netip"
	"time"
)

// The names of the three files that make a project.
const (
	ConfigName = ".localport.toml"
	LocalName  = ".localport.local.toml"
	EnvName    = ".env"
)

// Project is a valid configuration, with defaults merged and every ${…} of the services resolved.
type Project struct {
	Root   string // physical path; the project's identity
	Path   string // the config file
	Linger time.Duration
	// KeepConnections: after Linger, established connections stay open until they end.
	KeepConnections bool
	// MetricsPort is the port of 127.0.0.1 on which the supervisor serves its metrics; 0: none.
	MetricsPort int
	Services    []Service         // in the order of the file
	Env         []EnvEntry        // [env], in the order of the file, unresolved
	DotEnv      map[string]string // .env as read; every value is a secret
	Secrets     []string          // every value that must never be shown
	Mentioned   []string          `json:"-"` // names of the variables in ${…} outside [env], in alphabetical order
	Warnings    []Diagnostic
	Advice      []Diagnostic // warnings about what may be intended: only "config validate" shows them
}

// Service is one entry of the file: something reachable on a local port.
type Service struct {
	Name           string
	Technology     string
	LocalPort      int // 1-65535
	AutoPort       bool
	LocalAddress   netip.Addr // zero: 127.0.0.1 and ::1
	Bridge         string     `json:",omitempty"` // where containers can connect too: BridgeAuto, or a bridge's name or address; empty: nowhere
	RemotePort     string     // a number, or a port's name; empty where the technology has none
	Tags           []string
	Description    string
	Enabled        bool
	Optional       bool     // commands that do not name it do not wait for it
	DependsOn      []string // services that are started before it, and stopped after it
	Connection     Connection
	Reverse        bool // the remote side listens and forwards to the local port
	OnDemand       bool
	IdleTimeout    time.Duration
	ConnectTimeout time.Duration
	MaxConnections int `json:",omitempty"` // clients that are served at once; 0: no limit
	HealthCheck    HealthCheck
	RestartPolicy  RestartPolicy
	TargetSecrets  []string // what MaskTarget masks
}

// Connection is the remote side of a service.
type Connection struct {
	Settings Settings // the keys of the technology, including those outside the table connection
}

// HealthCheck is how the service is probed.
type HealthCheck struct {
	Type             string   // "none", or one of Options.Checks
	Settings         Settings // the keys of its type
	Interval         time.Duration
	Timeout          time.Duration
	FailureThreshold int
	SuccessThreshold int
}

// RestartPolicy is how an ended tunnel is replaced.
type RestartPolicy struct {
	Enabled           bool
	InitialDelay      time.Duration
	BackoffMultiplier float64
	MaxDelay          time.Duration
	MaxAttempts       int // in a row; 0: unlimited
}

// EnvEntry is one line of [env], as written.
type EnvEntry struct {
	Name     string
	Template string // with ${…} unresolved
	Path     string // of the file that holds it
	Line     int
	Col      int
	// Advice says what the value may be intended to mean; it has no secret.
	Advice []string `json:",omitempty"`
}
