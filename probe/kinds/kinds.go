// Package kinds lists every type of health check.
package kinds

import (
	"fmt"

	"github.com/localport-sh/localport/probe"
	"github.com/localport-sh/localport/probe/command"
	"github.com/localport-sh/localport/probe/grpc"
	"github.com/localport-sh/localport/probe/kafka"
	"github.com/localport-sh/localport/probe/mqtt"
	"github.com/localport-sh/localport/probe/mysql"
	"github.com/localport-sh/localport/probe/postgres"
	"github.com/localport-sh/localport/probe/redis"
	"github.com/localport-sh/localport/probe/tcp"
	"github.com/localport-sh/localport/probe/web"
	"github.com/localport-sh/localport/project"
)

// builtin lists the types of health check. A new one is a package and a line here.
var builtin = []probe.Type{
	tcp.Type,
	web.HTTP,
	web.HTTPS,
	postgres.Type,
	redis.Type,
	mysql.Type,
	mqtt.Type,
	grpc.Type,
	command.Type,
	kafka.Type,
}

// New returns the check for a configuration; nil if its type is "none".
func New(c project.HealthCheck) (probe.Check, error) {
	if c.Type == project.CheckNone {
		return nil, nil
	}
	for _, kind := range builtin {
		if kind.Name == c.Type {
			return kind.New(c.Settings)
		}
	}
	return nil, fmt.Errorf("unknown health check type %q", c.Type)
}

// Types returns the types that a config may use.
func Types() []project.CheckType {
	types := make([]project.CheckType, len(builtin))
	for i, kind := range builtin {
		types[i] = kind.CheckType
	}
	return types
}
